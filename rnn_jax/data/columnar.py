"""Files of columns: Parquet, Arrow, and the sheets of Excel."""

import datetime
import itertools
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from rnn_jax.data.delimited import USUAL_TEXTS
from rnn_jax.data.objects import table_of_rows
from rnn_jax.data.reading import EmptySourceError, Reading
from rnn_jax.errors import InputError, require
from rnn_jax.files import DAMAGE, check_expansion, most_bytes, unreadable

if TYPE_CHECKING:
    import pyarrow
    import pyarrow.parquet

ROWS_AT_ONCE = 1024  # of a Parquet file, at most, decoded before their size is known


def read_parquet(path: Path, reading: Reading) -> "pyarrow.Table":
    """Returns the rows of a Parquet file; raises as `tables.read_table` does.

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
        plain = pyarrow.schema([(field.name, _plain(field.type)) for field in schema])
        batches, size = [], 0
        for batch in _batches(path, limit):
            batch.validate(full=True)
            size += sum(map(_bytes_of, batch.columns))
            check_expansion(str(path), size, limit)
            columns = [column.cast(kind) for column, kind in zip(batch.columns, plain.types, strict=True)]
            batches.append(pyarrow.record_batch(columns, schema=plain))
        table = pyarrow.Table.from_batches(batches, plain)
    except (OSError, pyarrow.ArrowException, UnicodeDecodeError, MemoryError) as error:
        raise unreadable(path, error) from error
    return _labelled(table, schema)


def _batches(path: Path, limit: int) -> "Iterator[pyarrow.RecordBatch]":
    """Yields the rows of a Parquet file, no more at once than surely fit into `limit` bytes.

    Raises:
      InputError: the file announces more bytes, or more rows, than that.
    """
    import pyarrow
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(path) as file:
        groups = [file.metadata.row_group(number) for number in range(file.num_row_groups)]
        size = sum(group.total_byte_size for group in groups)
        check_expansion(str(path), max(size, file.metadata.num_rows), limit)
        texts = [field.name for field in file.schema_arrow if pyarrow.types.is_string(field.type)]
        with pyarrow.parquet.ParquetFile(path, metadata=file.metadata, read_dictionary=texts) as coded:
            for number, group in enumerate(groups):
                # What is announced does not count how often a text is repeated, and it may be wrong.
                longest = max(group.total_byte_size, _longest(coded, number, texts), 1) if texts else 1
                rows = min(max(limit // longest, 1), ROWS_AT_ONCE)
                yield from file.iter_batches(rows, row_groups=[number])


def _longest(file: "pyarrow.parquet.ParquetFile", group: int, texts: list[str]) -> int:
    """Returns the bytes of the longest text in the dictionaries of a row group.

    Only one row is read with such dictionaries: each batch has a copy of all texts before it.
    """
    import pyarrow.compute

    longest = 0
    for batch in itertools.islice(file.iter_batches(1, row_groups=[group], columns=texts), 1):
        for column in batch.columns:
            if pyarrow.types.is_dictionary(column.type) and pyarrow.types.is_string(_plain(column.type)):
                lengths = pyarrow.compute.binary_length(column.dictionary)
                longest = max(longest, pyarrow.compute.max(lengths).as_py() or 0)
    return longest


def read_arrow(path: Path, reading: Reading) -> "pyarrow.Table":
    """Returns the rows of an Arrow file, as a file or a stream; raises as `tables.read_table` does."""
    import pyarrow

    try:
        limit = most_bytes(path)
        with pyarrow.memory_map(str(path)) as file:
            start = file.read(6)
            file.seek(0)
            opened = pyarrow.ipc.open_file if start == b"ARROW1" else pyarrow.ipc.open_stream
            table = opened(file).read_all()
            require(
                len(set(table.column_names)) == table.num_columns,
                f"{str(path)!r} has a column twice: {table.column_names[:20]}",
            )
            check_expansion(str(path), table.nbytes, limit)
            table.validate(full=True)
            kinds = [_plain(field.type) for field in table.schema]
            columns = [column.cast(kind) for column, kind in zip(table.columns, kinds, strict=True)]
    except (OSError, ValueError, pyarrow.ArrowException, MemoryError) as error:
        if isinstance(error, InputError):
            raise
        raise unreadable(path, error) from error
    return _labelled(pyarrow.table(columns, table.column_names), table.schema)


def _labelled(table: "pyarrow.Table", schema: "pyarrow.Schema") -> "pyarrow.Table":
    """Returns the table with the names of labels that `datasets` wrote into its file's schema."""
    metadata = _label_names((schema.metadata or {}).get(b"huggingface", b"{}"))
    return table.replace_schema_metadata({"huggingface": json.dumps(metadata)})


def read_excel(path: Path, reading: Reading) -> "pyarrow.Table":
    """Returns the rows of the first sheet of an Excel file; raises as `tables.read_table` does.

    The first row names the columns. A number in the column of texts is its digits; a date is ISO 8601. Empty
    rows before and after all others are left out, and those between them unless `reading.every_row` is set.
    """
    try:
        import openpyxl
    except ImportError as error:
        raise InputError(
            f"{str(path)!r} needs openpyxl; install it with: pip install 'rnn_jax[excel]'"
        ) from error
    try:
        with zipfile.ZipFile(path) as archive:
            check_expansion(str(path), sum(entry.file_size for entry in archive.infolist()), most_bytes(path))
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
        try:
            names = book.sheetnames
            cells = list(book[names[0]].iter_rows(values_only=True))
        finally:
            book.close()
    except InputError:
        raise
    except (*DAMAGE, ValueError, KeyError, IndexError, TypeError, AttributeError, SyntaxError) as error:
        raise unreadable(path, error) from error
    if len(names) > 1:
        reading.say(f"{path.name}: the sheet {names[0]!r} is read; passed over: {', '.join(names[1:6])}")
    filled = [number for number, row in enumerate(cells) if any(cell is not None for cell in row)]
    if reading.every_row and filled:
        filled = list(range(filled[0], filled[-1] + 1))
    return _sheet(path, [cells[number] for number in filled], reading)


def _sheet(path: Path, cells: list[tuple], reading: Reading) -> "pyarrow.Table":
    if not cells:
        raise EmptySourceError(f"{str(path)!r} holds no rows")
    header = ["" if name is None else str(name) for name in cells[0]]
    named = [name for name in header if name]
    require(len(set(named)) == len(named), f"{str(path)!r} has a column twice: {named[:20]}; name each once")
    if len(cells) == 1:
        raise EmptySourceError(f"{str(path)!r} holds no rows", named)
    texts = (reading.text_column.strip().lower(), *USUAL_TEXTS)

    def value(name: str, cell: object) -> object:
        if isinstance(cell, datetime.date | datetime.time | datetime.timedelta):
            return str(cell)
        return str(cell) if cell is not None and name.strip().lower() in texts else cell

    rows = [
        {name: value(name, cell) for name, cell in zip(header, row, strict=False) if name}
        for row in cells[1:]
    ]
    return table_of_rows(path, rows)


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
