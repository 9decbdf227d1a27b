"""Rows written into a file a part at a time: CSV, JSON lines or Parquet."""

import csv
import io
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, BinaryIO

from rnn_jax.data.row_streams import ROWS_AT_ONCE, Row
from rnn_jax.errors import InputError, choose, require
from rnn_jax.files import replacing

if TYPE_CHECKING:
    import pyarrow

Write = Callable[[Sequence[Row]], None]  # takes the next rows


def check_out(path: Path) -> None:
    """Raises InputError unless a file of rows can be written at `path`, whose suffix tells the format."""
    choose("the suffix of --out", path.suffix.lower(), FORMATS)
    if not path.absolute().parent.is_dir():
        raise InputError(f"--out is {path}, but there is no folder {path.absolute().parent}")


@contextmanager
def rows_into(path: Path, names: Sequence[str], schema: "pyarrow.Schema | None") -> Iterator[Write]:
    """Gives a function that writes rows; at the end the whole file takes the place of `path`.

    Args:
      path: a file with a suffix of FORMATS.
      names: the columns.
      schema: the types of some of the columns; others get that of their first values, or none of no rows.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "out.csv")
    >>> with rows_into(path, ["text", "predicted"], None) as write:
    ...     write([{"text": "a, b", "predicted": "fine"}])
    >>> path.read_text()
    'text,predicted\\n"a, b",fine\\n'
    """
    with replacing(path) as file, FORMATS[path.suffix.lower()](file, names, schema) as write:
        yield write


def _refuse_others(rows: Sequence[Row], names: Sequence[str], kind: str) -> None:
    """Raises InputError for fields that are no columns: those that first come far down in JSON lines."""
    others = sorted({name for row in rows for name in row} - {*names})
    require(
        not others,
        f"--out cannot be {kind}: rows have the fields {others[:20]}, which the first {ROWS_AT_ONCE:,} rows "
        "of --input lack; give a .jsonl file",
    )


@contextmanager
def _csv(file: BinaryIO, names: Sequence[str], schema: Any, delimiter: str = ",") -> Iterator[Write]:
    # Half of a surrogate pair, which no UTF-8 can hold, becomes "?": as such the network has read it.
    text = io.TextIOWrapper(file, encoding="utf-8", errors="replace", newline="", write_through=True)
    # `csv` puts in quotes what holds a character of the line's end, and "\r" ends a row for every reader.
    lines: Any = SimpleNamespace(write=lambda row: text.write(row.removesuffix("\r\n") + "\n"))
    writer = csv.DictWriter(lines, names, delimiter=delimiter, lineterminator="\r\n")
    writer.writeheader()

    def write(rows: Sequence[Row]) -> None:
        _refuse_others(rows, names, "CSV")
        writer.writerows({name: _cell(value) for name, value in row.items()} for row in rows)

    yield write
    text.detach()


def _cell(value: object) -> object:
    """Returns what a field of text has for a value: of an object or a list its JSON."""
    return json.dumps(value, default=str) if isinstance(value, dict | list) else value


def _tsv(file: BinaryIO, names: Sequence[str], schema: Any) -> AbstractContextManager[Write]:
    return _csv(file, names, schema, delimiter="\t")


@contextmanager
def _json_lines(file: BinaryIO, names: Sequence[str], schema: Any) -> Iterator[Write]:
    def write(rows: Sequence[Row]) -> None:
        file.writelines(f"{json.dumps(row, default=str)}\n".encode() for row in rows)

    yield write


@contextmanager
def _parquet(file: BinaryIO, names: Sequence[str], schema: "pyarrow.Schema | None") -> Iterator[Write]:
    import pyarrow
    import pyarrow.parquet

    writer: Any = None

    def write(rows: Sequence[Row]) -> None:
        nonlocal writer
        _refuse_others(rows, names, "Parquet")
        try:
            if writer is None:
                found = pyarrow.Table.from_pylist([{name: row.get(name) for name in names} for row in rows])
                known = {} if schema is None else {field.name: field.type for field in schema}
                types = [(field.name, known.get(field.name, field.type)) for field in found.schema]
                writer = pyarrow.parquet.ParquetWriter(file, pyarrow.schema(types))
            writer.write_table(pyarrow.Table.from_pylist(list(rows), writer.schema))
        except (pyarrow.ArrowException, OverflowError, UnicodeEncodeError) as error:
            raise InputError(f"--out cannot be Parquet: {error}; give a .jsonl file") from error

    yield write
    if writer is None:  # there were no rows
        types = dict.fromkeys(names, pyarrow.null()) | {field.name: field.type for field in schema or ()}
        writer = pyarrow.parquet.ParquetWriter(file, pyarrow.schema(types))
    writer.close()


FORMATS: dict[str, Callable[[BinaryIO, Sequence[str], Any], AbstractContextManager[Write]]] = {
    ".csv": _csv,
    ".tsv": _tsv,
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".parquet": _parquet,
}
