"""Labels as they are written: what stands for each class in a column, and the classes by position."""

import math
from collections.abc import Callable, Hashable, Mapping, Sequence

import numpy as np

from rnn_jax.errors import require

UNLABELLED = -1  # how hub datasets mark a row whose label is withheld, in a column of class labels
SHOWN = 3  # examples in a line of the log


def read_labels(values: Sequence[object]) -> list:
    """Returns labels as they count: space around strings trimmed, whole floats as integers, NaN as None.

    Anything else, and what is no label, comes back as it is: "0110" is another label than 110.

    >>> read_labels([" good", "007", 2.0, True, float("nan"), 0.5])
    ['good', '007', 2, True, None, 0.5]
    """
    return list(map(read_label, values))


def read_label(value: object) -> object:
    """Returns one label, as `read_labels` does."""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, float):
        if math.isnan(value):
            return None
        return int(value) if value.is_integer() else value
    return value


def say_merged(columns: Mapping[str, Sequence[object]], say: Callable[[str], None]) -> None:
    """Says which labels are one because space around them is trimmed."""
    written = {value for labels in columns.values() for value in labels if isinstance(value, str)}
    groups: dict[str, list[str]] = {}
    for value in sorted(written):
        groups.setdefault(value.strip(), []).append(value)
    merged = [" and ".join(map(repr, group)) for group in groups.values() if len(group) > 1]
    if merged:
        more = f" and {len(merged) - SHOWN} more" if len(merged) > SHOWN else ""
        say(f"labels are trimmed, so these are one: {'; '.join(merged[:SHOWN])}{more}")


def withheld(labels: Sequence[object], known: Sequence[object], classes: bool) -> bool:
    """Returns whether a split's labels are all missing: None, or -1 where that is no label of `known`.

    Args:
      labels: of the split.
      known: the labels to train on.
      classes: whether the column is one of class labels, whose -1 is none.
    """
    missing = {None} | ({UNLABELLED} if classes or UNLABELLED not in known else set())
    return bool(len(labels)) and all(isinstance(label, Hashable) and label in missing for label in labels)


def label_set(feature: object, labels: Sequence, names: Sequence[str]) -> tuple[tuple[str, ...], list]:
    """Returns the label names and the value that stands for each in the column.

    Args:
      feature: the type that `datasets` gives the column; class labels have names of their own.
      labels: of the training split, as `read_labels` returns them.
      names: one for each label, in the order of the sorted values, or the values themselves in any order;
        empty takes the column's own names, or the values.

    Raises:
      InputError: a label is missing or none, all are the same, or `names` are not one string for each label.
    """
    own_names = getattr(feature, "names", None)
    odd = [label for label in labels if not isinstance(label, int | str)]
    require(
        None not in odd and not (own_names and UNLABELLED in labels),
        "the training split has rows without a label (None, or -1 in a column of class labels); keep "
        "labelled rows only",
    )
    other = "labels" if any(isinstance(label, list) for label in odd) else "number"
    require(
        not odd,
        f"the label column holds {odd[:1]}; a label is an integer, a string or a boolean; for several labels "
        f"a text, or for numbers, set data.target to {other!r}",
    )
    found = set(labels)
    kinds = {str if isinstance(label, str) else int for label in found}
    require(len(kinds) == 1, "the label column holds strings and numbers; write all labels as one of them")
    values = list(range(len(own_names))) if own_names else sorted(found)
    require(len(found) > 1, f"the label column holds only {sorted(found)}; classification needs two labels")
    check_names(names, values)
    if set(names) == found:
        values = list(names)  # each names itself
    return tuple(names) or tuple(own_names or map(str, values)), values


def check_names(names: Sequence[object], values: Sequence[object]) -> None:
    """Raises InputError unless `names`, if there are any, are different strings, one for each value."""
    odd = [name for name in names if not isinstance(name, str)]
    require(not odd, f"data.label_names has {odd[:1]}, which is no string; give a string for each label")
    require(
        len(names) in (0, len(values)),
        f"label_names has {len(names)} names, {names}, but there are {len(values)} labels: {values[:20]}",
    )
    require(len({*names}) == len(names), f"data.label_names are {names}; give each label another name")


def positions(labels: Sequence, values: Sequence, split: str) -> np.ndarray:
    """Returns int32 positions in `values`. Raises InputError for a label that is missing or not there.

    Labels count as `read_labels` reads them; where all values are strings an integer counts as its digits,
    which a file has whose labels happen to have no zero in front.
    """
    odd = [label for label in labels if not isinstance(label, Hashable)]
    require(not odd, f"the label column holds {odd[:1]}; a label is an integer, a string or a boolean")
    position = {read_label(value): index for index, value in enumerate(values)}
    read = read_labels(labels)
    empty = [row for row, label in enumerate(read) if label is None]
    require(
        not empty,
        f"split {split!r} has {len(empty):,} rows without a label, such as row {empty[:1]}; label them, or "
        "leave them out",
    )
    if all(isinstance(value, str) for value in values):
        read = [str(label) if type(label) is int else label for label in read]
    unknown = sorted(set(read) - set(position), key=str)
    require(not unknown, f"split {split!r} has labels {unknown[:20]} that train does not have: {values[:20]}")
    return np.array([position[label] for label in read], dtype=np.int32)


def say_several(texts: Sequence[str], labels: Sequence[int], names: Sequence[str], say: Callable) -> None:
    """Says how many texts stand with several labels, with three of them.

    Args:
      texts: as they count as equal.
      labels: the position in `names` of each.
      say: takes a line for the log.
    """
    first: dict[str, int] = {}
    several: dict[str, set[int]] = {}
    for text, label in zip(texts, labels, strict=True):
        if first.setdefault(text, label) != label:
            several.setdefault(text, {first[text]}).add(label)
    if several:
        examples = "; ".join(
            f"{text[:40]!r} as {' and '.join(names[label] for label in sorted(found))}"
            for text, found in list(several.items())[:SHOWN]
        )
        say(f"{len(several):,} texts stand with several labels, such as {examples}")
