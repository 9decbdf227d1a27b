"""The rows of a file one after another, so that a file of any size can be read through.

`rnn_jax.data.tables` reads whole files, and finds the types of their columns. Here a field of a CSV file
stays as it is written.
"""

import csv
import itertools
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from rnn_jax.data.sources import read_source
from rnn_jax.data.tables import EmptySourceError, json_rows
from rnn_jax.errors import InputError, nearest, require
from rnn_jax.files import path_of, unreadable

if TYPE_CHECKING:
    import pyarrow

Row = dict[str, Any]
ROWS_AT_ONCE = 1024  # of a Parquet file


class Rows(NamedTuple):
    """The rows of a file.

    Attributes:
      names: the columns, in order.
      rows: the rows as {column: value}, each read when it is asked for.
      schema: the types of the columns, where the file tells them.
    """

    names: list[str]
    rows: Iterator[Row]
    schema: "pyarrow.Schema | None" = None


def stream_rows(source: str) -> Rows:
    """Returns the rows of a file, or of a source with one split.

    Args:
      source: as in `read_source`; a file whose suffix is not in STREAMS is read as a whole.

    Raises:
      EmptySourceError: there are no rows.
      InputError: the source is not there or cannot be read, at once or while it is read.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "reviews.csv")
    >>> _ = path.write_text("id,text\\n007,A fine film.\\n")
    >>> names, rows, _ = stream_rows(str(path))
    >>> names, list(rows)
    (['id', 'text'], [{'id': '007', 'text': 'A fine film.'}])
    """
    path = path_of(source)
    if path.is_file() and path.suffix.lower() in STREAMS:
        found = STREAMS[path.suffix.lower()](path)
        first = list(itertools.islice(found.rows, 1))
        if not first:
            raise EmptySourceError(f"{str(path)!r} holds no rows")
        return found._replace(rows=itertools.chain(first, found.rows))
    (_, data), *others = read_source(source).items()
    require(not others, f"{source} has several splits; name one file")
    return Rows(data.column_names, iter(data), data.features.arrow_schema)


def check_column(column: str, names: Sequence[str], place: str) -> None:
    """Raises InputError, with the nearest name, where a table has no column of a name."""
    require(
        column in names,
        f"{place} has no column {column!r}; it has {', '.join(names)}.{nearest(column, names)}",
    )


def csv_rows(path: Path, delimiter: str = ",") -> Rows:
    """Returns the rows of a CSV file, every field a string; raises as `stream_rows` does."""
    csv.field_size_limit(sys.maxsize)  # its own limit is 131,072 characters
    lines = _fields(path, delimiter)
    names = next(lines, [])
    double = sorted({name for name in names if names.count(name) > 1})
    require(not double, f"{str(path)!r} has the column {double[:1]} twice; name each once")

    def rows() -> Iterator[Row]:
        for fields in lines:
            if not fields and len(names) > 1:
                continue  # an empty line; where there is one column, it is an empty text
            require(
                len(fields) <= len(names),
                f"{str(path)!r} has rows of more fields than its header, which has {len(names)}: put texts "
                "with commas in quotes",
            )
            yield dict(itertools.zip_longest(names, fields, fillvalue=""))

    return Rows(names, rows())


def _fields(path: Path, delimiter: str) -> Iterator[list[str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield from csv.reader(file, delimiter=delimiter)
    except (OSError, ValueError, csv.Error) as error:
        raise unreadable(path, error) from error


def json_line_rows(path: Path) -> Rows:
    """Returns the rows of a file of JSON objects; of one that has no object on its first line, as a whole."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            first = json.loads(next(filter(str.strip, file), "{}"))
    except (OSError, ValueError, RecursionError):
        first = None  # spread over several lines, or broken, which `json_rows` tells
    if not isinstance(first, dict):
        rows = json_rows(path)
        first = next(rows, {})
        return Rows(list(first), itertools.chain([first] if first else [], rows))
    return Rows(list(first), _objects(path))


def _objects(path: Path) -> Iterator[Row]:
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, start=1):
                if not line.strip():
                    continue
                row = json.loads(line, object_pairs_hook=_named_once)
                require(
                    isinstance(row, dict),
                    f"{str(path)!r}: line {number} is no object; give rows like "
                    '{"text": "...", "label": 1}',
                )
                yield row
    except InputError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise unreadable(path, error) from error


def _named_once(pairs: list[tuple[str, Any]]) -> Row:
    row = dict(pairs)
    if len(row) < len(pairs):
        raise ValueError(f"an object names a field twice: {[name for name, _ in pairs][:10]}")
    return row


def parquet_rows(path: Path) -> Rows:
    """Returns the rows of a Parquet file; raises as `stream_rows` does."""
    import pyarrow
    import pyarrow.parquet

    def rows() -> Iterator[Row]:
        try:
            with pyarrow.parquet.ParquetFile(path) as file:
                for batch in file.iter_batches(ROWS_AT_ONCE):
                    batch.validate(full=True)
                    yield from batch.to_pylist()
        except (OSError, pyarrow.ArrowException, UnicodeDecodeError, MemoryError) as error:
            raise unreadable(path, error) from error

    try:
        schema = pyarrow.parquet.read_schema(path)
    except (OSError, pyarrow.ArrowException) as error:
        raise unreadable(path, error) from error
    return Rows(schema.names, rows(), schema.remove_metadata())


STREAMS: dict[str, Callable[[Path], Rows]] = {
    ".csv": csv_rows,
    ".jsonl": json_line_rows,
    ".ndjson": json_line_rows,
    ".json": json_line_rows,
    ".parquet": parquet_rows,
}
