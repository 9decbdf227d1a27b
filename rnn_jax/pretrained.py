"""Where training starts: with word vectors, or with parameters of an earlier run (transfer)."""

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from rnn_jax.checkpoint import Checkpoints
from rnn_jax.encoding import fingerprint
from rnn_jax.errors import choose, require
from rnn_jax.groups import matching
from rnn_jax.text import SPECIAL_WORDS, Tokenizer
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
from rnn_jax.workdir import TOKENIZER, check_run

TABLE = "embedding/embedding"
WORD2VEC = "word2vec"  # stands for vectors that are trained on the run's own texts
WINDOW = 5  # words on each side, of word2vec


def with_vectors(params: Any, table: np.ndarray) -> Any:
    """Returns the parameters with `table` [V, E] as their embedding.

    Raises:
      InputError: it has another width than the embedding.
    """
    flat = flatten_dict(params, sep="/")
    width = flat[TABLE].shape[1]
    require(
        table.shape[1] == width,
        f"vectors have {table.shape[1]} dimensions but config.model.embedding_dim is {width}; "
        f"set it to {table.shape[1]}",
    )
    return unflatten_dict(flat | {TABLE: jnp.asarray(table, flat[TABLE].dtype)}, sep="/")


def transferred(
    params: Any, words: Sequence[str], workdir: str | Path, take: Sequence[str]
) -> tuple[Any, list[str]]:
    """Returns the parameters with those of an earlier run in their place, and a line on each that was wanted.

    Of the embedding, each word gets the row that it had in the earlier run, whatever its number there, and a
    word that the run did not know the mean of all its rows. Other arrays are taken where the paths and the
    shapes agree.

    Args:
      words: the vocabulary, in the order of its ids.
      workdir: the earlier run; its best checkpoint is taken.
      take: patterns of its parameters, as in `groups`: ("embedding",), or ("embedding", "encoder").

    Raises:
      InputError: no such run, a pattern that matches nothing in it, or an embedding of another width.
    """
    workdir = Path(workdir)
    check_run("config.embedding.from_workdir", workdir)
    with Checkpoints(workdir) as checkpoints:
        best = checkpoints.steps("best", fallback=False)[0]
        found = flatten_dict(checkpoints.restore_params(best), sep="/")
    wanted = [path for pattern in take for path in matching("embedding.take", pattern, list(found))]
    flat, lines = flatten_dict(params, sep="/"), []
    for path in dict.fromkeys(wanted):
        if path not in flat:
            lines.append(f"not taken, no such parameter here: {path}")
        elif path == TABLE:
            table, known = remapped(found[path], Tokenizer.load(workdir / TOKENIZER).words, words)
            flat = flatten_dict(with_vectors(unflatten_dict(flat, sep="/"), table), sep="/")
            lines.append(f"taken: {path}, {known:,} of {len(words) - len(SPECIAL_WORDS):,} words known")
        elif found[path].shape != flat[path].shape:
            lines.append(f"not taken, {found[path].shape} there and {flat[path].shape} here: {path}")
        else:
            flat[path] = jnp.asarray(found[path], flat[path].dtype)
            lines.append(f"taken: {path}")
    return unflatten_dict(flat, sep="/"), lines


def remapped(table: np.ndarray, old: Sequence[str], new: Sequence[str]) -> tuple[np.ndarray, int]:
    """Returns the rows of a table [len(old), E] in the order of other words, and how many of them it knows.

    The special words keep theirs and are not counted. A word that is not in `old` gets the mean of its words.
    """
    row_of = {word: row for row, word in enumerate(old)}
    rows = np.array([row_of.get(word, -1) for word in new])
    mean = table[len(SPECIAL_WORDS) :].mean(axis=0, dtype=np.float64).astype(table.dtype)
    moved = np.where((rows >= 0)[:, None], table[rows], mean)
    return moved, int((rows[len(SPECIAL_WORDS) :] >= 0).sum())


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
    take: Sequence[str]

    def check(self) -> None:
        """Raises InputError where `start_from` would need what is not there."""
        choose("embedding.missing", self.missing, FILLS)
        if self.vectors == WORD2VEC:
            load_gensim()
        elif self.vectors:
            locate(self.vectors)
        if self.from_workdir:
            check_run("config.embedding.from_workdir", Path(self.from_workdir))


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
