"""What training starts from: word vectors, or parameters of earlier runs (transfer)."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from rnn_jax.checkpoints.restore import best_params
from rnn_jax.checkpoints.workdir import CONFIG, TASK, TOKENIZER, check_run, read_json
from rnn_jax.data.encoding import fingerprint
from rnn_jax.data.tokenizer import SPECIAL_WORDS, Tokenizer, check_tokenizer
from rnn_jax.data.vocabularies import SUBWORDS
from rnn_jax.errors import choose, require
from rnn_jax.files import cached
from rnn_jax.settings import START
from rnn_jax.training.parameter_groups import matches, matching
from rnn_jax.training.row_sparse import TABLE
from rnn_jax.trees import Params, Tree
from rnn_jax.vectors.lookup import (
    FILLS,
    Vectors,
    coverage,
    fill_missing,
    packed,
    read_vectors,
    unpacked,
)
from rnn_jax.vectors.readers import locate
from rnn_jax.vectors.word2vec import load_gensim, train_vectors

WORD2VEC = "word2vec"  # the setting that trains vectors on the run's own texts
WINDOW = 5  # the words on each side that word2vec reads


class Start(NamedTuple):
    """What training starts from: the settings of `config.embedding`.

    Attributes:
      vectors: "" for none, "word2vec", or the source of `vectors.read_vectors`.
      missing: what words without a vector get, as in `vectors.fill_missing`.
      scale: the standard deviation that the entries of the vectors are scaled to; 0 leaves them.
      epochs: the epochs of word2vec, at least 1.
      from_workdir, take: as in `transferred`; "" for none.
    """

    vectors: str
    missing: str
    scale: float
    epochs: int
    from_workdir: str
    take: Sequence[object]

    def check(self) -> None:
        """Raises InputError if a file, a run or a package that `start_from` needs is missing."""
        choose("embedding.missing", self.missing, FILLS)
        if self.vectors == WORD2VEC:
            load_gensim()
        elif self.vectors:
            locate(self.vectors)
        if self.from_workdir:
            check_run("config.embedding.from_workdir", Path(self.from_workdir))
        taken = self.taken()
        for entry in taken:
            check_run("config.embedding.take", entry.workdir)
        require(
            not self.from_workdir or Path(self.from_workdir) in {entry.workdir for entry in taken},
            f"embedding.from_workdir is {self.from_workdir!r}, but {ARGUMENT} is {tuple(self.take)}, which "
            "takes nothing of it; name what to take, such as ('embedding',), or set from_workdir to ''",
        )
        over = [entry.there for entry in taken if matches(entry.here, TABLE_PATH)]
        require(
            not self.vectors or not over,
            f"embedding.vectors is {self.vectors!r}, but {ARGUMENT} puts {over} of an earlier run in their "
            "place; set embedding.vectors to '', or leave the embedding out",
        )

    def taken(self) -> "list[Take]":
        """Returns the entries of `take`; none where neither `from_workdir` nor an entry names a run.

        Raises:
          InputError: as `take_of`, or some entries name a run and others do not.
        """
        entries = [take_of(entry, self.from_workdir) for entry in self.take]
        if not self.from_workdir and tuple(self.take) in ((), START["take"]):
            return []
        nowhere = [each.there for each in entries if each.workdir == Path() and not self.from_workdir]
        require(
            not nowhere,
            f"{ARGUMENT} takes {nowhere}, but names no run to take them from; set embedding.from_workdir, or "
            "leave them out",
        )
        return entries


def start_of(settings: Mapping[str, Any]) -> Start:
    """Returns what `config.embedding` says of the first parameters; its evidence is no parameter."""
    return Start(**{name: settings[name] for name in Start._fields})


def check_vocabulary(tokenizer: str, vectors: str) -> None:
    """Raises InputError for an unknown `text.tokenizer`, or one whose words no file of vectors has.

    Args:
      tokenizer, vectors: `config.text.tokenizer` and `config.embedding.vectors`.
    """
    check_tokenizer(tokenizer)
    what = "bytes" if tokenizer == "bytes" else "pieces of words"
    require(
        tokenizer not in (*SUBWORDS, "bytes") or vectors in ("", WORD2VEC),
        f"text.tokenizer is {tokenizer!r}, whose {what} have no vectors in {vectors!r}; set it to "
        f"'words', or embedding.vectors to {WORD2VEC!r}",
    )


def start_from(
    start: Start,
    params: Params,
    tokenizer: Tokenizer,
    uses: np.ndarray,
    texts: Callable[[], Sequence[str]],
    say: Callable[[str], None],
    seed: int,
    cache: Path,
    labels: Sequence[str] | None = None,
    letters: Sequence[str] | None = None,
) -> Params:
    """Returns the parameters, with those replaced that `start` names.

    Args:
      uses: int[V], how often the training texts have each word.
      texts: gives the texts to train word2vec on.
      say: takes lines for the log.
      labels, letters: as in `transferred`.

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
    if start.taken():
        params, lines = transferred(params, tokenizer.words, start.from_workdir, start.take, labels, letters)
        say("\n".join(lines))
    return params


def trained_vectors(
    tokenizer: Tokenizer, texts: Sequence[str], width: int, epochs: int, seed: int, cache: Path
) -> Vectors:
    """Returns word2vec vectors of the tokeniser's words; every other word counts as the unknown word.

    They are kept in `cache`, under a hash of everything that they depend on.
    """
    settings = {"dim": width, "window": WINDOW, "epochs": epochs, "min_count": 1, "seed": seed}
    # Equal words do not make an equal tokeniser: bytes are the same ones in lower case and as they are.
    key = fingerprint({"": texts}, settings | {"tokenizer": tokenizer.to_json()})

    def train() -> Vectors:
        words, vectors = train_vectors(tokenizer.words_of(texts), **settings)
        row_of = {word: row for row, word in enumerate(tokenizer.words)}
        table, found = np.zeros((len(row_of), width), np.float32), np.zeros(len(row_of), bool)
        rows = [row_of[word] for word in words]
        table[rows], found[rows] = vectors, True
        return Vectors(table, found, [], 0, 0, WORD2VEC)

    return cached(cache / f"word2vec-{key}.npz", train, packed, partial(unpacked, WORD2VEC))


TABLE_PATH = "/".join(TABLE)
BY_WORD = (TABLE_PATH, "softmax_table", "softmax_bias")  # with a row for each word
BY_LETTER = "letter_embedding/embedding"  # with a row for each letter
BY_LABEL = ("head/", "crf/")  # the beginnings of the paths of what scores labels, or tags
ARGUMENT = "embedding.take"


class Take(NamedTuple):
    """An entry of `take` in full.

    Attributes:
      there: a pattern of parameters of the earlier run; if they go to another place, the beginning of a path.
      here: the beginning of the path that replaces `there`; equal to it if nothing moves.
      workdir: the earlier run.
    """

    there: str
    here: str
    workdir: Path

    @property
    def moves(self) -> bool:
        """Whether the parameters go to another place."""
        return self.here != self.there


def take_of(entry: object, workdir: str | Path) -> Take:
    """Returns an entry of `take` in full; an entry that names no run means `workdir`.

    Raises:
      InputError: the entry is no pattern, pair or triple, or a pair or triple has a wildcard.

    >>> take_of(("encoder", "encoder/forward_rnn"), "runs/forward").here
    'encoder/forward_rnn'
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
    params: Params,
    words: Sequence[str],
    workdir: str | Path,
    take: Sequence[object],
    labels: Sequence[str] | None = None,
    letters: Sequence[str] | None = None,
) -> tuple[Params, list[str]]:
    """Returns the parameters, with some replaced by those of earlier runs, and log lines on what was taken.

    In the embedding, and in a language model's softmax, each word gets the row that it had in the earlier
    run, whatever its id there; so does each letter in a tagger's table of letters. One that the earlier run
    did not know gets the mean of its rows. Other arrays are taken if their shape is the same; if it is not,
    the parameters stay and a line says so. So do those of a head, or a CRF, for other labels or tags. What a
    pair or a triple moves has to fit.

    Args:
      params: the parameters to replace, a nested dict of arrays.
      words: the V words of the vocabulary, in the order of their ids.
      workdir: the folder of the earlier run; its best checkpoint is read.
      take: which parameters to take. Each entry is one of
        a pattern: "embedding", "encoder" or "encoder/*/cell";
        a pair, which moves a path to another place: ("encoder", "encoder/forward_rnn");
        a triple, which does so from another run: ("encoder", "encoder/backward_rnn", "runs/backward").
      labels: the names of this run's labels or tags, by position; None takes a head whatever its labels.
      letters: the letters that this run knows, by position; None takes their table as it is.

    Raises:
      InputError: no such run, an entry of another form, an entry that matches nothing in the run or has no
        place here, one that moves what does not fit, or an embedding of another width.

    >>> import numpy as np
    >>> from rnn_jax.training import transferred
    >>> params = {"embedding": {"embedding": np.zeros((3, 2))}}
    >>> transferred(params, ["", "[UNK]", "film"], "runs/first", take=[])  # nothing to take
    ({'embedding': {'embedding': array([[0., 0.],
           [0., 0.],
           [0., 0.]])}}, [])
    >>> transferred(params, words, "runs/first", take=["embedding"])  # doctest: +SKIP
    """
    flat, lines, table_of = flatten_dict(params, sep="/"), [], None
    entries = [take_of(entry, workdir) for entry in take]
    runs = {folder: _earlier(folder) for folder in dict.fromkeys(entry.workdir for entry in entries)}
    for entry in entries:
        found, old_words, old_labels, old_letters, _ = runs[entry.workdir]
        if entry.moves:
            matching(ARGUMENT, entry.here, list(flat))  # a path that is written out has to be here
        for there in matching(ARGUMENT, entry.there, list(found)):
            here = entry.here + there[len(entry.there) :] if entry.moves else there
            rows = (old_words, words) if here in BY_WORD else None
            if here == BY_LETTER and letters is not None:
                rows = [*SPECIAL_WORDS, *old_letters], [*SPECIAL_WORDS, *letters]
            table_of = entry.workdir if here == TABLE_PATH else table_of
            if here.startswith(BY_LABEL) and labels is not None and list(labels) != old_labels:
                lines.append(f"not taken, its labels there are {', '.join(old_labels) or 'none'}: {here}")
                continue
            flat, line = _placed(flat, here, found[there], rows)
            require(
                not entry.moves or line.startswith("taken"),
                f"{ARGUMENT} moves {entry.there!r} of {entry.workdir} to {entry.here!r}, where it does not "
                f"fit: {line}; give both networks the same cell, units and layers",
            )
            lines.append(line)
    lines += _strangers(runs, table_of) + _mirrored(runs, entries)
    return unflatten_dict(flat, sep="/"), list(dict.fromkeys(lines))


class _Earlier(NamedTuple):
    params: dict[str, np.ndarray]  # by path, of the best checkpoint
    words: list[str]
    labels: list[str]
    letters: list[str]  # of a tagger
    direction: str  # of a language model, else ""


def _strangers(runs: dict[Path, _Earlier], table_of: Path | None) -> list[str]:
    """Returns a line on each run whose layers learned with another embedding than that of `table_of`."""
    return [
        f"note: what is taken of {folder} learned with an embedding of its own, and reads that of {table_of} "
        "here; train it on that one, frozen, as configs/lm_backward.py does"
        for folder, run in runs.items()
        if table_of and TABLE_PATH in run.params and not _same_vectors(run, runs[table_of])
    ]


def _mirrored(runs: dict[Path, _Earlier], entries: Sequence[Take]) -> list[str]:
    """Returns a line on each language model that goes to layers which read in the other direction."""
    return [
        f"note: {entry.workdir} learned to read {way}, and {entry.here} reads {other}; are the runs mixed up?"
        for entry in entries
        for way, other in (("forward", "backward"), ("backward", "forward"))
        if runs[entry.workdir].direction == way and f"{other}_rnn" in entry.here
    ]


def _same_vectors(run: _Earlier, other: _Earlier) -> bool:
    """Returns whether two runs have the same vector for each word that both know."""
    row_of = {word: row for row, word in enumerate(other.words)}
    rows = [(row, row_of[word]) for row, word in enumerate(run.words) if word in row_of]
    mine, others = np.array(rows).T
    return np.array_equal(run.params[TABLE_PATH][mine], other.params[TABLE_PATH][others])


def _earlier(workdir: Path) -> _Earlier:
    """Returns what there is to take of an earlier run."""
    check_run("config.embedding.from_workdir", workdir)
    found = flatten_dict(best_params(workdir), sep="/")
    # The oldest runs of language models have no task.json.
    task = read_json(workdir / TASK) if (workdir / TASK).exists() else {}
    words, labels = Tokenizer.load(workdir / TOKENIZER).words, task.get("label_names", task.get("tag_names"))
    direction = read_json(workdir / CONFIG).get("direction", "")
    return _Earlier(found, words, list(labels or ()), list(task.get("letters", ())), direction)


def _placed(
    flat: dict[str, Tree], path: str, array: np.ndarray, rows: tuple[Sequence[str], Sequence[str]] | None
) -> tuple[dict[str, Tree], str]:
    """Returns the parameters with an array put at a path, if it fits, and a line that says whether it did.

    `rows`, the old and the new words or letters, is given if the array has a row for each.
    """
    if path not in flat:
        return flat, f"not taken, no such parameter here: {path}"
    note = ""
    if rows:
        array, known = remapped(array, *rows)
        kind = "letters" if path == BY_LETTER else "words"
        note = f", {known:,} of {len(rows[1]) - len(SPECIAL_WORDS):,} {kind} known"
    if path == TABLE_PATH:
        flat = flatten_dict(with_vectors(unflatten_dict(flat, sep="/"), array), sep="/")
        return flat, f"taken: {path}{note}"
    if array.shape != flat[path].shape:
        return flat, f"not taken, {array.shape} there and {flat[path].shape} here: {path}"
    return flat | {path: jnp.asarray(array, flat[path].dtype)}, f"taken: {path}{note}"


def remapped(table: np.ndarray, old: Sequence[str], new: Sequence[str]) -> tuple[np.ndarray, int]:
    """Returns a table's rows [len(old), ...] in the order of the words `new`, and how many `old` has of them.

    The special words keep their rows and are not counted. A word that is not in `old` gets the mean row of
    the words that are.

    Raises:
      InputError: the table does not have one row for each word of `old`.
    """
    require(len(old) == len(table), f"there are {len(table)} vectors for {len(old)} words of the earlier run")
    row_of = {word: row for row, word in enumerate(old)}
    rows = np.array([row_of.get(word, -1) for word in new])
    mean = table[len(SPECIAL_WORDS) :].mean(axis=0, dtype=np.float64).astype(table.dtype)
    moved = np.where((rows >= 0).reshape(-1, *[1] * (table.ndim - 1)), table[rows], mean)
    return moved, int((rows[len(SPECIAL_WORDS) :] >= 0).sum())


def with_vectors(params: Params, table: np.ndarray) -> Params:
    """Returns the parameters with `table` [V, E] as their embedding.

    Raises:
      InputError: the table's width is not that of the embedding.
    """
    flat = flatten_dict(params, sep="/")
    width = flat[TABLE_PATH].shape[1]
    require(
        table.shape[1] == width,
        f"vectors have {table.shape[1]} dimensions but config.model.embedding_dim is {width}; "
        f"set it to {table.shape[1]}",
    )
    return unflatten_dict(flat | {TABLE_PATH: jnp.asarray(table, flat[TABLE_PATH].dtype)}, sep="/")
