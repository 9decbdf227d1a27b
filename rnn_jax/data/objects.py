"""Files of JSON: one object a line, an array of objects, or one object that holds all rows.

Arrow's reader of JSON ends the process on a line `null` and on deep nesting, so JSON is read by Python.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rnn_jax.data.reading import Reading, member_suffix, split_name, text_of
from rnn_jax.errors import InputError, require
from rnn_jax.files import DAMAGE, unreadable

if TYPE_CHECKING:
    import pyarrow

JSON_SPACE = re.compile(r"[ \t\r\n]*")
LINES = (".jsonl", ".ndjson")  # of files whose every line is a row, never a whole table
ROWS_UNDER = ("data", "rows", "records", "items", "examples")  # the field of one object that holds the rows


def read_json(path: Path, reading: Reading) -> "pyarrow.Table":
    """Returns the rows of a file of JSON objects; raises as `tables.read_table` does.

    A column whose values are of several types becomes Arrow's type of JSON.
    """
    return table_of_rows(path, json_objects(path, reading))


def json_objects(path: Path, reading: Reading) -> list[dict[str, object]]:
    """Returns the objects that are the rows of a file; raises as `tables.read_table` does."""
    try:
        return list(_rows(path, list(_values(path, reading))))
    except InputError:
        raise
    except RecursionError as error:
        raise InputError(f"{str(path)!r} is nested too deeply; give rows whose fields are values") from error
    except (*DAMAGE, ValueError) as error:
        raise unreadable(path, error) from error


def table_of_rows(path: Path, rows: list[dict[str, object]]) -> "pyarrow.Table":
    """Returns rows as a table. Raises InputError for rows without any field."""
    import pyarrow

    names = names_of(rows)
    require(bool(names) or not rows, f"{str(path)!r} has rows without a field; name each field")
    columns = []
    try:
        for name in names:
            values = [row.get(name) for row in rows]
            try:
                columns.append(pyarrow.array(values))
            except (pyarrow.ArrowException, OverflowError):  # several types, or integers of over 64 bits
                texts = [None if value is None else json.dumps(value) for value in values]
                columns.append(pyarrow.array(texts, pyarrow.json_()))
        return pyarrow.table(columns, names)
    except UnicodeEncodeError as error:  # half of a surrogate pair, which no UTF-8 can hold
        raise unreadable(path, error) from error


def _values(path: Path, reading: Reading) -> Iterator[object]:
    """Yields the JSON values that stand one after another in a file."""
    decoder = json.JSONDecoder(object_pairs_hook=named_once)
    text = text_of(path, reading)
    place = JSON_SPACE.match(text).end()  # type: ignore[union-attr]  # it matches nothing, too
    while place < len(text):
        value, end = decoder.raw_decode(text, place)
        yield value
        place = JSON_SPACE.match(text, end).end()  # type: ignore[union-attr]


def _rows(path: Path, values: list[object]) -> Iterator[dict[str, object]]:
    """Yields the objects that are rows. Raises InputError if there is something else among them."""
    rows: Iterable[object] = values
    if values and isinstance(values[0], list):
        rows = [*values[0], *values[1:]]
    elif len(values) == 1 and isinstance(values[0], dict) and not _has_lines(path):
        rows = _unwrapped(path, values[0])
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise InputError(
                f"{str(path)!r}: row {number} is no object but {type(row).__name__}; give "
                'rows like {"text": "...", "label": 1}'
            )
        yield row


def _has_lines(path: Path) -> bool:
    return (split_name(path)[0] or member_suffix(path)) in LINES


def _unwrapped(path: Path, whole: dict[str, Any]) -> Iterable[object]:
    """Returns the rows that a file's one object holds, as pandas and others write them, else that object."""
    data = [value for name, value in whole.items() if name in ROWS_UNDER and isinstance(value, list)]
    if len(data) == 1:
        (rows,) = data
        names = whole.get("columns")
        if isinstance(names, list) and all(isinstance(row, list) for row in rows):  # pandas: orient "split"
            lengths = {len(row) for row in rows}
            require(
                lengths <= {len(names)},
                f"{str(path)!r} names {len(names)} columns, and has rows of {sorted(lengths)[:5]} values",
            )
            return [dict(zip(map(str, names), row, strict=True)) for row in rows]
        if all(isinstance(row, dict) for row in rows):
            return rows
    columns = list(whole.values())
    if all(isinstance(column, list) for column in columns) and columns:
        lengths = {len(column) for column in columns}
        require(len(lengths) == 1, f"{str(path)!r} has columns of {sorted(lengths)[:5]} values; give as many")
        return [dict(zip(whole, row, strict=True)) for row in zip(*columns, strict=True)]
    if columns and all(isinstance(column, dict) for column in columns):
        keys = list(columns[0])
        if all(list(column) == keys for column in columns) and keys:
            outer, inner = (all(name.lstrip("-").isdigit() for name in names) for names in (whole, keys))
            if outer and not inner:  # pandas: orient "index"
                return columns
            return [{name: column[key] for name, column in whole.items()} for key in keys]
    return [whole]


def names_of(rows: Iterable[Mapping[str, object]]) -> list[str]:
    """Returns the names of the fields of all rows, in the order in which they are met.

    >>> names_of([{"text": "a"}, {"id": 7, "text": "b"}])
    ['text', 'id']
    """
    return list(dict.fromkeys(name for row in rows for name in row))


def named_once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Returns an object of JSON. Raises ValueError where it names a field twice."""
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise ValueError(f"an object names a field twice: {[name for name, _ in pairs][:10]}")
    return fields
