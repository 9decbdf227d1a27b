"""The rows of a file one after another, so that a file of any size can be read through.

`rnn_jax.data.tables` reads whole files, and finds the types of their columns. Here a field of separated
values stays as it is written. Files are opened and decoded, and columns are found, by the same functions.
"""

import csv
import io
import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from rnn_jax.data.columns import named_column, no_column, path_in, say_other
from rnn_jax.data.delimited import LONGEST_FIELD, Layout, layout_of, long_row, open_quotes
from rnn_jax.data.objects import json_objects, named_once, names_of
from rnn_jax.data.reading import (
    EmptySourceError,
    Reading,
    check_reading,
    encoding_of,
    not_text,
    opened,
    refuse_unused,
)
from rnn_jax.data.sources import read_source
from rnn_jax.data.tables import format_of, settings_of
from rnn_jax.errors import InputError, require
from rnn_jax.files import DAMAGE, path_of, unreadable

if TYPE_CHECKING:
    import pyarrow

Row = dict[str, Any]
ROWS_AT_ONCE = 1024  # of a Parquet file; and the first ones of JSON lines, which tell the columns
END = ["", ""]  # read after the last row of a file of separated values


class Rows(NamedTuple):
    """The rows of a file.

    Attributes:
      names: the columns, in order; of JSON lines those of the first ROWS_AT_ONCE rows.
      rows: the rows as {column: value}, each read when it is asked for.
      schema: the types of the columns, where the file tells them.
      path: the column of the texts, and the fields inside it where they are in objects; () is not known.
    """

    names: list[str]
    rows: Iterator[Row]
    schema: "pyarrow.Schema | None" = None
    path: tuple[str, ...] = ()

    def text(self, row: Row) -> object:
        """Returns the text of a row, or None.

        >>> Rows(["review"], iter([]), path=("review", "text")).text({"review": {"text": "a film"}})
        'a film'
        """
        value: Any = row
        for field in self.path:
            value = value.get(field) if isinstance(value, dict) else None
        return value


def stream_rows(source: str, reading: Reading | None = None) -> Rows:
    """Returns the rows of a file, or of a source with one split.

    Args:
      source: as in `read_source`; a file whose format is not in STREAMS is read as a whole.
      reading: as in `read_source`; its text_column, if it has one, is found as `columns.column_of` does.

    Raises:
      EmptySourceError: there are no rows.
      InputError: the source is not there or cannot be read, at once or while it is read; or there is no
        column of texts.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "reviews.csv")
    >>> _ = path.write_text("id,text\\n007,A fine film.\\n")
    >>> found = stream_rows(str(path), Reading("text"))
    >>> found.names, list(map(found.text, found.rows))
    (['id', 'text'], ['A fine film.'])
    """
    reading = reading or Reading()
    check_reading(reading)
    path = path_of(source)
    if path.is_file() and (suffix := format_of(path)) in STREAMS:
        refuse_unused(reading, repr(source), settings_of(suffix))
        found = STREAMS[suffix](path, reading)
    else:
        (_, data), *others = read_source(source, reading._replace(every_row=True)).items()
        require(not others, f"{source} has several splits; name one file")
        found = Rows(data.column_names, iter(data), data.features.arrow_schema)
    first = list(itertools.islice(found.rows, 1))
    if not first:
        raise EmptySourceError(f"{source!r} holds no rows", found.names, found.schema)
    found = found._replace(rows=itertools.chain(first, found.rows))
    return _with_path(found, first[0], reading, source) if reading.text_column else found


def _with_path(found: Rows, first: Row, reading: Reading, source: str) -> Rows:
    """Returns the rows with the path to their texts; a field of objects has to be in the first row."""
    asked = reading.text_column

    def is_field() -> bool:
        if not any(asked.startswith(f"{name}.") for name in found.names):
            return False
        *above, field = path_in(found.names, asked)
        inner = found._replace(path=tuple(above)).text(first)
        return isinstance(inner, dict) and field in inner

    name = named_column(found.names, asked, is_field)
    if name is None:
        raise no_column(repr(source), asked, {name: first.get(name) for name in found.names})
    say_other(name, asked, reading.say)
    return found._replace(path=tuple(path_in(found.names, name)))


def delimited_rows(path: Path, reading: Reading) -> Rows:
    """Returns the rows of a file of separated values, every field a string; raises as `stream_rows` does."""
    csv.field_size_limit(LONGEST_FIELD)  # its own limit is 131,072 characters
    try:
        lines = _fields(path, layout_of(path, reading))
    except DAMAGE as error:
        raise unreadable(path, error) from error
    names = _numbered(next(lines, []))
    double = sorted({name for name in names if names.count(name) > 1})
    require(not double, f"{str(path)!r} has the column {double[:1]} twice; name each once")

    def rows() -> Iterator[Row]:
        for number, fields in enumerate(lines, start=2):
            if len(names) > 1 and (not fields or (len(fields) == 1 and fields[0].isspace())):
                continue  # an empty line; where there is one column, it is an empty text
            if len(fields) > len(names):
                raise long_row(path, f"row {number} (the header is row 1)", len(fields))
            yield dict(itertools.zip_longest(names, fields, fillvalue=""))

    return Rows(names, rows())


def _numbered(names: list[str]) -> list[str]:
    """Returns the names of columns; where several are empty, they are called as training calls them."""
    if names.count("") < 2:
        return names
    return [name or f"Unnamed: {place}" for place, name in enumerate(names)]


def _fields(path: Path, layout: Layout) -> Iterator[list[str]]:
    try:
        with opened(path) as file, io.TextIOWrapper(file, layout.encoding, newline="") as text:
            start = text.readline().removeprefix("\ufeff")  # of a file whose encoding is named
            followed = itertools.chain([start], text, [layout.delimiter])  # a row of two empty fields, END
            lines = csv.reader(followed, delimiter=layout.delimiter, quoting=layout.quoting)
            rows = _before_end(path, lines)
            yield next(rows, [])
            yield from rows
    except UnicodeError as error:
        raise not_text(path, layout.encoding, error) from error
    except (*DAMAGE, ValueError, csv.Error) as error:
        if isinstance(error, InputError):
            raise
        raise unreadable(path, error) from error


def _before_end(path: Path, rows: Iterator[list[str]]) -> Iterator[list[str]]:
    """Yields the rows before END, which comes last. Open quotes swallow it, and raise an InputError."""
    number, row = 1, next(rows)
    for following in rows:
        yield row
        number, row = number + 1, following
    if row != END:
        raise open_quotes(path, number)


def json_rows(path: Path, reading: Reading) -> Rows:
    """Returns the rows of a file of JSON, a line at a time where each of its lines is an object."""
    first = None  # of a file that is read as a whole: of one value, or of values over several lines
    try:
        encoding = encoding_of(path, reading)
        with opened(path) as file, io.TextIOWrapper(file, encoding) as lines:
            start = list(itertools.islice(filter(str.strip, lines), 2))
        if len(start) == 2:
            first = json.loads(start[0].removeprefix("\ufeff"))
    except UnicodeError as error:
        raise not_text(path, encoding, error) from error
    except (*DAMAGE, ValueError, RecursionError):
        pass  # `json_objects` says what is wrong
    if isinstance(first, dict):
        rows = _objects(path, encoding)
        known = list(itertools.islice(rows, ROWS_AT_ONCE))
        return Rows(names_of(known), itertools.chain(known, rows))
    whole = json_objects(path, reading)
    return Rows(names_of(whole), iter(whole))


def _objects(path: Path, encoding: str) -> Iterator[Row]:
    try:
        with opened(path) as file, io.TextIOWrapper(file, encoding) as lines:
            for number, line in enumerate(lines, start=1):
                if not line.strip():
                    continue
                row = json.loads(line.removeprefix("\ufeff"), object_pairs_hook=named_once)
                require(
                    isinstance(row, dict),
                    f"{str(path)!r}: line {number} is no object; give rows like "
                    '{"text": "...", "label": 1}',
                )
                yield row
    except InputError:
        raise
    except UnicodeError as error:
        raise not_text(path, encoding, error) from error
    except (*DAMAGE, ValueError, RecursionError) as error:
        raise unreadable(path, error) from error


def parquet_rows(path: Path, reading: Reading) -> Rows:
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


STREAMS: dict[str, Callable[[Path, Reading], Rows]] = {
    ".csv": delimited_rows,
    ".tsv": delimited_rows,
    ".tab": delimited_rows,
    ".jsonl": json_rows,
    ".ndjson": json_rows,
    ".json": json_rows,
    ".parquet": parquet_rows,
}
