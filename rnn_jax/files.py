"""Files that a user names: their paths, how far what is in them may expand, and writing one whole."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from rnn_jax.errors import InputError, require

FREE = 2**26  # bytes that any file may expand to
LARGEST = 2**28  # bytes of a file that is read whole: the config of a run, its tokeniser
EXPANSION = 100  # and times its own size; texts and vectors compress to a third, rarely to a tenth
ABSENT = (errno.ENOENT, errno.ENOTDIR)


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
        if error.errno not in ABSENT:
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


def read_text(path: Path) -> str:
    """Returns what is in a file of UTF-8.

    Raises:
      InputError: it is missing, no file, over LARGEST bytes, or not UTF-8.
    """
    try:
        require(path.is_file() or not path.exists(), f"{path} cannot be read: it is no file")
        size = path.stat().st_size
        require(
            size <= LARGEST, f"{path} has {size:,} bytes; of a file of a run at most {LARGEST:,} are read"
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
    """Gives a temporary file that takes the place of `path` at the end, so that no half of one is left."""
    temporary = path.with_name(f"{path.stem}-{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _short(source: str | Path) -> str:
    shown = repr(str(source))
    return shown if len(shown) <= 300 else f"{shown[:300]}..."
