"""Hostile word vectors and parameters: each case is refused, or what is read is in the file."""

import io
import random
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from rnn_jax.convert.parameter_files import load_params, save_params
from rnn_jax.data.tokenizer import SPECIAL_WORDS
from rnn_jax.vectors.lookup import read_vectors
from tests.stress import hostile_files as files
from tests.stress.hostile_tables import Case


def vector_case(rng: random.Random, folder: Path) -> Case:
    """Returns a case of a file or an archive of word vectors."""
    suffix = rng.choice((".txt", ".vec", ".bin", ".txt.gz", ".zip"))
    words, size = [*files.WORDS, "é", "\u200b", "a_1", "nan", "1"], rng.choice((1, 3, 5))
    table: Any = np.float32(np.random.default_rng(rng.randrange(2**32)).normal(size=(len(words), size)))
    odd = rng.choice((None, None, "nan", "inf", "1e999", "1_0", "0x1", "\u0661", "-0.0", "1e-46", ""))
    count, large = len(words), 10 ** rng.randrange(20)
    headers = f"{count} {size}", f"{large} {size}", f"-1 {size}", f"{count} {large}", "9" * 5000 + " 3"
    header = rng.choice(("", "", *(f"{line}\n" for line in headers)))
    entries = [f"{word} {' '.join(map(repr, row.tolist()))}" for word, row in zip(words, table, strict=True)]
    if odd is not None:
        entries[rng.randrange(len(entries))] = f"great {odd} " + " ".join(["1"] * (size - 1))
    content = (header + "\n".join(entries) + "\n").encode()
    if suffix == ".bin":
        content = (header or f"{len(words)} {size}\n").encode()
        content += b"".join(w.encode() + b" " + row.tobytes() for w, row in zip(words, table, strict=True))
    kind, plain = files.damaged(rng, content) if rng.random() < 0.4 else ("odd entries", content)
    name, stored = f"vectors{suffix}", plain
    if suffix in (".txt.gz", ".zip"):
        kind, stored = _packed(rng, suffix, kind, plain)
    path = folder / name
    path.write_bytes(stored)

    def run() -> None:
        found = read_vectors(str(path), [*SPECIAL_WORDS, *words])
        assert np.isfinite(found.table).all()
        assert not found.table[~found.found].any()
        for row in found.table[found.found]:
            assert _is_in(row, plain), "a vector that is not in the file"

    return f"{suffix}: {kind}", run


def _packed(rng: random.Random, suffix: str, kind: str, plain: bytes) -> tuple[str, bytes]:
    if rng.random() < 0.03:
        piece = rng.choice((b"\n", b"a 1 2 3\n", b"a\n", b"\0", b"1 "))
        if suffix == ".zip" and rng.random() < 0.5:
            return "a bomb", files.zip_bomb("v.txt", b"a 1 2\n")
        return "a bomb", files.bomb(piece) if suffix == ".txt.gz" else _zipped(
            "v.bin", b"9 3\n" + bytes(2**27)
        )
    if suffix == ".txt.gz":
        import gzip

        stored = gzip.compress(plain, mtime=0)
    else:
        names = (
            "v.txt",
            "../../v.txt",
            "/etc/v.txt",
            "C:\\v.vec",
            "v.txt/",
            "a" * 300 + ".txt",
            "\x1b[2J.txt",
            "v.bin",
        )
        stored = _zipped(rng.choice(names), plain)
        kind = "path traversal, odd members" if kind == "odd entries" else kind
    if rng.random() < 0.5:
        broken, stored = files.damaged(rng, stored)
        return f"archive: {broken}", stored
    return kind, stored


def _zipped(name: str, content: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return file.getvalue()


def _is_in(row: np.ndarray, content: bytes) -> bool:
    """Returns whether the numbers stand in the content, as bytes of float32 or as the text of a line."""
    if row.astype("<f4").tobytes() in content:
        return True
    for line in content.split(b"\n"):
        try:
            numbers = np.array([float(part) for part in line.split()[-len(row) :]])
        except ValueError:
            continue
        with np.errstate(over="ignore"):
            if np.array_equal(numbers.astype(np.float32), row):
                return True
    return False


def parameter_case(rng: random.Random, folder: Path) -> Case:
    """Returns a case of a file of parameters, ours or of another program."""
    suffix = rng.choice((".npz", ".safetensors"))
    numbers = np.random.default_rng(rng.randrange(2**32))
    arrays: dict[str, Any] = {
        "a/kernel": np.float32(numbers.normal(size=(3, 4))),
        "a/bias": np.arange(4.0),
        "b": np.array(7),
    }
    path = folder / f"parameters{suffix}"
    save_params(path, {"a": {"kernel": arrays["a/kernel"], "bias": arrays["a/bias"]}, "b": arrays["b"]})
    content, kind = path.read_bytes(), "whole"
    choice = rng.random()
    if choice < 0.15 and suffix == ".npz":
        kind, content = _foreign_npz(rng)
    elif choice < 0.3 and suffix == ".safetensors":
        kind, content = "a header that lies", _lying(rng, content)
    elif choice < 0.95:
        kind, content = files.damaged(rng, content)
    path.write_bytes(content)

    def run() -> None:
        found = load_params(path)
        if kind not in ("a foreign .npz", "a header that lies"):
            flat = {"a/kernel": found["a"]["kernel"], "a/bias": found["a"]["bias"], "b": found["b"]}
            assert all(np.array_equal(flat[name], array) for name, array in arrays.items()), "other arrays"

    return f"{suffix}: {kind}", run


def _foreign_npz(rng: random.Random) -> tuple[str, bytes]:
    if rng.random() < 0.1:
        return "a bomb", files.zip_bomb("a.npy", _npy_header("(134217728,)"))
    shapes = (
        "(2,)",
        "(1000000000000,)",
        "(-1,)",
        "(2**40, 2)",
        "(10**30,)",
        "()",
        "[2]",
        "(2,)*10**9",
        "exec('1')",
    )
    kinds = ("<f4", "|O", "<U9", "V8", "<f99", "[('a', '<f4')]", "<M8[ns]", "")
    head = _npy_header(rng.choice(shapes), rng.choice(("<f4", *kinds)))
    return "a foreign .npz", _zipped(rng.choice(("a.npy", "../a.npy", "a", "/", "a/b/.npy")), head + bytes(8))


def _npy_header(shape: str, kind: str = "<f4") -> bytes:
    text = f"{{'descr': {kind!r}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def _lying(rng: random.Random, content: bytes) -> bytes:
    size = rng.choice((0, 1, 2**20, 2**63, 2**64 - 1, len(content)))
    head = rng.choice(
        (b"{}", b"[" * 1000, b'{"a":{"dtype":"F32","shape":[1e9],"data_offsets":[0,9]}}', b"null")
    )
    return rng.choice((struct.pack("<Q", size) + content[8:], struct.pack("<Q", len(head)) + head + bytes(8)))
