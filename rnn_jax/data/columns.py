"""Columns: found by their names, or by the names that such columns usually have, and read."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rnn_jax.data.delimited import USUAL_TEXTS
from rnn_jax.data.reading import quiet
from rnn_jax.errors import InputError, nearest

if TYPE_CHECKING:
    import datasets

# What the columns of each default name are usually called, where there is none of that name.
USUAL = {
    "text": USUAL_TEXTS,
    "label": ("label", "sentiment", "class", "category", "target", "stars"),
}
SHOWN = 20  # columns that an error lists


def texts_of(
    data: "datasets.Dataset", column: str, split: str, say: Callable[[str], None] = quiet
) -> list[str]:
    """Returns a column of texts, "" for a missing one, so that each row has a text.

    Raises:
      InputError: there is no such column, or a row holds something else than a text.
    """
    texts = column_of(data, column, split, say)
    for row, text in enumerate(texts):
        if not isinstance(text, str) and text is not None:
            raise InputError(f"row {row} of split {split!r} has {column} = {text!r}, not a text")
    return ["" if text is None else text for text in texts]


def column_of(data: "datasets.Dataset", column: str, split: str, say: Callable[[str], None] = quiet) -> list:
    """Returns a column, found as `find_column` finds it.

    Raises:
      InputError: there is no column of that name; the message lists those that there are.
    """
    column, *fields = path_in(data.column_names, require_column(data, column, split, say))
    values = _values(data, column)
    for field in fields:
        values = [value.get(field) if isinstance(value, dict) else None for value in values]
    return values


def require_column(
    data: "datasets.Dataset", column: str, split: str, say: Callable[[str], None] = quiet
) -> str:
    """Returns the name of a column, as `find_column` does. Raises InputError where there is none."""
    name = find_column(data, column)
    if name is None:
        raise no_column(f"split {split!r}", column, {name: _first(data, name) for name in data.column_names})
    say_other(name, column, say)
    return name


def say_other(name: str, column: str, say: Callable[[str], None]) -> None:
    """Says that a column of another name is read for the one that was asked for."""
    if name.strip().lower() != column.strip().lower():
        say(f"the column {name!r} is read for {column!r} (data.{column}_column names another)")


def no_column(place: str, column: str, known: Mapping[str, object]) -> InputError:
    """Returns the error of a column that is not there, with those that are, each with its first value."""
    shown = ", ".join(f"{name} ({_short(value)})" for name, value in list(known.items())[:SHOWN])
    more = f" and {len(known) - SHOWN} more" if len(known) > SHOWN else ""
    return InputError(f"{place} has no column {column!r}; it has {shown}{more}.{nearest(column, [*known])}")


def find_column(data: "datasets.Dataset", column: str) -> str | None:
    """Returns the name of a column, or None, as `named_column` finds it, or of a field of its objects."""
    return named_column(data.column_names, column, lambda: _is_field(data, column))


def named_column(known: Sequence[str], column: str, is_field: Callable[[], bool]) -> str | None:
    """Returns the name among `known` that is meant by another, or None.

    It is the column of that name; or the one whose name differs in case or space around it; or a field in a
    column of objects, "review.text"; or, for "text" and "label", the one column of a usual name for it.
    """
    if column in known:
        return column
    folded = [name for name in known if name.strip().lower() == column.strip().lower()]
    if len(folded) == 1:
        return folded[0]
    if is_field():
        return column
    usual = [name for name in known if name.strip().lower() in USUAL.get(column, ())]
    return usual[0] if len(usual) == 1 else None


def path_in(known: Sequence[str], name: str) -> list[str]:
    """Returns the column that a name stands for, and after it the fields inside it of a name with dots.

    >>> path_in(["review", "id"], "review.text"), path_in(["review.text"], "review.text")
    (['review', 'text'], ['review.text'])
    """
    if name in known:
        return [name]
    head = max((column for column in known if name.startswith(f"{column}.")), key=len)
    return [head, *name[len(head) + 1 :].split(".")]


def _is_field(data: "datasets.Dataset", name: str) -> bool:
    """Returns whether a name with dots leads to a field of some row's objects."""
    if not any(name.startswith(f"{column}.") for column in data.column_names):
        return False
    column, *fields = path_in(data.column_names, name)
    feature: Any = data.features[column]
    for place, field in enumerate(fields):
        if not isinstance(feature, dict):
            break
        if field not in feature:
            return False
        feature = feature[field]
        if place == len(fields) - 1:
            return True
    values = _values(data, column)
    for field in fields:
        values = [value[field] for value in values if isinstance(value, dict) and field in value]
    return bool(values)


def _values(data: "datasets.Dataset", column: str) -> list:
    chosen = data.select_columns([column])
    if type(data.features[column]).__name__ == "Json":  # `datasets` cannot read its large integers
        texts = chosen.with_format("arrow")[:][column].to_pylist()
        return [None if text is None else json.loads(text) for text in texts]
    return chosen[:][column]


def _first(data: "datasets.Dataset", column: str) -> object:
    return next(iter(_values(data.select(range(min(1, len(data)))), column)), None)


def _short(value: object) -> str:
    """Returns a value, cut to a few characters."""
    shown = repr(value)
    return shown if len(shown) <= 30 else f"{shown[:27]}..."
