"""Settings as nested dicts: checked against a reference, flattened, compared."""

from collections.abc import Mapping
from typing import Any

from rnn_jax.errors import InputError, nearest


def flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns one level of dotted keys.

    >>> flatten({"model": {"hidden": 32}, "seed": 0})
    {'model.hidden': 32, 'seed': 0}
    """
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def check_settings(
    settings: Mapping[str, Any], reference: Mapping[str, Any], least: Mapping[str, float], source: str
) -> None:
    """Raises InputError unless `settings` has exactly the keys of `reference`, each with a value of its type.

    An integer is taken where the reference has a float. `least` maps dotted keys to their smallest value;
    `source` is the file that the reference is from.
    """
    given, known = flatten(settings), flatten(reference)
    for key, value in given.items():
        if key not in known:
            raise InputError(f"config.{key} is not a setting of {source}.{nearest(key, known)}")
        expected = type(known[key])
        fits = type(value) is expected or (expected is float and type(value) is int)
        if not fits and not (expected in (list, tuple) and isinstance(value, list | tuple)):
            raise InputError(
                f"config.{key} is {value!r}, a {type(value).__name__}; give a {expected.__name__}"
            )
    for key in known:
        if key not in given:
            raise InputError(f"config.{key} is missing; copy it from {source}")
    for key, smallest in least.items():
        if not given[key] >= smallest:  # so that NaN is refused too
            raise InputError(f"config.{key} is {given[key]}; give at least {smallest}")


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Returns "key: old -> new" for every dotted key whose value differs."""
    before, after = flatten(old), flatten(new)
    keys = sorted(before.keys() | after.keys())
    absent = "(absent)"
    return [
        f"{key}: {before.get(key, absent)!r} -> {after.get(key, absent)!r}"
        for key in keys
        if before.get(key, absent) != after.get(key, absent)
    ]
