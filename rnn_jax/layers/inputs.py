"""What a layer is given: arrays, lengths and carries, checked and in the form that the loops read."""

import math
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from rnn_jax.errors import InputError, require
from rnn_jax.layers.recurrence import Carry, LSTMCarry

Kept = TypeVar("Kept")
Options = TypeVar("Options")


def as_array(argument: str, value: Any) -> jax.Array:
    """Returns a list, a tuple or another array as JAX's.

    Raises:
      InputError: it is no array of numbers, such as rows of different lengths.

    >>> as_array("x", [[1, 2], [3, 4]]).shape
    (2, 2)
    """
    if isinstance(value, jax.Array):
        return value
    try:
        return jnp.asarray(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(
            f"{argument} is a {type(value).__name__} that is no array of numbers ({error}); pad rows to one "
            "length, and count what is real of each in `lengths`"
        ) from error


def as_token_ids(value: Any) -> jax.Array:
    """Returns token ids as an integer array [B, T]; a list of lists is one too.

    Raises:
      InputError: they are not integers, or not [B, T].
    """
    token_ids = as_array("token_ids", value)
    require(token_ids.ndim == 2, f"token_ids has shape {token_ids.shape}; give [batch, time]")
    if not token_ids.size:  # an empty list has no type of its own
        return token_ids.astype(jnp.int32)
    require(
        jnp.issubdtype(token_ids.dtype, jnp.integer),
        f"token_ids has dtype {token_ids.dtype}; give integers, each the number of a word",
    )
    return token_ids


def row_lengths(lengths: Any, rows: tuple[int, ...], time: int) -> jax.Array:
    """Returns lengths as an integer array of the shape `rows`, each clamped to 0..T. Nothing else clamps.

    Raises:
      InputError: another shape, or no integers.

    >>> row_lengths([5, 2, -1], rows=(3,), time=4).tolist()
    [4, 2, 0]
    """
    given = lengths if isinstance(lengths, jax.Array) else _numpy_lengths(lengths)
    require(
        given.shape == rows,
        f"lengths has shape {given.shape}, but x has rows of shape {rows}; give one length a row",
    )
    require(
        jnp.issubdtype(given.dtype, jnp.integer),
        f"lengths has dtype {given.dtype}; give integers that count the valid steps of each row",
    )
    if not isinstance(given, jax.Array):  # before JAX cuts 64 bits to 32, which would change a large number
        given = np.clip(given.astype(np.int64), 0, np.iinfo(np.int32).max).astype(np.int32)
    array = jnp.asarray(given)
    return jnp.clip(array if array.dtype.itemsize >= 4 else array.astype(jnp.int32), 0, time)


def _numpy_lengths(lengths: Any) -> np.ndarray:
    try:
        array = np.asarray(lengths)
    except (TypeError, ValueError) as error:
        raise InputError(f"lengths is {lengths!r}; give one integer a row") from error
    return array if array.size else array.astype(np.int32)  # an empty list has no type of its own


def fit_carry(given: Carry, zeros: Carry, cell: str) -> Carry:
    """Returns `given` in the structure of `zeros`, the carry of a `cell` of that name.

    Integers and booleans get the type of `zeros`, whose fractions they would cut off. Other types stay.

    Raises:
      InputError: other shapes than those of `zeros`.
    """
    leaves, structure = jax.tree.leaves(given), jax.tree.structure(zeros)
    shapes, expected = ([jnp.shape(leaf) for leaf in jax.tree.leaves(carry)] for carry in (given, zeros))
    require(shapes == expected, f"initial_carry has shapes {shapes}, but {cell} carries {expected}")
    return jax.tree.unflatten(structure, list(map(_fit_type, leaves, jax.tree.leaves(zeros))))


def _fit_type(leaf: Any, zero: jax.Array) -> jax.Array:
    array, wanted = jnp.asarray(leaf), jnp.result_type(zero)
    cuts = jnp.issubdtype(wanted, jnp.inexact) and not jnp.issubdtype(array.dtype, jnp.inexact)
    return array.astype(wanted) if cuts else array


def split_carry(given: Any, count: int, parts: str) -> list[Carry]:
    """Returns the `count` carries of an initial carry, for layers that hold several; None holds as many None.

    Raises:
      InputError: it does not hold one for each of the `parts`, such as "layers".
    """
    if given is None:
        return [None] * count
    stacked = isinstance(given, np.ndarray | jax.Array) and given.ndim > 0
    require(
        stacked or (isinstance(given, list | tuple) and not isinstance(given, LSTMCarry)),
        f"initial_carry is a {type(given).__name__}; give {count} carries, one for each of the {parts}",
    )
    require(
        len(given) == count,
        f"initial_carry holds {len(given)} carries for {count} {parts}; give one for each",
    )
    return list(given)


def over_leading_axes(
    run: Callable[[jax.Array, jax.Array | None, Carry | None, Options], tuple[Kept, jax.Array]],
    x: Any,
    lengths: Any,
    initial_carry: Carry | None,
    options: Options,
) -> tuple[Kept, jax.Array]:
    """Returns `run(x, lengths, initial_carry, options)`, which reads [B, T, F], for x [..., T, F].

    The leading axes, any number of them, are one batch to `run`. Lengths [...], the carries and the outputs
    have them all.

    Raises:
      InputError: x is not [..., T, F] or has no features, or lengths is not int[...].
    """
    x = as_array("x", x)
    require(
        x.ndim >= 2,
        f"x has shape {x.shape}; a recurrent layer reads [batch, time, features], or [..., time, features]",
    )
    require(x.shape[-1] != 0, f"x has shape {x.shape}, with 0 features; give at least 1")
    leading = x.shape[:-2]
    lengths = None if lengths is None else row_lengths(lengths, leading, x.shape[-2])
    if len(leading) == 1:
        return run(x, lengths, initial_carry, options)
    for leaf in jax.tree.leaves(initial_carry):
        require(
            jnp.shape(leaf)[: len(leading)] == leading,
            f"initial_carry has shape {jnp.shape(leaf)}, but x has rows of shape {leading}; begin with those",
        )
    rows = math.prod(leading)
    x, lengths, initial_carry = jax.tree.map(
        lambda leaf: jnp.reshape(leaf, (rows, *jnp.shape(leaf)[len(leading) :])), (x, lengths, initial_carry)
    )
    kept, outputs = jax.tree.map(
        lambda leaf: leaf.reshape(*leading, *leaf.shape[1:]), run(x, lengths, initial_carry, options)
    )
    return kept, outputs
