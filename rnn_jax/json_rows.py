"""Rows in JSON files: objects that follow each other, as lines or not, or those of one array."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rnn_jax.errors import InputError, require
from rnn_jax.files import unreadable

SPACE = re.compile(r"[ \t\r\n]*")


def json_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Yields the objects in a file. Raises InputError where it has something else, or a name twice."""
    decoder = json.JSONDecoder(object_pairs_hook=_object)
    try:
        text = path.read_bytes().decode("utf-8-sig")
        place = SPACE.match(text).end()  # type: ignore[union-attr]  # it matches nothing, too
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
            place = SPACE.match(text, end).end()  # type: ignore[union-attr]
    except InputError:
        raise
    except RecursionError as error:
        raise InputError(f"{str(path)!r} is nested too deeply; give rows whose fields are values") from error
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise ValueError(f"an object names a field twice: {[name for name, _ in pairs][:10]}")
    return fields
