"""N-gram evidence: what the n-grams that end at each word say of the classes, by counts of training labels.

For n-gram g and class k the evidence is the log-count ratio of naive Bayes (Wang & Manning 2012, Baselines
and Bigrams), r = log((p_g + s) / sum(p + s)) - log((q_g + s) / sum(q + s)). p_g and q_g count the training
texts of class k, and the others, that have g; s is the smoothing, and the sums are over the n-grams of one
order that are kept. docs/evidence.md shows its use.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from rnn_jax.data.targets import strata
from rnn_jax.errors import InputError, require

LARGEST_KEY = 2**63  # an n-gram is one number in base V, int64


class Ngrams(NamedTuple):
    """The n-grams of one order that are kept.

    Attributes:
      grams: int32[N, n], word ids, rising.
      ratios: float32[N, K], the log-count ratio of each, divided by its deviation over the training words.
    """

    grams: np.ndarray
    ratios: np.ndarray


class RowEvidence(NamedTuple):
    """The evidence of the words of some texts, looked up already; `Batches` pads it.

    Attributes:
      places: for each order int32[W], where the n-gram that ends at each of the W words of all texts stands
        in the table; N where it is not kept.
      starts: int64[rows + 1], where each text begins among the W words, and W.
      chosen: int32[rows], which of the tables a text reads.
      tables: for each order float32[tables, N + 1, K]; the last n-gram stands for those not kept, with zeros.
    """

    places: tuple[np.ndarray, ...]
    starts: np.ndarray
    chosen: np.ndarray
    tables: tuple[np.ndarray, ...]

    def padded(self, rows: Sequence[int] | np.ndarray, room: int, time: int) -> np.ndarray:
        """Returns float32[room, time, F], the evidence of texts `rows`, zero at padding."""
        columns = self.tables[0].shape[-1]
        found = np.zeros((room, time, len(self.tables) * columns), np.float32)
        for index, row in enumerate(rows):
            words = slice(self.starts[row], self.starts[row + 1])
            for order, (places, table) in enumerate(zip(self.places, self.tables, strict=True)):
                part = table[self.chosen[row], places[words]]
                found[index, : len(part), order * columns : (order + 1) * columns] = part
        return found


@dataclass(frozen=True, eq=False)
class Evidence:
    """The n-grams that count for the classes, as the whole training split has them.

    The F features of a word are those of the first order, one for each of the K ratios, then of the next. Two
    classes have one ratio, that of class 1; others have one each.

    Attributes:
      vocab_size: V; word ids are below.
      tables: the n-grams of each order.

    >>> rows, labels = [np.array([2, 3]), np.array([2, 4])], np.array([[1], [0]])
    >>> settings = {"orders": (1,), "folds": 2, "smoothing": 1.0, "min_count": 1}
    >>> evidence, _ = fit_evidence(rows, rows, labels, vocab_size=5, **settings)
    >>> evidence.tables[0].grams.ravel().tolist(), evidence.features(np.array([3, 2]))[1].tolist()
    ([2, 3, 4], [0.0])
    """

    vocab_size: int
    tables: tuple[Ngrams, ...]

    @property
    def orders(self) -> tuple[int, ...]:
        """The n of each table, rising."""
        return tuple(table.grams.shape[1] for table in self.tables)

    @property
    def width(self) -> int:
        """F, the features of a word."""
        return sum(table.ratios.shape[1] for table in self.tables)

    def of_rows(self, rows: Sequence[np.ndarray]) -> RowEvidence:
        """Returns the evidence of texts as word ids, by the tables of the whole training split."""
        return self._looked_up(rows, np.zeros(len(rows), np.int32), self._padded)

    def features(self, ids: np.ndarray) -> np.ndarray:
        """Returns float32[words, F], the evidence of one text as word ids."""
        return self.of_rows([ids]).padded([0], 1, len(ids))[0]

    def to_arrays(self) -> dict[str, Any]:
        """Returns a tree of arrays: {"1": {"grams": ..., "ratios": ...}, "2": ...}."""
        return {str(table.grams.shape[1]): table._asdict() for table in self.tables}

    def describe(self) -> str:
        """Returns a line for the log.

        >>> Evidence(5, (Ngrams(np.array([[2], [4]]), np.ones((2, 1))),)).describe()
        'evidence: 2 1-grams'
        """
        sizes = (f"{len(table.grams):,} {table.grams.shape[1]}-grams" for table in self.tables)
        return f"evidence: {', '.join(sizes)}"

    @cached_property
    def _padded(self) -> tuple[np.ndarray, ...]:
        """float32[1, N + 1, K] of each order; made once, because a stream asks word by word."""
        return tuple(_with_nothing(table.ratios[None]) for table in self.tables)

    @cached_property
    def _keys(self) -> tuple[np.ndarray, ...]:
        return tuple(
            _keys_of(table.grams.ravel().astype(np.int64), table.grams.shape[1], self.vocab_size)[
                table.grams.shape[1] - 1 :: table.grams.shape[1]
            ]
            for table in self.tables
        )

    def _looked_up(
        self, rows: Sequence[np.ndarray], chosen: np.ndarray, tables: tuple[np.ndarray, ...]
    ) -> RowEvidence:
        ids, position, starts = _laid_out(rows)
        places = []
        for order, keys in zip(self.orders, self._keys, strict=True):
            wanted = np.where(position >= order - 1, _keys_of(ids, order, self.vocab_size), -1)
            at = np.searchsorted(keys, wanted)
            # With no n-gram at all `at` is 0 and there is no key to compare with.
            known = keys[np.minimum(at, len(keys) - 1)] == wanted if len(keys) else np.zeros(len(at), bool)
            places.append(np.where(known, at, len(keys)).astype(np.int32))
        return RowEvidence(tuple(places), starts, chosen, tables)


def ratio_count(classes: int, several: bool) -> int:
    """Returns K, the ratios of an n-gram: one of two classes, or one a class. `several` labels have one each.

    >>> ratio_count(2, several=False), ratio_count(2, several=True)
    (1, 2)
    """
    return 1 if classes == 2 and not several else classes


def ratio_targets(labels: np.ndarray, classes: int) -> np.ndarray:
    """Returns int[n, K] of 0 and 1, what the K ratios tell apart: class 1 from 0, or each from the rest.

    Args:
      labels: int[n], from 0 to C - 1, or int[n, C] of 0 and 1 where texts have several labels.
      classes: C.

    >>> ratio_targets(np.array([0, 1]), 2).tolist(), ratio_targets(np.array([2]), 3).tolist()
    ([[0], [1]], [[0, 0, 1]])
    """
    if labels.ndim == 2:
        return labels
    told_apart = np.arange(classes)[-ratio_count(classes, several=False) :]
    return (labels[:, None] == told_apart).astype(np.int32)


def fit_evidence(
    rows: Sequence[np.ndarray],
    read: Sequence[np.ndarray],
    targets: np.ndarray,
    vocab_size: int,
    *,
    orders: Sequence[int],
    folds: int,
    smoothing: float,
    min_count: int,
    labelled: int | None = None,
) -> tuple[Evidence, RowEvidence]:
    """Returns the evidence of the training split, and that of its own texts, none of which sees its label.

    Each class is cut into folds in the order of the texts, equal texts into one. A text reads the counts of
    the other folds alone (cross-fitting), so that its evidence depends neither on its own label nor on those
    of its neighbours. Time is that of sorting the words; what is kept is O(n-grams kept).

    Args:
      rows: int32[words] of each training text, whole.
      read: the same, cut as the network reads them.
      targets: [n, K] from 0 to 1: those of `ratio_targets`, or probabilities of the same.
      vocab_size: V; ids are below.
      orders: the n of the n-grams, rising.
      folds: at least 2.
      smoothing: s, above 0, added to each count.
      min_count: an n-gram that fewer texts of the counted ones have gets the ratio 0; at least 1.
      labelled: how many texts at the front people labelled; these and the others are cut into folds apart, so
        that each fold has its share of both. None is all.
    """
    parts = [slice(None)] if labelled is None else [slice(labelled), slice(labelled, None)]
    fold_of = np.concatenate([_folds_of(rows[part], targets[part], folds) for part in parts])
    ids, position, starts = _laid_out(rows)
    row_of = np.repeat(np.arange(len(rows)), np.diff(starts))
    tables, apart = [], []
    for order in orders:
        there = position >= order - 1
        keys = _keys_of(ids, order, vocab_size)[there]
        kept, having, gram = _texts_by_ngram(keys, row_of[there], min_count)
        counts = _counted(gram, fold_of[having], targets[having], folds, len(kept))
        whole = counts.sum(axis=0)
        tables.append(Ngrams(_grams_of(kept, order, vocab_size), _log_ratios(whole, smoothing, min_count)))
        apart.append(_with_nothing(_log_ratios(whole - counts, smoothing, min_count)))
    evidence = Evidence(vocab_size, tuple(tables))
    found = evidence._looked_up(read, fold_of, tuple(apart))
    spreads = _spreads(found)
    scaled = tuple(Ngrams(table.grams, table.ratios / s) for table, s in zip(tables, spreads, strict=True))
    crossed = tuple(table / s for table, s in zip(apart, spreads, strict=True))
    return Evidence(vocab_size, scaled), found._replace(tables=crossed)


def evidence_from_arrays(arrays: Mapping[str, Any], path: object, vocab_size: int, width: int) -> Evidence:
    """Returns what `Evidence.to_arrays` gave.

    Args:
      arrays: the tree, read from a file that may be anyone's.
      path: the file, for messages.
      vocab_size, width: V and F that the network has.

    Raises:
      InputError: the arrays are no evidence, or that of another network.
    """
    try:
        by_order = sorted((int(order), Ngrams(**table)) for order, table in arrays.items())
        fits = all(
            table.grams.dtype == np.int32
            and table.grams.ndim == table.ratios.ndim == 2
            and table.grams.shape == (len(table.ratios), order)
            and table.ratios.dtype == np.float32
            and bool(np.isfinite(table.ratios).all())
            and bool(((table.grams >= 0) & (table.grams < vocab_size)).all())
            and vocab_size**order < LARGEST_KEY
            for order, table in by_order
        )
        evidence = Evidence(vocab_size, tuple(table for _, table in by_order))
        fits = fits and evidence.width == width and all((np.diff(keys) > 0).all() for keys in evidence._keys)
    except (TypeError, ValueError, AttributeError, IndexError) as error:
        raise InputError(f"{path} is no evidence of n-grams: {error}") from error
    require(fits, f"{path} is no evidence of n-grams, or that of another network")
    return evidence


def check_evidence(orders: Sequence[object], vocab_size: int) -> None:
    """Raises InputError unless the orders are integers that rise from at least 1, and fit the vocabulary.

    >>> check_evidence((1, 2, 3), 30_000)
    """
    numbers = [order for order in orders if type(order) is int and order > 0]
    require(
        len(numbers) == len(orders) and numbers == sorted({*numbers}),
        f"embedding.evidence.orders is {tuple(orders)}; give lengths of n-grams that rise, such as (1, 2, 3)",
    )
    longest = max(numbers, default=0)
    require(
        vocab_size**longest < LARGEST_KEY,
        f"embedding.evidence.orders has {longest}, too long for text.vocab_size {vocab_size:,}: "
        f"{vocab_size:,} to the power of {longest} is over 2**63; leave the longest out",
    )


def _laid_out(rows: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the ids of all texts, int64[W], each word's position in its text, and where texts begin."""
    lengths = np.array([len(row) for row in rows], np.int64)
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    ids = np.concatenate([np.zeros(0, np.int64), *rows]).astype(np.int64)
    return ids, np.arange(len(ids)) - np.repeat(starts[:-1], lengths), starts


def _keys_of(ids: np.ndarray, order: int, vocab_size: int) -> np.ndarray:
    """Returns int64[W], the number of the n-gram that ends at each word; the first order - 1 mean nothing."""
    keys = np.zeros_like(ids)
    for back in reversed(range(order)):
        keys[back:] = keys[back:] * vocab_size + ids[: len(ids) - back]
    return keys


def _grams_of(keys: np.ndarray, order: int, vocab_size: int) -> np.ndarray:
    """Returns int32[N, n], the words of n-grams."""
    parts = [keys // vocab_size**back % vocab_size for back in reversed(range(order))]
    return np.stack(parts, axis=1).astype(np.int32)


def _texts_by_ngram(
    keys: np.ndarray, row_of: np.ndarray, min_count: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the keys of the n-grams that are kept, and pairs: a text, and the place of an n-gram it has."""
    every, which = np.unique(keys, return_inverse=True)
    pairs = np.unique(row_of * np.int64(len(every) + 1) + which)  # each n-gram of a text once
    row, gram = np.divmod(pairs, len(every) + 1)
    kept = np.bincount(gram, minlength=len(every)) >= min_count
    chosen = kept[gram]
    return every[kept], row[chosen], (np.cumsum(kept) - 1)[gram[chosen]]


def _counted(gram: np.ndarray, fold: np.ndarray, targets: np.ndarray, folds: int, size: int) -> np.ndarray:
    """Returns float64[folds, N, K + 1]: texts of each fold by n-gram and target; the last counts all."""
    place = fold.astype(np.int64) * size + gram
    weights: Iterable[np.ndarray | None] = [*targets.T, None]
    columns = [np.bincount(place, weight, minlength=folds * size) for weight in weights]
    return np.stack(columns, axis=-1).reshape(folds, size, len(columns)).astype(float)


def _log_ratios(counts: np.ndarray, smoothing: float, min_count: int) -> np.ndarray:
    """Returns float32[..., N, K], r above; 0 for n-grams that fewer than `min_count` texts have."""
    with_K, all_1 = counts[..., :-1], counts[..., -1:]
    kept = all_1 >= min_count

    def logarithm(texts: np.ndarray) -> np.ndarray:
        smoothed = np.where(kept, texts + smoothing, 0.0)
        total = smoothed.sum(axis=-2, keepdims=True)
        return np.log(np.where(kept, smoothed, 1.0)) - np.log(np.where(total > 0, total, 1.0))

    return np.where(kept, logarithm(with_K) - logarithm(all_1 - with_K), 0.0).astype(np.float32)


def _with_nothing(ratios: np.ndarray) -> np.ndarray:
    """Returns [tables, N + 1, K]: the n-gram that is not kept has no evidence."""
    return np.pad(ratios, ((0, 0), (0, 1), (0, 0)))


def _spreads(found: RowEvidence) -> list[np.ndarray]:
    """Returns for each order float32[K], the deviation over all words of the texts; 1 where it is zero."""
    table_of = np.repeat(found.chosen, np.diff(found.starts))
    spreads = []
    for places, table in zip(found.places, found.tables, strict=True):
        spread = np.array(
            [column[table_of, places].astype(float).std() for column in np.moveaxis(table, 2, 0)]
        )
        spreads.append(np.where(spread > 0, spread, 1.0).astype(np.float32))
    return spreads


def _folds_of(rows: Sequence[np.ndarray], targets: np.ndarray, folds: int) -> np.ndarray:
    """Returns int32[n]: the fold of each text, consecutive parts of each class in the order of the texts.

    Neighbours are often about one thing, as the reviews of a film are. In other folds they would tell each
    other's labels by its name, as no text does of a thing that is new. Equal texts are in the fold of the
    first.
    """
    kinds = strata((targets > 0.5).astype(np.int32))
    order = np.argsort(kinds, kind="stable")
    counts = np.bincount(kinds)
    rank = np.empty(len(rows), np.int64)
    rank[order] = np.arange(len(rows)) - (np.cumsum(counts) - counts)[kinds[order]]
    digests = (hashlib.blake2b(np.asarray(row, np.int32).tobytes(), digest_size=8).digest() for row in rows)
    _, first, which = np.unique(
        np.frombuffer(b"".join(digests), np.uint64), return_index=True, return_inverse=True
    )
    return (rank * folds // counts[kinds])[first][which].astype(np.int32)
