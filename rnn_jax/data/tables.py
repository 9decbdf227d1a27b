"""Tables in files: their rows as Arrow tables, by the suffix of the file's name.

A reader returns a table or raises an InputError that names the file. The readers of `datasets` are not used:
they unpack a file that is an archive under another name, shift the columns of rows that are too long, and
take a text for a date. To add a format, write a reader and a line in TABLE_FORMATS at the end of this file.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rnn_jax.data.columnar import read_arrow, read_excel, read_parquet
from rnn_jax.data.delimited import ZERO_IN_FRONT, read_delimited
from rnn_jax.data.objects import read_json
from rnn_jax.data.reading import EmptySourceError, Reading, member_suffix, split_name
from rnn_jax.errors import InputError, choose
from rnn_jax.files import DAMAGE, unreadable

if TYPE_CHECKING:
    import datasets
    import pyarrow


def format_of(path: Path) -> str:
    """Returns the suffix that tells a file's format, a key of TABLE_FORMATS, or "" for a file of none.

    >>> format_of(Path("Reviews.CSV.GZ")), format_of(Path("notes.txt"))
    ('.csv', '')
    """
    suffix, compression = split_name(path)
    if compression == ".zip" and suffix not in TABLE_FORMATS and path.is_file():
        try:
            suffix = member_suffix(path)
        except DAMAGE as error:
            raise unreadable(path, error) from error
    if compression and suffix not in COMPRESSED:
        return ""
    return suffix if suffix in TABLE_FORMATS else ""


def read_table(path: Path, reading: Reading | None = None) -> "pyarrow.Table":
    """Returns the rows of a file; its suffix, a key of TABLE_FORMATS, says how it is read.

    Raises:
      EmptySourceError: it has no rows.
      InputError: it cannot be read, or is not of that format.
    """
    reading = reading or Reading()
    try:
        empty = path.stat().st_size == 0
    except OSError as error:
        raise unreadable(path, error) from error
    if empty:
        raise EmptySourceError(f"{str(path)!r} holds no rows")
    suffix = format_of(path) or split_name(path)[0]
    table = choose("the file's suffix", suffix, TABLE_FORMATS)(path, reading)
    if not len(table):
        raise EmptySourceError(f"{str(path)!r} holds no rows", table.column_names, table.schema)
    return table


def settings_of(suffix: str) -> tuple[str, ...]:
    """Returns the settings, fields of `Reading`, that say how files of a format are written."""
    if TABLE_FORMATS[suffix] is read_delimited:
        return ("delimiter", "encoding")
    return ("encoding",) if TABLE_FORMATS[suffix] is read_json else ()


def joined_tables(
    tables: "Sequence[pyarrow.Table]", like: "pyarrow.Table", source: str
) -> "datasets.Dataset":
    """Returns the rows of all tables; columns that `like` has too take its types.

    Raises:
      InputError: a value cannot have that type.
    """
    import datasets
    import pyarrow

    kinds: dict[str, pyarrow.DataType] = {}
    for table in (like, *tables):
        for field in table.schema:
            if field.name not in kinds or pyarrow.types.is_null(kinds[field.name]):
                kinds[field.name] = field.type
    try:
        cast = [
            table.cast(pyarrow.schema([(name, kinds[name]) for name in table.column_names]))
            for table in tables
        ]
        whole = pyarrow.concat_tables(cast, promote_options="default")
        return datasets.Dataset(whole.replace_schema_metadata(like.schema.metadata))
    except (pyarrow.ArrowException, ValueError, TypeError, RecursionError) as error:
        # `datasets` raises these for a column whose type or name it does not know.
        raise InputError(f"could not read {source!r}: {type(error).__name__}: {error}"[:500]) from error


def alike(tables: "Sequence[pyarrow.Table]") -> "list[pyarrow.Table]":
    """Returns the tables; a column that one of them has with zeros in front of digits is text in all."""
    import pyarrow
    import pyarrow.compute

    written = {
        field.name
        for table in tables
        for field in table.schema
        if pyarrow.types.is_string(field.type) or pyarrow.types.is_large_string(field.type)
        if any(ZERO_IN_FRONT.match(text) for text in table[field.name].unique().to_pylist() if text)
    }
    changed = []
    for table in tables:
        for place, field in enumerate(table.schema):
            if field.name in written and pyarrow.types.is_integer(field.type):
                texts = table.column(place).cast(pyarrow.string())
                table = table.set_column(place, field.name, texts)
        changed.append(table)
    return changed


COMPRESSED = (".csv", ".tsv", ".tab", ".jsonl", ".json", ".ndjson")  # may also be in an archive
TABLE_FORMATS: "dict[str, Callable[[Path, Reading], pyarrow.Table]]" = {
    ".parquet": read_parquet,
    ".csv": read_delimited,
    ".tsv": read_delimited,
    ".tab": read_delimited,
    ".jsonl": read_json,
    ".json": read_json,
    ".ndjson": read_json,
    ".arrow": read_arrow,
    ".xlsx": read_excel,
}
