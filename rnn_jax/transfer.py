"""Parameters of earlier runs in the place of a new network's: the embedding by word, the rest by path."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from rnn_jax.checkpoint import Checkpoints
from rnn_jax.errors import require
from rnn_jax.groups import matching
from rnn_jax.text import SPECIAL_WORDS, Tokenizer
from rnn_jax.workdir import TOKENIZER, check_run

TABLE = "embedding/embedding"
ARGUMENT = "embedding.take"


class Take(NamedTuple):
    """What to take, by a pattern of `groups` or, where it goes elsewhere, by the beginning of its path."""

    there: str
    here: str  # the beginning that takes the place of `there`; equal to it in a pattern
    workdir: Path

    @property
    def moves(self) -> bool:
        """Whether it goes to another place."""
        return self.here != self.there


def take_of(entry: Any, workdir: str | Path) -> Take:
    """Returns an entry of `take` in full; `workdir` is the run that is meant where it names none.

    Raises:
      InputError: it is neither a pattern, nor a pair, nor a triple of paths and a folder; or a pair with a
        wildcard.
    """
    if isinstance(entry, str):
        return Take(entry, entry, Path(workdir))
    parts = tuple(entry) if isinstance(entry, list | tuple) else ()
    require(
        len(parts) in (2, 3) and all(isinstance(part, str) and part for part in parts),
        f"{ARGUMENT} holds {entry!r}; give a pattern, a pair (path there, path here), or a triple "
        "(path there, path here, folder of another run)",
    )
    wild = [path for path in parts[:2] if set(path) & set("*?[")]
    require(not wild, f"{ARGUMENT} holds {entry!r}; a path that goes elsewhere has no wildcards")
    return Take(parts[0], parts[1], Path(parts[2] if len(parts) == 3 else workdir))


def transferred(
    params: Any, words: Sequence[str], workdir: str | Path, take: Sequence[Any]
) -> tuple[Any, list[str]]:
    """Returns the parameters with those of earlier runs in their place, and a line on each that was wanted.

    Of the embedding, each word gets the row that it had in the earlier run, whatever its number there, and a
    word that the run did not know the mean of all its rows. Other arrays are taken where the paths and the
    shapes agree.

    Args:
      words: the vocabulary, in the order of its ids.
      workdir: the earlier run; its best checkpoint is taken.
      take: patterns of its parameters, as in `groups`: ("embedding",), or ("embedding", "encoder"). A pair
        takes what begins with a path to another place, ("encoder", "encoder/forward_rnn"), and a triple that
        from another run, ("encoder", "encoder/backward_rnn", "runs/backward").

    Raises:
      InputError: no such run, an entry that matches nothing in it or goes nowhere here, or an embedding of
        another width.
    """
    flat, lines, table_of = flatten_dict(params, sep="/"), [], None
    entries = [take_of(entry, workdir) for entry in take]
    runs = {
        folder: _parameters_and_words(folder) for folder in dict.fromkeys(entry.workdir for entry in entries)
    }
    for entry in entries:
        found, old_words = runs[entry.workdir]
        if entry.moves:
            matching(ARGUMENT, entry.here, list(flat))  # a path that is written out has to be here
        for there in matching(ARGUMENT, entry.there, list(found)):
            here = entry.here + there[len(entry.there) :] if entry.moves else there
            rows = (old_words, words) if here == TABLE else None
            table_of = entry.workdir if rows else table_of
            flat, line = _placed(flat, here, found[there], rows)
            lines.append(line)
    lines += _strangers({folder: found for folder, (found, _) in runs.items()}, table_of)
    return unflatten_dict(flat, sep="/"), list(dict.fromkeys(lines))


def _strangers(runs: dict[Path, dict[str, np.ndarray]], table_of: Path | None) -> list[str]:
    """Returns a line on each run whose layers learned with another embedding than that of `table_of`."""
    return [
        f"note: what is taken of {folder} learned with an embedding of its own, and reads that of {table_of} "
        "here; train it on that one, frozen, as configs/lm_backward.py does"
        for folder, found in runs.items()
        if table_of and TABLE in found and not np.array_equal(found[TABLE], runs[table_of][TABLE])
    ]


def _parameters_and_words(workdir: Path) -> tuple[dict[str, np.ndarray], list[str]]:
    """Returns the parameters by path, and the vocabulary, of a run's best checkpoint."""
    check_run("config.embedding.from_workdir", workdir)
    with Checkpoints(workdir) as checkpoints:
        best = checkpoints.steps("best", fallback=False)[0]
        found = flatten_dict(checkpoints.restore_params(best), sep="/")
    return found, Tokenizer.load(workdir / TOKENIZER).words


def _placed(
    flat: dict[str, Any], path: str, array: np.ndarray, words: tuple[Sequence[str], Sequence[str]] | None
) -> tuple[dict[str, Any], str]:
    """Returns the parameters with an array in its place, if it fits, and a line on that.

    `words`, the old and the new vocabulary, says that its rows are those of words.
    """
    if path not in flat:
        return flat, f"not taken, no such parameter here: {path}"
    if words:
        table, known = remapped(array, *words)
        flat = flatten_dict(with_vectors(unflatten_dict(flat, sep="/"), table), sep="/")
        return flat, f"taken: {path}, {known:,} of {len(words[1]) - len(SPECIAL_WORDS):,} words known"
    if array.shape != flat[path].shape:
        return flat, f"not taken, {array.shape} there and {flat[path].shape} here: {path}"
    return flat | {path: jnp.asarray(array, flat[path].dtype)}, f"taken: {path}"


def remapped(table: np.ndarray, old: Sequence[str], new: Sequence[str]) -> tuple[np.ndarray, int]:
    """Returns the rows of a table [len(old), E] in the order of other words, and how many of them it knows.

    The special words keep theirs and are not counted. A word that is not in `old` gets the mean of its words.

    Raises:
      InputError: the table has another number of rows than `old` has words.
    """
    require(len(old) == len(table), f"there are {len(table)} vectors for {len(old)} words of the earlier run")
    row_of = {word: row for row, word in enumerate(old)}
    rows = np.array([row_of.get(word, -1) for word in new])
    mean = table[len(SPECIAL_WORDS) :].mean(axis=0, dtype=np.float64).astype(table.dtype)
    moved = np.where((rows >= 0)[:, None], table[rows], mean)
    return moved, int((rows[len(SPECIAL_WORDS) :] >= 0).sum())


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
