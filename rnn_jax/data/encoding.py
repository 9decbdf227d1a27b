"""A corpus as word ids: trains the tokeniser, encodes every split, and keeps both on disk for a next run."""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers

from rnn_jax.data.tokenizer import LINE_BREAK, WORD_PATTERN, Tokenizer
from rnn_jax.files import replacing

Rows = list[np.ndarray]


def default_cache() -> Path:
    """Returns $RNN_JAX_CACHE, or the folder rnn_jax in $XDG_CACHE_HOME or ~/.cache."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("RNN_JAX_CACHE") or base / "rnn_jax")


def encode_splits(
    splits: Mapping[str, Sequence[str]],
    vocabulary_texts: Sequence[str],
    *,
    vocab_size: int,
    lowercase: bool,
    strip_html: bool,
    cache: Path,
) -> tuple[Tokenizer, dict[str, Rows]]:
    """Returns a tokeniser trained on `vocabulary_texts`, and for each split its texts as int32 word ids.

    The result is stored in `cache` under a hash of everything that determines it; a file there that cannot be
    read is made again.
    """
    settings: dict[str, Any] = {"vocab_size": vocab_size, "lowercase": lowercase, "strip_html": strip_html}
    key = fingerprint({**splits, "": vocabulary_texts}, settings)
    path = cache / f"encoded-{key}.npz"
    with contextlib.suppress(Exception):  # a torn file raises one of a dozen errors: make it again
        return _read(path, splits)
    tokenizer = Tokenizer.train(vocabulary_texts, **settings)
    rows = {name: tokenizer.encode(texts) for name, texts in splits.items()}
    with contextlib.suppress(OSError):  # a cache that cannot be written costs seconds in the next run
        _write(path, tokenizer, rows)
    return tokenizer, rows


def fingerprint(texts_by_name: Mapping[str, Sequence[str]], settings: dict) -> str:
    """Returns a hash of texts, of settings, and of what splits texts into words."""
    versions = [tokenizers.__version__, WORD_PATTERN, LINE_BREAK]
    digest = hashlib.sha256(json.dumps([settings, versions], sort_keys=True).encode())
    for name, texts in texts_by_name.items():
        digest.update(f"{len(name)} {name} {len(texts)} ".encode())
        for text in texts:
            encoded = text.encode("utf-8", "surrogatepass")
            digest.update(len(encoded).to_bytes(8, "big") + encoded)
    return digest.hexdigest()[:32]


def _read(path: Path, names: Iterable[str]) -> tuple[Tokenizer, dict[str, Rows]]:
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        tokenizer = Tokenizer.from_json(arrays["tokenizer"].tobytes().decode())
        return tokenizer, {
            name: np.split(arrays[f"ids_{name}"].astype(np.int32), arrays[f"ends_{name}"])[:-1]
            for name in names
        }


def _write(path: Path, tokenizer: Tokenizer, rows_by_name: dict[str, Rows]) -> None:
    """Writes to a temporary file and renames it, so that a killed run leaves no half of a cache."""
    arrays: dict[str, Any] = {"tokenizer": np.frombuffer(tokenizer.to_json().encode(), dtype=np.uint8)}
    for name, rows in rows_by_name.items():
        kind = np.uint16 if tokenizer.vocab_size < 2**16 else np.int32
        arrays[f"ids_{name}"] = np.concatenate([np.zeros(0, np.int32), *rows]).astype(kind)
        arrays[f"ends_{name}"] = np.cumsum([len(row) for row in rows], dtype=int)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        np.savez(file, **arrays)
