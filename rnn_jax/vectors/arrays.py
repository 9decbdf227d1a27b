"""Word vectors as arrays: .npz, .npy beside a file of words, gensim's .kv, and what a program has in memory.

Nothing is unpickled: a pickle can run any code.
"""

import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from rnn_jax.data.reading import Reading, read_for, text_of
from rnn_jax.errors import InputError, require
from rnn_jax.files import check_expansion, keep, most_bytes
from rnn_jax.hashing import digest_of_arrays

if TYPE_CHECKING:
    from rnn_jax.vectors.readers import Search

WORD_FILES = (".txt", ".words", ".vocab")  # the suffixes of a file of words beside an .npy file
AS_TEXT = "in Python, write `KeyedVectors.load(path).save_word2vec_format('vectors.txt')`, and give that file"


def read_npz_vectors(path: Path, search: "Search") -> None:
    """Reads an .npz file that holds one array of words, [V], and one of their vectors, [V, E].

    The names of the two arrays do not matter.

    Raises:
      InputError: it holds other arrays, Python objects, or not one vector for each word.
    """
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        check_expansion(search.source, sum(entry.file_size for entry in entries), most_bytes(path))
        arrays = {}
        for entry in entries:
            with archive.open(entry) as file:
                arrays[entry.filename.removesuffix(".npy")] = _array(file, entry.file_size, search.source)
    words = [array for array in arrays.values() if array.ndim == 1 and array.dtype.kind in "US"]
    tables = [array for array in arrays.values() if array.ndim == 2 and array.dtype.kind in "fiu"]
    shapes = ", ".join(f"{name} {array.dtype}{list(array.shape)}" for name, array in arrays.items())
    require(
        len(words) == len(tables) == 1,
        f"{search.source!r} holds {shapes or 'nothing'}; give one array of words and one of vectors, as "
        "np.savez(path, words=np.array(words), vectors=table) writes them",
    )
    written = (word if isinstance(word, bytes) else word.encode("utf-8", "replace") for word in words[0])
    add_rows(search, written, len(words[0]), tables[0])


def _array(file: IO[bytes], size: int, source: str) -> np.ndarray:
    """Returns an array of an .npz file, whose header has to announce what is there."""
    try:
        version = np.lib.format.read_magic(file)
        reader = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        require(version in reader, f"{source!r} has an array of version {version}; save it anew")
        shape, fortran, kind = reader[version](file)
    except ValueError as error:
        raise InputError(f"{source!r} is damaged: {error}; get it again") from error
    require(
        not kind.hasobject,
        f"{source!r} holds Python objects, which are not unpickled; save words as np.array(words, dtype=str)",
    )
    count = int(np.prod(shape, dtype=object))
    fits = min(shape, default=0) >= 0 and kind.itemsize > 0 and count * kind.itemsize <= size
    require(fits, f"{source!r} is cut off or damaged; get it again")
    flat = np.frombuffer(file.read(count * kind.itemsize), kind, count)
    return flat.reshape(shape, order="F" if fortran else "C")


def read_npy_vectors(path: Path, words_file: Path, search: "Search") -> None:
    """Reads an .npy file [V, E] whose words stand in a file of text, one in each line.

    Raises:
      InputError: it is no such array, or there is not one word for each of its rows.
    """
    try:
        table = np.load(path, mmap_mode="r", allow_pickle=False)
    except ValueError as error:
        raise InputError(f"{search.source!r} is no array of numbers: {error}") from error
    with read_for("embedding.vectors"):
        lines = text_of(words_file, Reading()).removesuffix("\n")
    # Other characters that Python takes for line breaks may be in words.
    words = [line.removesuffix("\r") for line in lines.split("\n")]
    add_rows(search, (word.encode() for word in words), len(words), table)


def add_rows(search: "Search", words: Iterable[bytes], count: int, table: np.ndarray) -> None:
    """Gives the rows of a table to a search, each with its word.

    Raises:
      InputError: the table is not [count, E] numbers.
    """
    require(
        table.ndim == 2 and len(table) == count and table.dtype.kind in "fiu" and table.shape[1] > 0,
        f"{search.source!r} has vectors {table.dtype}{list(table.shape)} and {count:,} words; give a row of "
        "numbers for each word",
    )
    search.set_dimension(table.shape[1])
    for row, word in enumerate(words):
        if word in search.wanted:
            search.add(f"row {row}", word, np.array(table[row], dtype=np.float32))
        else:
            search.see(word)


def words_beside(path: Path) -> Path:
    """Returns the file of the words of an .npy file: of the same name, with a suffix of WORD_FILES."""
    found = [path.with_suffix(suffix) for suffix in WORD_FILES if path.with_suffix(suffix).is_file()]
    require(
        len(found) == 1,
        f"{path} needs one file of its words, one in each line; there are {len(found)} beside it of "
        f"{', '.join(path.with_suffix(suffix).name for suffix in WORD_FILES)}; or name it: '{path}:FILE'",
    )
    return found[0]


def suffix_of_kv(path: Path) -> str:
    """Returns the suffix of the format that a .kv file has.

    Raises:
      InputError: it is a pickle, as `KeyedVectors.save` of gensim writes it.
    """
    with path.open("rb") as file:
        start = file.read(4096)
    require(not start.startswith(b"\x80"), f"{path} is a pickle, which is never unpickled; {AS_TEXT}")
    if start.startswith(b"PK"):
        return ".npz"
    if start.startswith(b"\x93NUMPY"):
        return ".npy"
    # Text has numbers after the first word, of which the last one looked at may be cut.
    second = start.partition(b"\n")[2].partition(b"\n")[0].split()[1:]
    try:
        numbers = list(map(float, second[: max(1, len(second) - 1)]))
    except ValueError:
        return ".bin"
    return ".txt" if numbers else ".bin"


def table_of(given: Any) -> tuple[list[str], np.ndarray]:
    """Returns the V words and float32[V, E] of word vectors that a program has in memory.

    Args:
      given: a mapping {word: vector}, a pair (words, table), or the KeyedVectors of gensim.

    Raises:
      InputError: it is none of these; a word is no string or comes twice; or the vectors differ in length
        or hold numbers that are not finite.

    >>> words, table = table_of({"film": [0.5, -1], "actor": [2, 0.25]})
    >>> words, table.tolist()
    (['film', 'actor'], [[0.5, -1.0], [2.0, 0.25]])
    """
    words, rows = _words_and_rows(given)
    try:
        table = np.asarray(rows, np.float32)
    except (ValueError, TypeError) as error:
        raise InputError(f"embedding.vectors has vectors of several lengths: {error}") from error
    require(
        table.ndim == 2 and len(table) == len(words) > 0 and table.shape[1] > 0,
        f"embedding.vectors has {len(words):,} words and a table {list(table.shape)}; give a row for each",
    )
    odd = [word for word in words if not isinstance(word, str)]
    require(not odd, f"embedding.vectors has the word {odd[:1]}; a word is a string")
    require(len(set(words)) == len(words), "embedding.vectors has a word twice; give one vector for each")
    require(bool(np.isfinite(table).all()), "embedding.vectors has numbers that are not finite")
    return [str(word) for word in words], table


def _words_and_rows(given: Any) -> tuple[list[Any], Any]:
    if isinstance(given, Mapping):
        return list(given), list(given.values())
    if hasattr(given, "index_to_key") and hasattr(given, "vectors"):
        return list(given.index_to_key), given.vectors
    if isinstance(given, tuple | list) and len(given) == 2:
        return list(given[0]), given[1]
    raise InputError(
        f"embedding.vectors is a {type(given).__name__}; give a file, a mapping of words to vectors, or a "
        "pair (words, table)"
    )


def kept_vectors(folder: Path, words: Sequence[str], table: np.ndarray) -> Path:
    """Writes word vectors into a folder, under a name that tells what is in the file, and returns its path.

    Raises:
      InputError: it cannot be written.
    """
    encoded = np.array([word.encode("utf-8", "replace") for word in words])
    path = folder / f"given-vectors-{digest_of_arrays([(encoded, table)])}.npz"
    return keep(path, lambda file: np.savez(file, words=encoded, vectors=table))
