"""Soft labels: texts with a probability of each class, as a trained network or another model gives them."""

import contextlib
import hashlib
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rnn_jax.data.columns import column_of, texts_of
from rnn_jax.data.folders import HELD_OUT
from rnn_jax.data.reading import Reading, read_for
from rnn_jax.data.sources import Source, named, read_source
from rnn_jax.errors import InputError, require
from rnn_jax.files import keep

PROBABILITIES = "probabilities"  # the column
OFF_ONE = 1e-3  # how far from 1 the probabilities of a text may add up


def read_soft_labels(
    source: Source, label_names: Sequence[str], reading: Reading
) -> tuple[list[str], np.ndarray]:
    """Returns the texts of a source and the probability of each class, float32[n, C].

    Args:
      source: as in `read_source`, without its splits "validation" and "test". The column "probabilities" has
        objects {label name: probability}, or such objects as JSON: what `rnn-jax predict --probabilities`
        writes. A label that an object leaves out has probability 0.
      label_names: the C classes.
      reading: how the source is read, and the column of its texts.

    Raises:
      InputError: no such source or column, or probabilities that are none, or are of other labels.

    >>> import tempfile
    >>> from pathlib import Path
    >>> path = Path(tempfile.mkdtemp(), "soft.jsonl")
    >>> _ = path.write_text('{"text": "It drags.", "probabilities": {"bad": 0.75, "good": 0.25}}\\n')
    >>> texts, probabilities = read_soft_labels(str(path), ("bad", "good"), Reading("text"))
    >>> texts, probabilities.tolist()
    (['It drags.'], [[0.75, 0.25]])
    """
    texts: list[str] = []
    rows: list[list[float]] = []
    with read_for("data.soft_labels"):
        parts = read_source(source, reading)
    for part, data in parts.items():
        if part not in HELD_OUT:
            values = column_of(data, PROBABILITIES, part, reading.say)
            texts += texts_of(data, reading.text_column, part, reading.say)
            place = f"of split {part!r} of {named(source)}"
            rows += [
                probabilities_of(value, label_names, f"row {row} {place}") for row, value in enumerate(values)
            ]
    require(bool(texts), f"data.soft_labels is {named(source)}, which has no texts to train on")
    return texts, np.asarray(rows, np.float32)


def probabilities_of(value: object, label_names: Sequence[str], place: str) -> list[float]:
    """Returns the probabilities of the labels in their order, from an object or its JSON.

    Raises:
      InputError: the value is neither, names an unknown label, or its numbers are no probabilities; the
        message begins with `place`.

    >>> probabilities_of('{"good": 0.75, "bad": 0.25}', ["bad", "good"], "row 0")
    [0.25, 0.75]
    """
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            value = json.loads(value)
    if not isinstance(value, dict):
        raise InputError(
            f'{place} has probabilities {value!r}; give an object such as {{"good": 0.9, "bad": 0.1}}'
        )
    given = {name: p for name, p in value.items() if p is not None}  # Parquet has every key in every row
    unknown = sorted({*given} - {*label_names})
    require(
        not unknown, f"{place} has probabilities of {unknown[:3]}; the labels are {list(label_names)[:20]}"
    )
    found = [given.get(name, 0.0) for name in label_names]
    numbers = all(type(p) in (int, float) and 0 <= p <= 1 for p in found)
    require(
        numbers and abs(math.fsum(found) - 1) <= OFF_ONE,
        f"{place} has probabilities {given}; they must be from 0 to 1 and add up to 1",
    )
    return [float(p) for p in found]


def kept_soft_labels(folder: Path, given: Any) -> Path:
    """Writes texts and their probabilities into a folder, as `read_soft_labels` reads them.

    The name tells what is in the file, so that a run that goes on finds the same.

    Args:
      folder: it is made if it is not there.
      given: a pair (texts, probabilities): n strings, and n objects {label name: probability}.

    Raises:
      InputError: it is no such pair, or the file cannot be written.
    """
    try:
        texts, probabilities = given
        pairs = list(zip(texts, probabilities, strict=True))
        rows = [
            {"text": text, PROBABILITIES: {str(name): float(p) for name, p in of.items()}}
            for text, of in pairs
        ]
        lines = "".join(f"{json.dumps(row)}\n" for row in rows).encode()
    except (TypeError, ValueError, AttributeError) as error:
        raise InputError(
            "data.soft_labels is neither a source nor a pair (texts, probabilities) of equal lengths, with "
            f"{{label: probability}} for each text: {error}"
        ) from error
    path = folder / f"soft-labels-{hashlib.sha256(lines).hexdigest()[:32]}.jsonl"
    return keep(path, lambda file: file.write(lines))
