"""Errors that name the argument, the value and the fix."""

import difflib
from collections.abc import Hashable, Iterable, Mapping
from typing import TypeVar

Option = TypeVar("Option")
LONGEST_MESSAGE = 4000  # characters
SEEDS = 2**32  # how many there are: what numpy's, JAX's and gensim's generators all take


class InputError(ValueError):
    """Bad input. The message names the argument, the value and the fix; a command prints it alone.

    Values may be of any size, and are cut: the first LONGEST_MESSAGE characters of a message are kept.
    """

    def __init__(self, message: str):
        super().__init__(message if len(message) <= LONGEST_MESSAGE else f"{message[:LONGEST_MESSAGE]}...")


def choose(argument: str, value: str, options: Mapping[str, Option]) -> Option:
    """Returns `options[value]`, or raises an InputError that names the argument, the options and the nearest.

    >>> choose("pooling", "maxx", {"max": 1, "mean": 2})
    Traceback (most recent call last):
    ...
    rnn_jax.errors.InputError: pooling is 'maxx', which is not one of: max, mean. Did you mean 'max'?
    """
    if not isinstance(value, Hashable) or value not in options:
        raise InputError(
            f"{argument} is {value!r}, which is not one of: {', '.join(options)}.{nearest(value, options)}"
        )
    return options[value]


def nearest(name: object, known: Iterable[str]) -> str:
    """Returns " Did you mean 'x'?" for the known name nearest to `name`, or "" where none is near."""
    close = difflib.get_close_matches(str(name), list(known), n=1)
    return f" Did you mean {close[0]!r}?" if close else ""


def require(condition: bool, message: str) -> None:
    """Raises InputError(message) unless the condition holds."""
    if not condition:
        raise InputError(message)


def check_rate(argument: str, rate: float) -> None:
    """Raises InputError unless `rate` is at least 0 and below 1, as a rate of dropout is."""
    require(0 <= rate < 1, f"{argument} is {rate}, but has to be at least 0 and below 1")


def check_sizes(owner: object, *arguments: str) -> None:
    """Raises InputError unless each of these attributes of `owner` is at least 1."""
    for argument in arguments:
        size = getattr(owner, argument)
        require(size > 0, f"{argument} is {size}; give at least 1")


def check_seed(argument: str, seed: int) -> None:
    """Raises InputError unless `seed` is one that every generator takes: from 0 to 2**32 - 1.

    >>> check_seed("seed", -1)
    Traceback (most recent call last):
    ...
    rnn_jax.errors.InputError: seed is -1; give a number from 0 to 2**32 - 1
    """
    require(0 <= seed < SEEDS, f"{argument} is {seed}; give a number from 0 to 2**32 - 1")
