"""A config, the settings of one run: flattened, checked against the reference, changed and compared."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flax.traverse_util import flatten_dict
from ml_collections import ConfigDict

from rnn_jax.errors import InputError, nearest


def flatten(settings: Mapping[str, object]) -> dict[str, Any]:
    """Returns nested mappings as one dictionary of dotted keys.

    >>> flatten({"model": {"hidden": 32}, "seed": 0})
    {'model.hidden': 32, 'seed': 0}
    """
    return flatten_dict(dict(settings), sep=".")


def check_settings(
    settings: Mapping[str, Any], reference: Mapping[str, Any], least: Mapping[str, float], source: str
) -> None:
    """Checks that `settings` has exactly the keys of `reference`, each with a value of the same type.

    Args:
      settings, reference: nested mappings. An integer may stand where the reference has a float, and a list
        where it has a tuple.
      least: the smallest value of some settings, by dotted key.
      source: where the reference is, for messages.

    Raises:
      InputError: a key is unknown or missing, or a value is of another type, too small or not finite.

    >>> check_settings({"train": {"epochs": 3}}, {"train": {"epochs": 5}}, {"train.epochs": 1}, "settings.py")
    >>> check_settings({"epochs": 0}, {"epochs": 5}, {"epochs": 1}, "settings.py")
    Traceback (most recent call last):
    rnn_jax.errors.InputError: config.epochs is 0; give at least 1
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
    for key, value in given.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise InputError(f"config.{key} is {value}; give a finite number")


def changed(config: ConfigDict, values: Mapping[str, Any], reference: Mapping[str, Any]) -> ConfigDict:
    """Returns the settings with other values, given by dotted key; `reference` has all settings of the task.

    The types of the values are not looked at: `check_settings` does that.

    Raises:
      InputError: a key is no setting; the message has the nearest.

    >>> from rnn_jax.settings import CLASSIFIER, recipe
    >>> changed(recipe("smoke"), {"model.hidden": 64, "seed": 1}, CLASSIFIER).model.hidden
    64
    """
    known, settings = flatten(reference), config.to_dict()
    for key, value in values.items():
        if key not in known:
            raise InputError(f"{key!r} is no setting of task {config.task!r}.{nearest(key, known)}")
        *sections, name = key.split(".")
        place = settings
        for section in sections:
            place = place.setdefault(section, {})
        place[name] = value.item() if getattr(value, "shape", None) == () else value  # of numpy
    return ConfigDict(settings)


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Returns "key: old -> new" for every dotted key whose value differs, in the order of the keys.

    >>> changes({"model": {"hidden": 32}, "seed": 0}, {"model": {"hidden": 64}, "seed": 0})
    ['model.hidden: 32 -> 64']
    """
    before, after = flatten(old), flatten(new)
    keys = sorted(before.keys() | after.keys())
    absent = "(absent)"
    return [
        f"{key}: {before.get(key, absent)!r} -> {after.get(key, absent)!r}"
        for key in keys
        if before.get(key, absent) != after.get(key, absent)
    ]


def starting_from(config: ConfigDict, workdir: Path) -> ConfigDict:
    """Returns the settings of a run that takes all it can of the parameters of another run.

    >>> from rnn_jax.settings import recipe
    >>> starting_from(recipe("smoke"), Path("runs/a")).embedding.from_workdir
    'runs/a'
    """
    config = ConfigDict(config.to_dict())
    config.embedding.update({"vectors": "", "from_workdir": str(workdir), "take": ("*",)})
    return config
