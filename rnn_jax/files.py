"""Files: the paths that a user gives, how far contents may expand, writing a file whole, and caches."""

import errno
import io
import lzma
import os
import secrets
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol, TypeVar

import numpy as np

from rnn_jax.errors import InputError, require

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

Made = TypeVar("Made")

FREE = 2**26  # bytes that the contents of any file may take
EXPANSION = 100  # and, of a large file, times its own size; texts and vectors rarely compress to a tenth
LARGEST_TEXT = 2**28  # bytes of a file that is read whole: the config of a run, its tokeniser
NOT_THERE = (errno.ENOENT, errno.ENOTDIR)
# What the libraries raise for files that are cut off, damaged, encrypted or compressed in another way.
DAMAGE = (OSError, EOFError, RuntimeError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, struct.error)
TEMPORARY = ".tmp"  # the suffix of a file that is being written


def path_of(source: str | Path) -> Path:
    """Returns the path, `~` expanded; whether something is there is not asked.

    Raises:
      InputError: it is empty, or no path that the system can look up.
    """
    require(str(source) != "", "the path is empty; give a file or folder")
    try:
        path = Path(source).expanduser()
        path.stat()
    except OSError as error:
        if error.errno not in NOT_THERE:
            raise InputError(f"{_short(source)} cannot be looked up: {error.strerror}") from error
    except (ValueError, RuntimeError) as error:  # a NUL, and "~nobody"
        raise InputError(f"{_short(source)} is no path: {error}") from error
    return path


def most_bytes(path: Path) -> int:
    """Returns how many bytes the contents of a compressed file may take in memory, or in a stream."""
    return max(FREE, EXPANSION * path.stat().st_size)


def check_expansion(source: str, size: int, limit: int) -> None:
    """Raises InputError where contents of `size` bytes are more than `most_bytes` said."""
    require(
        size <= limit,
        f"{source!r} expands to over {limit:,} bytes (the most is {EXPANSION} times its size, or {FREE:,}): "
        "it is damaged or made to fill the memory; give it decompressed, or get it again",
    )


class Readable(Protocol):
    """What gives bytes: a file, or a decompressed stream of any library."""

    def read(self, size: int, /) -> bytes:
        """Returns at most `size` bytes; none at the end."""


class Bounded(io.RawIOBase):
    """A decompressed stream that ends in an InputError where a file expands to more than texts do."""

    def __init__(self, stream: Readable, path: Path):
        self.stream, self.name, self.limit, self.size = stream, str(path), most_bytes(path), 0

    def readable(self) -> bool:
        """Returns True: the protocol of a raw stream."""
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        """Reads into the buffer, and returns how many bytes."""
        room = memoryview(buffer).cast("B")
        chunk = self.stream.read(len(room))
        room[: len(chunk)] = chunk
        self.size += len(chunk)
        check_expansion(self.name, self.size, self.limit)
        return len(chunk)


def read_text(path: Path) -> str:
    """Returns what is in a file of UTF-8.

    Raises:
      InputError: it is missing, no file, over LARGEST_TEXT bytes, or not UTF-8.
    """
    try:
        require(path.is_file() or not path.exists(), f"{path} cannot be read: it is no file")
        size = path.stat().st_size
        require(
            size <= LARGEST_TEXT,
            f"{path} has {size:,} bytes; of a file of a run at most {LARGEST_TEXT:,} are read",
        )
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error


def unreadable(path: Path, error: Exception) -> InputError:
    """Returns the error of a file that a library could not read, for the reason that it gave."""
    reason = f"{type(error).__name__}: {error}"[:500]
    return InputError(f"could not read {str(path)!r}: {reason}; if it is cut off or damaged, get it again")


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Gives a temporary file that takes the place of `path` at the end, so that no half of one is left.

    A process that is killed leaves the temporary file: `leftovers` finds it.
    """
    # The process alone does not tell two threads apart, nor two containers that share a folder.
    temporary = path.with_name(f"{path.name}.{os.getpid()}-{secrets.token_hex(4)}{TEMPORARY}")
    try:
        with temporary.open("wb") as file:
            yield file
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def leftovers(path: Path) -> set[Path]:
    """Returns the temporary files of `path` that processes left which were killed while they wrote it."""
    return {
        file
        for file in path.parent.iterdir()
        if file.name.startswith(f"{path.name}.") and file.suffix == TEMPORARY
    }


def cached(
    path: Path,
    make: Callable[[], Made],
    pack: Callable[[Made], Mapping[str, np.ndarray]],
    unpack: Callable[[Mapping[str, np.ndarray]], Made],
) -> Made:
    """Returns the value that is kept at `path`, or makes it and keeps it there.

    A file that is missing or damaged is written anew. Where it cannot be written the value is made again in
    the next run, and nothing else happens.

    Args:
      path: an .npz file, whose name has to tell all that the value depends on.
      pack: turns a value into arrays by name.
      unpack: turns such arrays back into the value; what it raises counts as damage.
    """
    # A damaged file raises one of a dozen errors.
    with suppress(Exception), path.open("rb") as found, np.load(found, allow_pickle=False) as arrays:
        return unpack(arrays)
    value = make()
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            np.savez(file, **pack(value))  # type: ignore[arg-type]  # no name of an array is `allow_pickle`
    return value


def _short(source: str | Path) -> str:
    shown = repr(str(source))
    return shown if len(shown) <= 300 else f"{shown[:300]}..."


def keep(path: Path, write: Callable[[BinaryIO], object]) -> Path:
    """Returns the path of a file whose name tells what is in it; `write` makes it where it is not there.

    Raises:
      InputError: it cannot be written.
    """
    try:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as file:
                write(file)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error}; set RNN_JAX_CACHE to another folder") from error
    return path
