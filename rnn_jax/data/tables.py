"""Tables in files: the rows of CSV, JSON and Parquet files as Arrow tables.

A reader returns a table or raises an InputError that names the file. The readers of `datasets` are not used:
they unpack a file that is an archive under another name, shift the columns of rows that are too long, and
take a text for a date. Arrow's reader of JSON ends the process on a line `null` and on deep nesting, so JSON
is read by Python: one object a line, or a list of objects.
"""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rnn_jax.errors import InputError, require
from rnn_jax.files import check_expansion, most_bytes, unreadable

if TYPE_CHECKING:
    import datasets
    import pyarrow

ROWS_AT_ONCE = 1024  # of a Parquet file, decoded before the size of the next ones is known
JSON_SPACE = re.compile(r"[ \t\r\n]*")


class EmptySourceError(InputError):
    """The file is well formed and holds no rows."""


def read_table(path: Path) -> "pyarrow.Table":
    """Returns the rows of a file; its suffix, a key of TABLE_FORMATS, says how it is read.

    Raises:
      EmptySourceError: it has no rows.
      InputError: it cannot be read, or is not of that format.
    """
    try:
        empty = path.stat().st_size == 0
    except OSError as error:
        raise unreadable(path, error) from error
    if empty:
        raise EmptySourceError(f"{str(path)!r} holds no rows")
    table = TABLE_FORMATS[path.suffix](path)
    if not len(table):
        raise EmptySourceError(f"{str(path)!r} holds no rows")
    return table


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


def read_csv_table(path: Path) -> "pyarrow.Table":
    """Returns the rows of a CSV file whose first line names the columns; raises as `read_table` does."""
    import pandas
    import pyarrow

    # By default pandas reads the texts "null", "None" and "NA" as missing; here only an empty field is.
    read = partial(pandas.read_csv, path, keep_default_na=False, na_values=[""], compression=None)
    try:
        header = read(header=None, nrows=1, dtype=str).iloc[0]
        frame = read(low_memory=False)  # whole columns: a part of a text column may look like numbers
        table = pyarrow.Table.from_pandas(frame, preserve_index=False)
    except pandas.errors.EmptyDataError:
        raise EmptySourceError(f"{str(path)!r} holds no rows") from None
    except (OSError, ValueError, OverflowError, pyarrow.ArrowException) as error:
        raise unreadable(path, error) from error
    double = sorted(header[header.duplicated() & header.notna()])
    require(not double, f"{str(path)!r} has the column {double[:1]} twice; name each once")
    require(
        isinstance(frame.index, pandas.RangeIndex),
        f"{str(path)!r} has rows of more fields than its header, which has {header.size}: put texts with "
        "commas in quotes",
    )
    return table


def read_json_table(path: Path) -> "pyarrow.Table":
    """Returns the rows of a file of JSON objects; raises as `read_table` does.

    A column whose values are of several types becomes Arrow's type of JSON.
    """
    import pyarrow

    rows = list(json_rows(path))
    names = dict.fromkeys(name for row in rows for name in row)
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
        return pyarrow.table(columns, list(names))
    except UnicodeEncodeError as error:  # half of a surrogate pair, which no UTF-8 can hold
        raise unreadable(path, error) from error


def json_rows(path: Path) -> Iterator[dict[str, object]]:
    """Yields the objects in a file. Raises InputError if it holds something else or names a field twice."""
    decoder = json.JSONDecoder(object_pairs_hook=_object)
    try:
        text = path.read_bytes().decode("utf-8-sig")
        place = JSON_SPACE.match(text).end()  # type: ignore[union-attr]  # it matches nothing, too
        values, number = [], 0
        while place < len(text):
            value, end = decoder.raw_decode(text, place)
            values = value if isinstance(value, list) and not number else [value]
            for row in values:
                number += 1
                kind = "object" if isinstance(row, dict) else type(row).__name__
                require(
                    kind == "object",
                    f"{str(path)!r}: row {number} is no object but {kind}; give "
                    'rows like {"text": "...", "label": 1}',
                )
                yield row
            place = JSON_SPACE.match(text, end).end()  # type: ignore[union-attr]
    except InputError:
        raise
    except RecursionError as error:
        raise InputError(f"{str(path)!r} is nested too deeply; give rows whose fields are values") from error
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from error


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise ValueError(f"an object names a field twice: {[name for name, _ in pairs][:10]}")
    return fields


def read_parquet_table(path: Path) -> "pyarrow.Table":
    """Returns the rows of a Parquet file; raises as `read_table` does.

    The names of labels that `datasets` wrote into the file are kept.
    """
    import pyarrow
    import pyarrow.parquet

    try:
        limit = most_bytes(path)
        with pyarrow.parquet.ParquetFile(path) as file:
            schema = file.schema_arrow
        require(
            len(set(schema.names)) == len(schema), f"{str(path)!r} has a column twice: {schema.names[:20]}"
        )
        texts = [field.name for field in schema if pyarrow.types.is_string(field.type)]
        with pyarrow.parquet.ParquetFile(path, read_dictionary=texts) as file:
            # The size that a file announces does not count how often a value is repeated.
            size = sum(file.metadata.row_group(k).total_byte_size for k in range(file.num_row_groups))
            check_expansion(str(path), max(size, file.metadata.num_rows), limit)
            batches, size = [], 0
            for batch in file.iter_batches(ROWS_AT_ONCE):
                batch.validate(full=True)
                size += sum(map(_bytes_of, batch.columns))
                check_expansion(str(path), size, limit)
                batches.append(batch)
            table = pyarrow.Table.from_batches(batches, None if batches else file.schema_arrow)
        columns = [
            column.cast(_plain(field.type)) for column, field in zip(table.columns, schema, strict=True)
        ]
    except (OSError, pyarrow.ArrowException, UnicodeDecodeError, MemoryError) as error:
        raise unreadable(path, error) from error
    metadata = _label_names((schema.metadata or {}).get(b"huggingface", b"{}"))
    return pyarrow.table(columns, schema.names).replace_schema_metadata({"huggingface": json.dumps(metadata)})


def _plain(kind: "pyarrow.DataType") -> "pyarrow.DataType":
    import pyarrow

    return kind.value_type if pyarrow.types.is_dictionary(kind) else kind


def _bytes_of(column: "pyarrow.Array") -> int:
    import pyarrow
    import pyarrow.compute

    kind = _plain(column.type)
    if kind is column.type or not (pyarrow.types.is_string(kind) or pyarrow.types.is_binary(kind)):
        return column.nbytes
    lengths = pyarrow.compute.binary_length(column.dictionary).take(column.indices)
    return (pyarrow.compute.sum(lengths).as_py() or 0) + column.indices.nbytes


def _label_names(metadata: bytes) -> dict[str, object]:
    """Returns, of what `datasets` wrote into a Parquet file about its columns, the names of labels."""
    try:
        features = json.loads(metadata)["info"]["features"]
        named = {name: feature.get("names") for name, feature in features.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        named = {}
    labels = {
        name: {"names": names, "_type": "ClassLabel"}
        for name, names in named.items()
        if isinstance(names, list)
        and all(isinstance(each, str) for each in names)
        and len(set(names)) == len(names) > 0
    }
    return {"info": {"features": labels}}


TABLE_FORMATS: "dict[str, Callable[[Path], pyarrow.Table]]" = {
    ".parquet": read_parquet_table,
    ".csv": read_csv_table,
    ".jsonl": read_json_table,
    ".json": read_json_table,
    ".ndjson": read_json_table,
}
