"""The words of a file of word vectors, without the vectors."""

import itertools
from codecs import BOM_UTF8
from collections.abc import Iterator
from typing import BinaryIO

from rnn_jax.data.reading import opened
from rnn_jax.errors import choose
from rnn_jax.vectors.readers import GLOVE, GLOVE_INDEX, HEADER, LONGEST_LINE, damage_named, locate

LISTED = {".txt": "GloVe's text format", ".vec": "word2vec's and fastText's"}


def first_words(source: str, count: int) -> list[str]:
    """Returns the first words of a file of vectors, which are its most frequent ones as such files are made.

    Args:
      source: a text file of vectors, as `read_vectors` takes it, or "glove-6b-50d".
      count: the most words to return.

    Raises:
      InputError: the source is missing, damaged, or no text file.

    >>> import tempfile
    >>> from pathlib import Path
    >>> path = Path(tempfile.mkdtemp(), "vectors.vec")
    >>> _ = path.write_text("2 2\\nfilm 0.5 -1\\nactor 2 0.25\\n")
    >>> first_words(str(path), 5)
    ['film', 'actor']
    """
    location = locate(source)
    with damage_named(source):
        if source == GLOVE:
            import pyarrow.parquet

            index = pyarrow.parquet.ParquetFile(location.path.with_name(GLOVE_INDEX))
            batches = (batch.column("index").to_pylist() for batch in index.iter_batches(columns=["index"]))
            words = (word for word in itertools.chain.from_iterable(batches) if word is not None)
            return list(itertools.islice(words, count))
        choose(f"the suffix of {source!r}, whose words are listed,", location.suffix, LISTED)
        with opened(location.path, location.member) as file:
            return list(itertools.islice(_words(file), count))


def _words(file: BinaryIO) -> Iterator[str]:
    """Yields what stands before the first space of each line, but not of a line "words dimension"."""
    for number, line in enumerate(iter(lambda: file.readline(LONGEST_LINE), b"")):
        line = line if number else line.removeprefix(BOM_UTF8)
        start = line.split(None, 1)[:1]
        if start and not (number == 0 and HEADER.fullmatch(line.strip())):
            yield start[0].decode("utf-8", "replace")
