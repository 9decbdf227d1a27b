"""Hostile tables: each case is refused, or read as an independent reader reads it."""

import csv
import functools
import io
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from rnn_jax.data.columns import texts_of
from rnn_jax.data.sources import read_source
from rnn_jax.data.splits import load_corpus
from rnn_jax.errors import InputError
from tests.stress import hostile_files as files

Case = tuple[str, Callable[[], object]]  # the kind, and what raises an AssertionError for a wrong answer
SPLITS: dict[str, Any] = {"label_names": (), "validation_share": 0.3, "test_share": 0.3, "split_seed": 0}


def table_case(rng: random.Random, folder: Path) -> Case:
    """Returns a case of a CSV, JSON or Parquet file."""
    suffix = rng.choice((".csv", ".jsonl", ".json", ".parquet"))
    table = files.rows(rng, rng.choice((0, 0, 0.3)))
    if rng.random() < 0.01 and suffix == ".parquet":
        kind, content = "a bomb", _parquet_bomb()
    elif rng.random() < 0.02:
        kind, content = _nested(rng)
    else:
        write = {".csv": files.csv_bytes, ".parquet": lambda rng, rows: _parquet(rows)}
        content = write.get(suffix, files.json_bytes)(rng, table)
        kind, content = files.damaged(rng, content) if rng.random() < 0.6 else ("odd rows", content)
    path = folder / f"table{suffix}"
    path.write_bytes(content)

    def run() -> None:
        data = read_source(str(path))["train"]
        texts = texts_of(data, "text", "train")
        assert texts == READERS[suffix](content), "not what an independent reader reads"
        labels: Any = {"text_column": "text", "label_column": "label"}
        try:
            corpus = load_corpus(str(path), **labels, **SPLITS)
        except InputError:  # of labels: the texts are read
            return
        kept = [text for split in corpus[:3] for text in split.texts]
        assert sorted(kept) == sorted(text for text in texts if text.strip()), "texts are lost"

    return f"{suffix}: {kind}", run


def _parquet(table: list[dict]) -> bytes:
    import pyarrow
    import pyarrow.parquet

    file = io.BytesIO()
    names = list(dict.fromkeys(name for row in table for name in row)) or ["text", "label"]
    columns = []
    for name in names:
        values = [row.get(name) for row in table]
        try:
            columns.append(pyarrow.array(values))
        except (pyarrow.ArrowException, OverflowError, UnicodeEncodeError):
            columns.append(pyarrow.array([ascii(value).encode() for value in values]))
    pyarrow.parquet.write_table(pyarrow.table(columns, names), file)
    return file.getvalue()


@functools.cache
def _parquet_bomb() -> bytes:
    """Returns a file of a few kilobytes in which a text of a megabyte is met a thousand times."""
    import pyarrow
    import pyarrow.parquet

    file = io.BytesIO()
    texts = pyarrow.DictionaryArray.from_arrays(np.zeros(2**10, np.int32), ["x" * 2**20])
    pyarrow.parquet.write_table(pyarrow.table({"text": texts}), file, store_schema=False)
    return file.getvalue()


def _nested(rng: random.Random) -> tuple[str, bytes]:
    depth = rng.choice((100, 10_000, 10**6))
    opened, closed = rng.choice(((b"[", b"]"), (b'{"text":', b"}")))
    return "nested deeply", b'{"text":' + opened * depth + b"1" + closed * depth + b"}\n"


def _csv_texts(content: bytes) -> list[str]:
    csv.field_size_limit(2**30)
    lines = list(csv.reader(io.StringIO(content.decode(_encoding(content)), newline="")))
    header, *records = [line for line in lines if line]
    place = header.index("text")
    # pandas leaves out lines of white space alone, which `csv` gives as one field.
    return [
        record[place]
        for record in records
        if (record != [""] and "".join(record).strip(" \t")) or len(record) > 1
    ]


def _encoding(content: bytes) -> str:
    marks = {
        b"\xff\xfe\0\0": "utf-32",
        b"\0\0\xfe\xff": "utf-32",
        b"\xff\xfe": "utf-16",
        b"\xfe\xff": "utf-16",
    }
    return next((name for mark, name in marks.items() if content.startswith(mark)), "utf-8-sig")


def _json_texts(content: bytes) -> list[str]:
    text = content.decode(_encoding(content))
    try:
        value = json.loads(text)
        found = value if isinstance(value, list) else [value]
    except ValueError:
        joined = (
            "[" + ",".join(line for line in text.replace("\r", "\n").split("\n") if line.strip(" \t")) + "]"
        )
        try:
            found = json.loads(joined)
        except ValueError:  # objects of several lines
            found, decoder = [], json.JSONDecoder()
            while text := text.lstrip(" \t\r\n"):
                value, end = decoder.raw_decode(text)
                found.append(value)
                text = text[end:]
    return [row["text"] for row in found]


def _parquet_texts(content: bytes) -> list[str]:
    import pyarrow.parquet

    return pyarrow.parquet.read_table(io.BytesIO(content)).column("text").to_pylist()


READERS = {".csv": _csv_texts, ".jsonl": _json_texts, ".json": _json_texts, ".parquet": _parquet_texts}
