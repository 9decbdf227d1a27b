"""The word vectors of a vocabulary: looked up in a source, kept on disk, filled in where a word has none."""

import hashlib
import json
import unicodedata
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rnn_jax.data.reading import opened
from rnn_jax.data.tokenizer import PAD, SPECIAL_WORDS
from rnn_jax.errors import choose, require
from rnn_jax.files import cached
from rnn_jax.vectors.arrays import read_npy_vectors, read_npz_vectors
from rnn_jax.vectors.readers import (
    GLOVE,
    GLOVE_INDEX,
    Location,
    Search,
    damage_named,
    locate,
    read_array_vectors,
    read_binary_vectors,
    read_text_vectors,
)

VECTOR_FORMATS = {".txt": read_text_vectors, ".vec": read_text_vectors, ".bin": read_binary_vectors}
CACHE_VERSION = 3  # raise it with every change of what is read or stored


class Vectors(NamedTuple):
    """The vectors that a source has for the V words of a vocabulary.

    Attributes:
      table: float32[V, E], zeros where `found` is False.
      found: bool[V], whether the source has a vector for the word.
      malformed: descriptions of the first broken entries of the file.
      malformed_count: the number of all broken entries.
      duplicates: the number of vectors of a word beyond its first.
      source: as given to `read_vectors`.
      other_case: the words without a vector of which the source has another case, each with that case.

    >>> table = np.array([[0, 0], [0, 0], [0.5, -1]], np.float32)
    >>> vectors = Vectors(table, np.array([False, False, True]), [], 0, 0, "made by hand")
    >>> vectors.found.sum()
    np.int64(1)
    """

    table: np.ndarray
    found: np.ndarray
    malformed: list[str]
    malformed_count: int
    duplicates: int
    source: str
    other_case: tuple[tuple[str, str], ...] = ()


class Coverage(NamedTuple):
    """How much of a vocabulary has vectors, as `coverage` returns it.

    Attributes:
      types: the share of the words that have one, from 0 to 1.
      tokens: the share of the uses of words, from 0 to 1.
      missing: the ten most frequent words that have none, each with its uses.
      other_case: as in `Vectors`.

    >>> print(Coverage(0.5, 0.9, [("filmy", 3)]).describe())
    word vectors: of 50.0% of the words and 90.0% of their uses
    most frequent words without a vector: 'filmy' 3
    """

    types: float
    tokens: float
    missing: list[tuple[str, int]]
    other_case: tuple[tuple[str, str], ...] = ()

    def describe(self) -> str:
        """Returns one to three lines for the log."""
        line = f"word vectors: of {self.types:.1%} of the words and {self.tokens:.1%} of their uses"
        missing = ", ".join(f"{word!r} {count:,}" for word, count in self.missing)
        line += f"\nmost frequent words without a vector: {missing}" if missing else ""
        if self.other_case:
            cases = ", ".join(f"{word!r} ({other!r})" for word, other in self.other_case[:5])
            line += f"\nonly another case has a vector for {len(self.other_case):,} of them, such as {cases}"
        return line


def read_vectors(source: str, words: Sequence[str], cache: Path | None = None) -> Vectors:
    """Returns the vectors that a source has for the words of a vocabulary.

    A word that is not there takes the vector of its lower case, else that of its lower case without accents.
    The file is read once as a stream; only vectors of the vocabulary are parsed and kept.

    Args:
      source: a file of GloVe, word2vec or fastText vectors: .txt, .vec, or .bin for word2vec's binary format;
        also compressed (.txt.gz) or in an archive ("a.zip", "a.zip:member.txt"); arrays in an .npz file, or
        in an .npy file beside one of words ("a.npy", "a.npy:words.txt"), also as .kv; or "glove-6b-50d".
      words: `Tokenizer.words`: "[PAD]" and "[UNK]", which are not looked up, and the words.
      cache: a folder to keep the result in, for as long as the file and the words do not change.

    Raises:
      InputError: the source is missing, damaged, no file of vectors, or has a vector for none of the words.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "vectors.txt")
    >>> _ = path.write_text("film 0.5 -1\\nactor 2 0.25\\n")
    >>> vectors = read_vectors(str(path), ["[PAD]", "[UNK]", "Film", "dull"])
    >>> vectors.table.tolist(), vectors.found.tolist()
    ([[0.0, 0.0], [0.0, 0.0], [0.5, -1.0], [0.0, 0.0]], [False, False, True, False])
    """
    require(
        tuple(words[: len(SPECIAL_WORDS)]) == SPECIAL_WORDS,
        f"words begins with {list(words[: len(SPECIAL_WORDS)])}, not {list(SPECIAL_WORDS)}; "
        "give the words of a Tokenizer",
    )
    location = locate(source)
    if cache is None:
        return _read(source, location, words)
    path = cache / f"vectors-{_fingerprint(location, words)}.npz"
    return cached(path, lambda: _read(source, location, words), packed, partial(unpacked, source))


def _read(source: str, location: Location, words: Sequence[str]) -> Vectors:
    spellings = [[], [], *map(_spellings, words[len(SPECIAL_WORDS) :])]
    search = Search(source, {key for keys in spellings for key in keys})
    with damage_named(source):
        if source == GLOVE:
            read_array_vectors(location.path, location.path.with_name(GLOVE_INDEX), search)
        else:
            _read_file(location, search)
    table = np.zeros((len(words), search.dimension), np.float32)
    found = np.zeros(len(words), bool)
    for row, keys in enumerate(spellings):
        key = next((key for key in keys if key in search.vectors), None)
        if key is not None:
            table[row], found[row] = search.vectors[key], True
    broken = f" ({search.malformed_count:,} malformed, {search.malformed[0]})" if search.malformed else ""
    require(
        bool(found.any()),
        f"{source!r} has a vector for none of the {len(words) - len(SPECIAL_WORDS):,} words of the vocabulary"
        f"{broken}; give vectors of the same language",
    )
    pairs = [(word, search.other_case.get(word.lower())) for word in np.array(words, object)[~found]]
    other_case = tuple((word, other) for word, other in pairs if other is not None)
    counts = search.malformed, search.malformed_count, search.duplicates
    return Vectors(table, found, *counts, source, other_case)


def _read_file(location: Location, search: Search) -> None:
    suffixes = dict.fromkeys((*VECTOR_FORMATS, ".npz", ".npy", ".kv"))
    suffix = location.suffix
    choose(f"the suffix of {search.source!r}", suffix, suffixes)
    if location.words:
        read_npy_vectors(location.path, location.words, search)
    elif suffix == ".npz":
        read_npz_vectors(location.path, search)
    else:
        with opened(location.path, location.member) as file:
            VECTOR_FORMATS[suffix](file, search)


def _spellings(word: str) -> list[bytes]:
    """Returns what to look up for a word, the best first, in UTF-8."""
    lower = word.lower()
    plain = "".join(c for c in unicodedata.normalize("NFKD", lower) if not unicodedata.combining(c)).lower()
    return [text.encode("utf-8", "surrogatepass") for text in dict.fromkeys((word, lower, plain)) if text]


def fill_missing(vectors: Vectors, how: str, seed: int) -> np.ndarray:
    """Returns the table, float32[V, E], with a vector also for words that have none; padding stays zeros.

    Args:
      vectors: what a source has.
      how: "zeros"; "mean", the mean of the vectors found; or "random", normal with the mean and the standard
        deviation that the vectors found have in each dimension.
      seed: of "random", not negative.

    Raises:
      InputError: another `how`.

    >>> table = np.array([[0, 0], [0, 0], [0.5, -1]], np.float32)
    >>> vectors = Vectors(table, np.array([False, False, True]), [], 0, 0, "made by hand")
    >>> fill_missing(vectors, "mean", seed=0).tolist()
    [[0.0, 0.0], [0.5, -1.0], [0.5, -1.0]]
    """
    fill = choose("how", how, FILLS)
    table = vectors.table.copy()
    table[~vectors.found] = fill(table[vectors.found], int((~vectors.found).sum()), seed)
    table[PAD] = 0
    return table


def _random(found_NE: np.ndarray, count: int, seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).standard_normal((count, found_NE.shape[1]))
    return found_NE.mean(axis=0, dtype=float) + found_NE.std(axis=0, dtype=float) * noise


FILLS = {
    "zeros": lambda found_NE, count, seed: 0.0,
    "mean": lambda found_NE, count, seed: found_NE.mean(axis=0, dtype=float),
    "random": _random,
}


def coverage(vectors: Vectors, words: Sequence[str], counts: np.ndarray) -> Coverage:
    """Returns how much of a vocabulary has vectors; PAD and UNK do not count.

    Args:
      vectors: what a source has for the words.
      words: the V words, PAD and UNK first.
      counts: int[V], how often each word is used.

    Raises:
      InputError: not one vector and one count for each word.

    >>> found = np.array([False, False, True, False])
    >>> vectors = Vectors(np.zeros((4, 2), np.float32), found, [], 0, 0, "made by hand")
    >>> share = coverage(vectors, ["[PAD]", "[UNK]", "film", "filmy"], np.array([0, 0, 9, 1]))
    >>> float(share.types), float(share.tokens), share.missing
    (0.5, 0.9, [('filmy', 1)])
    """
    counts = np.asarray(counts)
    shapes = (vectors.found.shape, (len(words),), counts.shape)
    require(
        len(set(shapes)) == 1, f"vectors, words and counts have the shapes {shapes}; give one of each a word"
    )
    real = slice(len(SPECIAL_WORDS), None)
    found, uses = vectors.found[real], counts[real]
    rows = np.flatnonzero(~found)
    rows = rows[np.argsort(-uses[rows], kind="stable")[:10]]
    missing = [(words[int(row) + len(SPECIAL_WORDS)], int(uses[row])) for row in rows]
    return Coverage(
        found.sum() / max(len(found), 1), uses[found].sum() / max(uses.sum(), 1), missing, vectors.other_case
    )


def _fingerprint(location: Location, words: Sequence[str]) -> str:
    files = []
    for path in (location.path, location.words):
        if path is not None:
            state = path.stat()
            files.append((str(path.resolve()), location.member, state.st_size, state.st_mtime_ns))
    return hashlib.sha256(json.dumps([CACHE_VERSION, files, list(words)]).encode()).hexdigest()[:32]


def packed(vectors: Vectors) -> dict[str, np.ndarray]:
    """Returns the vectors as arrays for `files.cached`."""
    counts = [vectors.malformed, vectors.malformed_count, vectors.duplicates, vectors.other_case]
    report = json.dumps(counts).encode()
    return {"table": vectors.table, "found": vectors.found, "report": np.frombuffer(report, np.uint8)}


def unpacked(source: str, arrays: Mapping[str, np.ndarray]) -> Vectors:
    """Returns the vectors that `packed` made arrays of."""
    *counts, cases = json.loads(arrays["report"].tobytes())
    malformed, malformed_count, duplicates = counts
    other_case = tuple(map(tuple, cases))
    return Vectors(
        arrays["table"], arrays["found"], malformed, malformed_count, duplicates, source, other_case
    )
