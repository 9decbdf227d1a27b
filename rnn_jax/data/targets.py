"""Targets: what a label column holds, by `data.target`: a class, several labels or a number a text."""

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from rnn_jax.data.labels import check_names
from rnn_jax.errors import choose, require

CLASS, LABELS, NUMBER = "class", "labels", "number"
Text: TypeAlias = str | tuple[str, str]  # a text, or a pair of texts
STRATA = 10  # into which numbers are sorted when a split is cut
USUAL_SEPARATORS = "|;,/+"
SHOWN = 3  # examples in a message


class Columns(NamedTuple):
    """The label columns of all splits, read.

    Attributes:
      splits: for each split float64[n] numbers, int32[n, C] of 0 and 1, one for each label, or int32[n]
        positions of classes.
      names, values: the labels' names, and what stands for each in the column; empty for numbers.
    """

    splits: dict[str, np.ndarray]
    names: tuple[str, ...]
    values: list[Any]


def check_target(target: str, separator: str, label_names: Sequence[str]) -> None:
    """Raises InputError for an unknown target, or settings that this one does not have."""
    choose("data.target", target, {CLASS: None, LABELS: None, NUMBER: None})
    require(
        not separator or target == LABELS,
        f"data.separator is {separator!r}, but data.target is {target!r}; set data.target to 'labels', for "
        "texts that have several labels at once, or leave the separator out",
    )
    require(
        not len(label_names) or target != NUMBER,
        f"data.label_names are {tuple(label_names)}, but data.target is 'number', which has no names",
    )


def read_targets(
    target: str, columns: Mapping[str, Sequence[Any]], feature: Any, names: Sequence[str], separator: str
) -> Columns:
    """Returns the columns of several labels, or of numbers, of all splits.

    Args:
      target: "labels" or "number".
      columns: the values of each split, "train" among them.
      feature: the type that `datasets` gives the column; lists of class labels have names of their own.
      names: one for each label, in the order of the sorted values, or the values themselves in any order;
        empty takes the column's own names, or the values.
      separator: between the labels of one string; "" where they are lists.

    Raises:
      InputError: what is no number or no list of labels, or a label that the training split does not have.

    >>> found = read_targets("labels", {"train": ["war|love", "love", ""]}, None, (), "|")
    >>> found.names, found.splits["train"].tolist()
    (('love', 'war'), [[1, 1], [1, 0], [0, 0]])
    """
    if target == NUMBER:
        read = {split: numbers_of(values, split) for split, values in columns.items()}
        spread = np.ptp(read["train"]) if len(read["train"]) else 0.0
        require(spread > 0, "the label column holds one number alone; there is nothing to learn")
        return Columns(read, (), [])
    lists = {split: [labels_of(value, separator) for value in values] for split, values in columns.items()}
    found = {label for row in lists["train"] for label in row}
    require(bool(found), "no text to train on has a label")
    kinds = {type(label) for label in found}
    require(len(kinds) == 1, "the label column holds strings and numbers; write all labels as one of them")
    own = getattr(getattr(feature, "feature", None), "names", None)
    values = list(range(len(own))) if own else sorted(found)
    check_names(names, values)
    values = list(names) if {*names} == found else values  # each names itself
    names = tuple(names) or tuple(own or map(str, values))
    splits = {split: label_matrix(rows, values, split) for split, rows in lists.items()}
    return Columns(splits, names, values)


def label_matrix(rows: Sequence[Sequence[Any]], values: Sequence[Any], split: str) -> np.ndarray:
    """Returns int32[n, C], 1 for each label of a row. Raises InputError for a label that is not in `values`.

    >>> label_matrix([["b"], []], ["a", "b"], "train").tolist()
    [[0, 1], [0, 0]]
    """
    position = {value: index for index, value in enumerate(values)}
    unknown = sorted({label for row in rows for label in row} - set(position), key=str)
    require(not unknown, f"split {split!r} has labels {unknown[:20]} that train does not have: {values[:20]}")
    matrix = np.zeros((len(rows), len(values)), np.int32)
    for index, row in enumerate(rows):
        matrix[index, [position[label] for label in row]] = 1
    return matrix


def known_positions(
    labels: Sequence[Any], names: Sequence[str], values: Sequence[Any], by_place: bool
) -> np.ndarray:
    """Returns int32[n], the positions of labels: names, values of the label column, or positions.

    Args:
      labels: n labels.
      names, values: of the C classes.
      by_place: whether the labels are positions alone. Otherwise integers are, unless the values are too.

    Raises:
      InputError: a label that is none of those.

    >>> known_positions(["fine", 0, "x"], ["dull", "fine"], ["x", "y"], by_place=False).tolist()
    [1, 0, 0]
    """
    places: dict[Any, int] = {number: number for number in range(len(names))}
    known = places
    if not by_place:
        # The integer 1 is the label 1 where labels are integers, whatever its place among them.
        counted = all(isinstance(value, int) for value in values)
        by_name, by_value = ({label: place for place, label in enumerate(own)} for own in (names, values))
        known = {**({} if counted else places), **by_name, **by_value}
    odd = [label for label in labels if not isinstance(label, Hashable) or label not in known]
    require(
        not odd,
        f"labels {odd[:20]} are none of those that the model knows: {', '.join(map(repr, known))}"[:1000],
    )
    return np.array([known[label] for label in labels], dtype=np.int32)


def labels_of(value: Any, separator: str) -> list[Any]:
    """Returns the labels of one text: a list, or a string with separators; None has none."""
    if value is None:
        return []
    if isinstance(value, str):
        require(
            bool(separator),
            f"data.target is 'labels', but the label column holds the string {value[:60]!r}; name what "
            "stands between the labels by data.separator, or give lists of labels",
        )
        return [part.strip() for part in value.split(separator) if part.strip()]
    lists = isinstance(value, list | tuple | set | frozenset | np.ndarray)
    require(
        lists,
        f"data.target is 'labels', but the label column holds {str(value)[:60]!r}; give a list of labels",
    )
    labels = [label.strip() if isinstance(label, str) else label for label in value]
    odd = [
        label for label in labels if isinstance(label, bool) or not isinstance(label, int | str | np.integer)
    ]
    require(not odd, f"the labels of a text hold {odd[:1]}; a label is an integer or a string")
    return [label if isinstance(label, str) else int(label) for label in labels]


def numbers_of(values: Sequence[Any], split: str) -> np.ndarray:
    """Returns float64[n]. Raises InputError for what is no number, with its row."""
    numbers = np.zeros(len(values))
    for row, value in enumerate(values):
        try:
            numbers[row] = math.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError):
            numbers[row] = math.nan
    odd = np.flatnonzero(~np.isfinite(numbers))
    require(
        not len(odd),
        f"data.target is 'number', but {len(odd):,} rows of split {split!r} have none, such as row "
        f"{odd[:1].tolist()} with {[values[row] for row in odd[:1]]}; leave them out",
    )
    return numbers


def scale_of(numbers: np.ndarray) -> tuple[float, float]:
    """Returns the mean and the standard deviation of the numbers to train on.

    Raises:
      InputError: they do not differ, so that there is nothing to learn, or their squares are too large.
    """
    with np.errstate(over="ignore"):
        mean, deviation = float(numbers.mean()), float(numbers.std())
    require(
        math.isfinite(deviation),
        f"data.target is 'number', but there are numbers up to {np.abs(numbers).max():g}, too large for a "
        "standard deviation; give them in another unit",
    )
    require(
        np.ptp(numbers) > 0 and deviation > 0,
        f"data.target is 'number', but all {len(numbers):,} texts to train on have the number {mean:g} once "
        "the splits are cut; give more texts with other numbers, or set another data.split_seed",
    )
    return mean, deviation


def standardised(targets: np.ndarray, scale: tuple[float, float]) -> np.ndarray:
    """Returns numbers as float32 with mean 0 and deviation 1, and labels as they are.

    Raises:
      InputError: a number is so far from the mean that float32 cannot hold it.
    """
    if targets.dtype.kind != "f":
        return targets
    with np.errstate(over="ignore"):
        found: np.ndarray = ((targets - scale[0]) / scale[1]).astype(np.float32)
    odd = targets[~np.isfinite(found)]
    require(
        not len(odd),
        f"data.target is 'number', and {odd[:1].tolist()} is too far from {scale[0]:g}, the mean of the "
        "numbers to train on; leave such rows out",
    )
    return found


def strata(targets: np.ndarray) -> np.ndarray:
    """Returns int[n], of which each value is to have its share when a split is cut.

    Classes are themselves; a text with several labels counts by its rarest one, and numbers by tenths.

    >>> strata(np.array([[1, 0], [1, 1], [0, 0]])).tolist()
    [0, 1, 2]
    """
    if targets.ndim == 2:
        rarity = np.where(targets > 0, targets.sum(axis=0), len(targets) + 1)
        labelled = (targets > 0).any(axis=1)
        return np.where(labelled, rarity.argmin(axis=1), targets.shape[1])
    if targets.dtype.kind == "f":
        ranks = np.argsort(np.argsort(targets, kind="stable"), kind="stable")
        return ranks * STRATA // max(len(targets), 1)
    return targets


def say_lists(labels: Sequence[Any], say: Callable[[str], None]) -> None:
    """Says if classes look like lists: strings with a separator, whose parts are labels too.

    >>> say_lists(["war|love", "love", "war", "war|love"], print)
    labels such as 'war|love' look like several at once, and count as one class; to take them as several, \
set data.target to 'labels' and data.separator to '|'
    """
    found = {label for label in labels if isinstance(label, str)}
    for separator in USUAL_SEPARATORS:
        joined = sorted(label for label in found if separator in label)
        parts = [[part.strip() for part in label.split(separator)] for label in joined]
        alone = [
            label for label, own in zip(joined, parts, strict=True) if all(part in found for part in own)
        ]
        if alone:
            shown = ", ".join(map(repr, alone[:SHOWN]))
            say(
                f"labels such as {shown} look like several at once, and count as one class; to take them as "
                f"several, set data.target to 'labels' and data.separator to {separator!r}"
            )
            return


def paired(texts: Sequence[str], others: Sequence[str]) -> list[Text]:
    """Returns pairs of texts."""
    return list(zip(texts, others, strict=True))


def single_texts(texts: Sequence[Text]) -> list[str]:
    """Returns the texts themselves, of pairs the first and the second of each.

    >>> single_texts([("a", "b"), ("c", "d")])
    ['a', 'b', 'c', 'd']
    """
    return [one for text in texts for one in ((text,) if isinstance(text, str) else text)]


def rows_of_pairs(rows: Sequence[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Returns the word ids of pairs, of those of their texts in the order of `single_texts`."""
    return list(zip(rows[0::2], rows[1::2], strict=True))
