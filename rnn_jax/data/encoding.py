"""A corpus as word ids: trains the tokeniser, encodes every split, and keeps both on disk for a next run."""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import tokenizers

from rnn_jax.data.tokenizer import LINE_BREAK, SCRIPT_PATTERN, WORD_PATTERN, Tokenizer
from rnn_jax.files import cached

EncodedRows = list[np.ndarray]  # int32[words] of each text
Encoded = tuple[Tokenizer, dict[str, EncodedRows]]  # and the rows of each split


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
    kind: str = "words",
    cache: Path,
) -> Encoded:
    """Returns a tokeniser trained on `vocabulary_texts`, and for each split its texts as int32 word ids.

    The result is stored in `cache` under a hash of everything that determines it; a file there that cannot be
    read is made again.
    """
    settings = {"vocab_size": vocab_size, "lowercase": lowercase, "strip_html": strip_html, "kind": kind}
    key = fingerprint({**splits, "": vocabulary_texts}, settings)

    def encode() -> Encoded:
        tokenizer = Tokenizer.train(vocabulary_texts, vocab_size, lowercase, strip_html, kind)
        return tokenizer, {name: tokenizer.encode(texts) for name, texts in splits.items()}

    return cached(cache / f"encoded-{key}.npz", encode, _packed, partial(_unpacked, splits))


def fingerprint(texts_by_name: Mapping[str, Sequence[str]], settings: Mapping[str, object]) -> str:
    """Returns a hash of texts, of settings, and of what splits texts into words."""
    versions = [tokenizers.__version__, WORD_PATTERN, SCRIPT_PATTERN, LINE_BREAK]
    digest = hashlib.sha256(json.dumps([settings, versions], sort_keys=True).encode())
    for name, texts in texts_by_name.items():
        digest.update(f"{len(name)} {name} {len(texts)} ".encode())
        for text in texts:
            encoded = text.encode("utf-8", "surrogatepass")
            digest.update(len(encoded).to_bytes(8, "big") + encoded)
    return digest.hexdigest()[:32]


def _packed(encoded: Encoded) -> dict[str, np.ndarray]:
    """Returns the tokeniser as bytes, and of each split all ids in one array and where its rows end."""
    tokenizer, rows_by_name = encoded
    arrays = {"tokenizer": np.frombuffer(tokenizer.to_json().encode(), dtype=np.uint8)}
    for name, rows in rows_by_name.items():
        kind = np.uint16 if tokenizer.vocab_size < 2**16 else np.int32
        arrays[f"ids_{name}"] = np.concatenate([np.zeros(0, np.int32), *rows]).astype(kind)
        arrays[f"ends_{name}"] = np.cumsum([len(row) for row in rows], dtype=int)
    return arrays


def _unpacked(names: Iterable[str], arrays: Mapping[str, np.ndarray]) -> Encoded:
    tokenizer = Tokenizer.from_json(arrays["tokenizer"].tobytes().decode())
    return tokenizer, {
        name: np.split(arrays[f"ids_{name}"].astype(np.int32), arrays[f"ends_{name}"])[:-1] for name in names
    }
