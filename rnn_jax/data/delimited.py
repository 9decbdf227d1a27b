"""Files of separated values: CSV, TSV, and what spreadsheets call CSV.

pandas reads them. What stands between the fields is found in the header and the first rows, and a number
that is written with zeros in front is kept as it is written.
"""

import csv
import io
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from rnn_jax.data.reading import EmptySourceError, Reading, encoding_of, not_text, opened, split_name
from rnn_jax.errors import InputError, require
from rnn_jax.files import DAMAGE, unreadable

if TYPE_CHECKING:
    import pandas
    import pyarrow

DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
USUAL_TEXTS = ("text", "review", "sentence", "content", "comment", "tweet")  # columns of texts
LOOKED_AT = 2**16  # characters from which the delimiter is told
LONGEST_FIELD = 2**30
ZERO_IN_FRONT = re.compile(r"\s*[+-]?0\d")
QUOTED = re.compile(r'"(?:[^"]|"")*"')


class Layout(NamedTuple):
    """How a file of separated values is written.

    Attributes:
      encoding: of its bytes.
      delimiter: what stands between its fields.
      quoting: of `csv`: QUOTE_NONE where quotes are characters like others.
    """

    encoding: str
    delimiter: str
    quoting: Literal[0, 3]


def layout_of(path: Path, reading: Reading) -> Layout:
    """Returns how a file is written: as `reading` says, or as its beginning, header and rows show.

    Raises:
      InputError: its bytes are no text in that encoding.
    """
    encoding = encoding_of(path, reading)
    try:
        delimiter = reading.delimiter or _delimiter(path, encoding, reading.say)
        bare = delimiter == "\t" and _bare_quotes(path, encoding)
    except UnicodeError as error:
        raise not_text(path, encoding, error) from error
    return Layout(encoding, delimiter, csv.QUOTE_NONE if bare else csv.QUOTE_MINIMAL)


def read_delimited(path: Path, reading: Reading) -> "pyarrow.Table":
    """Returns the rows of a file whose first line names the columns; raises as `tables.read_table` does.

    The column of texts, or columns of usual names for it, are read as text, digits or not. Other columns are
    numbers where all their fields are, none has a zero in front of others, and 64 bits hold each.
    """
    import pandas
    import pyarrow

    encoding = ""
    try:
        encoding, delimiter, quoting = layout_of(path, reading)
        # By default pandas reads the texts "null", "None" and "NA" as missing; here only an empty field is.
        options = {"sep": delimiter, "quoting": quoting, "keep_default_na": False, "na_values": [""]}
        read = partial(_read_frame, path, encoding, **options)
        header = read(header=None, nrows=1, dtype=str).iloc[0]
        texts = _text_columns([name for name in header if isinstance(name, str)], reading.text_column)
        # Whole columns: a part of a text column may look like numbers.
        frame = read(low_memory=False, dtype=dict.fromkeys(texts, str))
        frame = _as_written(frame, read)
        table = pyarrow.Table.from_pandas(frame, preserve_index=False)
    except pandas.errors.EmptyDataError:
        raise EmptySourceError(f"{str(path)!r} holds no rows") from None
    except InputError:
        raise
    except UnicodeError as error:
        raise not_text(path, encoding, error) from error
    except pandas.errors.ParserError as error:
        raise _misshapen(path, error) from error
    except (*DAMAGE, ValueError, OverflowError, pyarrow.ArrowException) as error:
        raise unreadable(path, error) from error
    double = sorted(header[header.duplicated() & header.notna()])
    require(not double, f"{str(path)!r} has the column {double[:1]} twice; name each once")
    if not isinstance(frame.index, pandas.RangeIndex):
        raise long_row(path, "the first", header.size + frame.index.nlevels)
    return table


def open_quotes(path: Path, row: int) -> InputError:
    """Returns the error of a file that ends inside quotes, which a row opens; the header is row 1."""
    return InputError(
        f"{str(path)!r} ends inside quotes that are open since row {row} (the header is row 1); close them, "
        "and write a quote inside quotes twice"
    )


def long_row(path: Path, row: str, fields: int) -> InputError:
    """Returns the error of a file one of whose rows has more fields than the header."""
    return InputError(
        f"{str(path)!r} has rows of more fields than its header, such as {row}, which has {fields}: put "
        "texts with the delimiter in quotes"
    )


def _misshapen(path: Path, error: ValueError) -> InputError:
    """Returns the error of a file that pandas cannot cut into rows; it counts them from 0 or from 1."""
    if found := re.search(r"EOF inside string starting at row (\d+)", str(error)):
        return open_quotes(path, int(found[1]) + 1)
    if found := re.search(r"Expected \d+ fields in line (\d+), saw (\d+)", str(error)):
        return long_row(path, f"row {found[1]} (the header is row 1)", int(found[2]))
    return unreadable(path, error)


def _read_frame(path: Path, encoding: str, **options: Any) -> "pandas.DataFrame":
    import pandas

    with opened(path) as file:
        return pandas.read_csv(file, encoding=encoding, compression=None, **options)


def _text_columns(header: list[str], text_column: str) -> list[str]:
    """Returns the columns whose digits are text: that of the texts, or else those of usual names."""
    folded = {name: name.strip().lower() for name in header}
    named = [name for name in header if folded[name] == text_column.strip().lower()]
    return named or [name for name in header if folded[name] in USUAL_TEXTS]


def _as_written(frame: "pandas.DataFrame", read: "Callable[..., pandas.DataFrame]") -> "pandas.DataFrame":
    """Returns the rows, and as text what is no number: digits after zeros, and integers beyond 64 bits."""
    import pandas

    kinds = [kind.kind for kind in frame.dtypes]
    large = [place for place, kind in enumerate(kinds) if kind == "O" and _has_integers(frame.iloc[:, place])]
    numbers = [place for place, kind in enumerate(kinds) if kind in "iuf" or place in large]
    if not numbers or not isinstance(frame.index, pandas.RangeIndex):
        return frame
    written = read(dtype=str, usecols=numbers, index_col=False)
    for place, name in zip(numbers, written.columns, strict=True):
        column = written[name]
        if place in large or column.str.match(ZERO_IN_FRONT).fillna(False).astype(bool).any():
            frame[frame.columns[place]] = column.str.strip()
    return frame


def _has_integers(column: "pandas.Series") -> bool:
    """Returns whether a column of objects has some of Python's integers: those beyond 64 bits."""
    return any(type(value) is int for value in column)


def _delimiter(path: Path, encoding: str, say: Callable[[str], None]) -> str:
    """Returns what stands between fields: what the suffix says, unless header and rows say otherwise."""
    # A stream of text decodes more than is asked of it, never a part of a character.
    with opened(path) as file, io.TextIOWrapper(file, encoding, newline="") as text:
        sample = text.read(LOOKED_AT)
    usual = "\t" if split_name(path)[0] in (".tsv", ".tab") else ","
    rows_by = {delimiter: _fields(sample, delimiter) for delimiter in (usual, *DELIMITERS)}
    scores = {delimiter: _agreement(counts) for delimiter, counts in rows_by.items()}
    best = max(scores, key=lambda delimiter: (scores[delimiter], rows_by[delimiter][:1]))
    header = rows_by[usual][0] if rows_by[usual] else 0
    if best == usual or scores[best] < 0.9 or (header > 1 and scores[usual] >= 0.5):
        return usual
    say(
        f"{path.name}: fields stand between {DELIMITERS[best]}, as its header and rows show "
        "(data.delimiter sets another)"
    )
    return best


def _fields(sample: str, delimiter: str) -> list[int]:
    """Returns how many fields each row of the beginning of a file has, but the last, which may be cut."""
    csv.field_size_limit(LONGEST_FIELD)
    try:
        counts = [len(row) for row in csv.reader(io.StringIO(sample, newline=""), delimiter=delimiter) if row]
    except csv.Error:
        return []
    return counts[:-1] if len(sample) == LOOKED_AT and len(counts) > 2 else counts


def _agreement(counts: list[int]) -> float:
    """Returns the share of rows that have as many fields as the header; 0 where that has one alone."""
    if len(counts) < 2 or counts[0] < 2:
        return 0.0
    return sum(count == counts[0] for count in counts[1:]) / (len(counts) - 1)


def _bare_quotes(path: Path, encoding: str) -> bool:
    """Returns whether quotes in a file of tabs are plain characters: some field is not quoted as in CSV.

    Then a row is a line. Read as CSV, a text that begins with a quote would swallow the rows after it.
    """
    with opened(path) as file, io.TextIOWrapper(file, encoding) as lines:
        whole, odd, fields = True, False, None
        for line in lines:
            parts = line.rstrip("\r\n").split("\t")
            fields = len(parts) if fields is None else fields
            whole = whole and (len(parts) == fields or parts == [""])
            odd = odd or any(part.startswith('"') and not QUOTED.fullmatch(part) for part in parts)
    return whole and odd
