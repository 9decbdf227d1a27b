"""Where training starts: with word vectors, or with parameters of an earlier run (transfer)."""

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rnn_jax.encoding import fingerprint
from rnn_jax.errors import choose
from rnn_jax.text import Tokenizer
from rnn_jax.transfer import take_of, transferred, with_vectors
from rnn_jax.vector_files import locate
from rnn_jax.vectors import (
    FILLS,
    Vectors,
    coverage,
    fill_missing,
    load_vectors,
    read_vectors,
    save_vectors,
)
from rnn_jax.word2vec import load_gensim, train_vectors
from rnn_jax.workdir import check_run

WORD2VEC = "word2vec"  # stands for vectors that are trained on the run's own texts
WINDOW = 5  # words on each side, of word2vec


class Start(NamedTuple):
    """What training starts from: the settings of `config.embedding`.

    Attributes:
      vectors: "" for none, "word2vec", or the source of `vectors.read_vectors`.
      missing: what words without a vector get, as in `vectors.fill_missing`.
      scale: the standard deviation that the entries of the vectors are scaled to; 0 leaves them.
      epochs: of word2vec.
      from_workdir, take: as in `transferred`; "" for none.
    """

    vectors: str
    missing: str
    scale: float
    epochs: int
    from_workdir: str
    take: Sequence[Any]

    def check(self) -> None:
        """Raises InputError where `start_from` would need what is not there."""
        choose("embedding.missing", self.missing, FILLS)
        if self.vectors == WORD2VEC:
            load_gensim()
        elif self.vectors:
            locate(self.vectors)
        if self.from_workdir:
            check_run("config.embedding.from_workdir", Path(self.from_workdir))
            for entry in self.take:
                check_run("config.embedding.take", take_of(entry, self.from_workdir).workdir)


def start_from(
    start: Start,
    params: Any,
    tokenizer: Tokenizer,
    uses: np.ndarray,
    texts: Callable[[], Sequence[str]],
    say: Callable[[str], None],
    seed: int,
    cache: Path,
) -> Any:
    """Returns the parameters with what `start` says in their place.

    Args:
      uses: int[V], how often the training texts have each word.
      texts: gives the texts to train word2vec on.
      say: takes a line on what is done, and on what was found.

    Raises:
      InputError: as `read_vectors`, `train_vectors`, `with_vectors` and `transferred` do.
    """
    if start.vectors:
        width = params["embedding"]["embedding"].shape[1]
        if start.vectors == WORD2VEC:
            say(f"word2vec: {start.epochs} epochs, {width} dimensions")
            found = trained_vectors(tokenizer, texts(), width, start.epochs, seed, cache)
        else:
            found = read_vectors(start.vectors, tokenizer.words, cache)
        table = fill_missing(found, start.missing, seed)
        params = with_vectors(params, table * (start.scale / table[found.found].std() if start.scale else 1))
        say(coverage(found, tokenizer.words, uses).describe())
    if start.from_workdir:
        params, lines = transferred(params, tokenizer.words, start.from_workdir, start.take)
        say("\n".join(lines))
    return params


def trained_vectors(
    tokenizer: Tokenizer, texts: Sequence[str], width: int, epochs: int, seed: int, cache: Path
) -> Vectors:
    """Returns word2vec vectors of the tokeniser's words; all others in the texts are one, the unknown word.

    They are kept in `cache` under a hash of all that determines them.
    """
    settings = {"dim": width, "window": WINDOW, "epochs": epochs, "min_count": 1, "seed": seed}
    path = cache / f"word2vec-{fingerprint({'': texts}, settings | {'words': tokenizer.words})}.npz"
    with contextlib.suppress(Exception):  # a torn file raises one of a dozen errors: make it again
        return load_vectors(path, WORD2VEC)
    words, vectors = train_vectors(tokenizer.words_of(texts), **settings)
    row_of = {word: row for row, word in enumerate(tokenizer.words)}
    table, found = np.zeros((len(row_of), width), np.float32), np.zeros(len(row_of), bool)
    rows = [row_of[word] for word in words]
    table[rows], found[rows] = vectors, True
    trained = Vectors(table, found, [], 0, 0, WORD2VEC)
    with contextlib.suppress(OSError):  # a cache that cannot be written costs minutes in the next run
        save_vectors(path, trained)
    return trained
