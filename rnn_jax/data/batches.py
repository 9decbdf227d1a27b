"""Padded batches of similar length: length buckets, and batches as a pure function of (seed, step)."""

import functools
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol, TypeVar

import numpy as np

from rnn_jax.data.evidence import RowEvidence
from rnn_jax.data.tokenizer import PAD
from rnn_jax.errors import require

ROUND_TO = 16
MOST_SIZES = 512  # that are compared for the buckets
WHOLE = slice(None)

Batch_co = TypeVar("Batch_co", covariant=True)


class BatchSource(Protocol[Batch_co]):
    """What a run needs of one split of its data; `Batches` and `Windows` are such sources.

    A batch is a NamedTuple of arrays with the field `token_ids`, int32[B, T]. Calling the source with a seed
    and a step gives the batch at that step, counted from 0 over all epochs. It has to be a pure function of
    the two, because a resumed run asks for the steps that it has not done.

    >>> source: BatchSource[Batch] = Batches([np.array([5, 2])], np.array([1]), buckets=(4,), batch_size=2)
    >>> source(seed=0, step=7).token_ids.tolist()
    [[5, 2, 0, 0], [0, 0, 0, 0]]
    """

    @property
    def steps_per_epoch(self) -> int:
        """The number of batches in which every example comes once."""

    @property
    def predictions(self) -> int:
        """The number of predictions in an epoch: texts of a classifier, words of a language model."""

    @property
    def padding_waste(self) -> float:
        """The share of the recurrence's steps that are spent on padding, from 0 to 1."""

    @property
    def shapes(self) -> Sequence[tuple[int, int]]:
        """The shapes [B, T] that batches have. Each is compiled once."""

    def __call__(self, seed: int, step: int) -> Batch_co:
        """Returns the batch at `step`, counted from 0 over all epochs."""

    def in_order(self) -> Iterator[Batch_co]:
        """Yields every example once, in an order that is always the same: what evaluation reads."""

    def one_of_each_shape(self) -> Iterator[Batch_co]:
        """Yields one batch of each of `shapes`: what is compiled before training begins."""


class Batch(NamedTuple):
    """One padded batch of labelled texts.

    A last batch that is not full has rows that stand for no example: length 0 and weight 0.

    Attributes:
      token_ids: int32[B, T], the words of each text, PAD after its length; of pairs int32[B, 2 T], the words
        of the first text in the first T columns.
      lengths: int32[B], words of each text, from 0 to T; of pairs int32[B, 2].
      labels: int32[B], from 0 to C - 1, or float32[B, C], the probability of each class; int32[B, C] of 0
        and 1 for several labels; float32[B] for numbers.
      weights: float32[B], 1 for an example and 0 for none.
      rows: int32[B], positions of the examples in their split, -1 for none.
      evidence: float32[B, T, F] of n-grams, zero at padding; () where the network reads none.

    >>> (batch,) = Batches([np.array([5, 2, 4])], np.array([1]), buckets=(4,), batch_size=2).in_order()
    >>> batch.token_ids.tolist(), batch.lengths.tolist(), batch.weights.tolist()
    ([[5, 2, 4, 0], [0, 0, 0, 0]], [3, 0], [1.0, 0.0])
    """

    token_ids: np.ndarray
    lengths: np.ndarray
    labels: np.ndarray
    weights: np.ndarray
    rows: np.ndarray
    evidence: np.ndarray | tuple[()] = ()

    @property
    def inputs(self) -> dict[str, np.ndarray]:
        """What a network reads beside words and lengths, as keywords: {"evidence": ...}, or nothing."""
        return {} if isinstance(self.evidence, tuple) else {"evidence": self.evidence}


def bucket_lengths(lengths: Sequence[int] | np.ndarray, max_length: int, count: int) -> tuple[int, ...]:
    """Returns the padded lengths, at most `count`, with which texts of `lengths` are padded least.

    They are multiples of 16 that some text needs, and `max_length`, to which longer texts are cut. They are
    found by dynamic programming over the last bucket and those before it.

    Args:
      lengths: the numbers of words of the texts; at least one.
      max_length: the longest padded length, positive.
      count: how many padded lengths to choose; each is a compilation more and some padding less.

    Raises:
      InputError: no lengths, or a `max_length` or `count` below 1.

    >>> bucket_lengths([10, 20, 30, 200], max_length=100, count=2)
    (32, 100)
    """
    require(count > 0, f"buckets is {count}; give at least 1")
    require(max_length > 0, f"max_length is {max_length}; give a positive number of words")
    require(len(lengths) > 0, "there are no lengths to choose buckets from")
    sorted_lengths = np.sort(np.minimum(lengths, max_length))
    sizes = _sizes_to_choose_from(sorted_lengths, max_length)
    padded = _padded_words(sorted_lengths, sizes)
    # cheapest[j]: words in all texts up to size j, padded, if j is the last of the buckets chosen so far;
    # came_from[j]: the bucket before j. Each round allows one bucket more.
    cheapest, rounds = padded[0], []
    for _ in range(min(count, len(sizes)) - 1):
        totals = cheapest[:, None] + padded[1:]
        came_from = totals.argmin(axis=0)
        cheapest = totals.min(axis=0)
        rounds.append(came_from)
    chosen = [len(sizes) - 1]
    for came_from in reversed(rounds):
        chosen.append(came_from[chosen[-1]])
    return tuple(int(sizes[index]) for index in reversed(chosen))


def _sizes_to_choose_from(sorted_lengths: np.ndarray, max_length: int) -> np.ndarray:
    """Returns the padded lengths that are worth comparing, rising, the last one `max_length`."""
    needed = np.unique(np.maximum(-(-sorted_lengths // ROUND_TO), 1) * ROUND_TO)
    if len(needed) > MOST_SIZES:
        needed = needed[np.linspace(0, len(needed) - 1, MOST_SIZES).astype(int)]
    return np.concatenate([needed[needed < max_length], [max_length]])


def _padded_words(sorted_lengths: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Returns padded[i, j]: the words, padding included, of bucket j where bucket i - 1 is the one before.

    It holds the texts longer than sizes[i - 1], for i = 0 all, and no longer than sizes[j]. Buckets grow, so
    it is infinite for i > j.
    """
    up_to = np.concatenate([[0], np.searchsorted(sorted_lengths, sizes, side="right")])  # [0]: of no bucket
    padded = (up_to[1:] - up_to[:, None]) * sizes.astype(float)
    padded[np.tri(len(up_to), len(sizes), -1, dtype=bool)] = np.inf
    return padded


class Batches:
    """The padded batches of one split. `batches(seed, step)` is pure, so the data's position is a number.

    Every epoch of `steps_per_epoch` steps has each example once, in batches drawn within one bucket. All
    processes of a run have one order of batches, and each takes its `share` of the rows.

    Attributes:
      examples, labels, evidence: as given.
      lengths: int32[n], words of each example; int32[n, 2] of pairs.
      parts: 1, or 2 for pairs of texts.
      buckets, batch_size, share: as given.
      members: int[...] for each bucket, the positions of its examples.

    >>> rows = [np.array([3, 4]), np.array([5]), np.arange(2, 8)]
    >>> batches = Batches(rows, labels=np.array([0, 1, 1]), buckets=(2, 8), batch_size=2)
    >>> batches.steps_per_epoch, batches.shapes
    (2, [(2, 2), (2, 8)])
    >>> batches(seed=0, step=5).token_ids.shape
    (2, 2)
    """

    def __init__(
        self,
        rows: Sequence[np.ndarray] | Sequence[tuple[np.ndarray, np.ndarray]],
        labels: np.ndarray,
        buckets: Sequence[int],
        batch_size: int,
        share: slice = WHOLE,
        evidence: RowEvidence | None = None,
    ):
        """Takes the examples of a split and how to lay them out.

        Args:
          rows: int32[words] of each example, or two such arrays of each pair, none longer than the last
            bucket.
          labels: as in `Batch`, of all n examples.
          buckets: the padded lengths T, rising.
          batch_size: B, the rows of a batch, of all processes together.
          share: the rows of each batch that this process gets.
          evidence: that of the examples' words; None for none.

        Raises:
          InputError: no examples, not one label for each, an example that is too long, or no batch size.
        """
        require(batch_size > 0, f"batch_size is {batch_size}; give at least 1")
        require(len(rows) > 0, "there are no examples to batch")
        require(len(labels) == len(rows), f"there are {len(labels)} labels for {len(rows)} examples")
        self.examples, self.labels, self.evidence = rows, labels, evidence
        self.buckets, self.batch_size, self.share = tuple(buckets), batch_size, share
        self._texts = [row if isinstance(row, tuple) else (row,) for row in rows]
        self.parts = len(self._texts[0])
        lengths = np.array([[len(part) for part in row] for row in self._texts], dtype=np.int32)
        self.lengths = lengths[:, 0] if self.parts == 1 else lengths
        self._longest = lengths.max(axis=1)
        longest = int(self._longest.max())
        require(
            longest <= self.buckets[-1], f"an example has {longest} words, the last bucket {self.buckets[-1]}"
        )
        bucket_of = np.searchsorted(self.buckets, self._longest)
        self.members = [np.flatnonzero(bucket_of == index) for index in range(len(self.buckets))]
        self._plan = functools.lru_cache(maxsize=2)(self._plan_epoch)

    @property
    def steps_per_epoch(self) -> int:
        """The number of batches that hold every example once."""
        return sum(-(-len(members) // self.batch_size) for members in self.members)

    @property
    def predictions(self) -> int:
        """The number of examples, each predicted once an epoch."""
        return len(self.examples)

    @property
    def words(self) -> np.ndarray:
        """int32[...]: the words of all examples, one after the other."""
        return np.concatenate([part for row in self._texts for part in row])

    @property
    def padding_waste(self) -> float:
        """The share of steps that a recurrence spends on padding, whole padding rows included."""
        return 1 - self.lengths.sum() / sum(
            -(-len(members) // self.batch_size) * self.batch_size * size * self.parts
            for members, size in zip(self.members, self.buckets, strict=True)
        )

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """The [B, T] shapes that occur, shortest first."""
        return [
            (self.batch_size, size * self.parts)
            for members, size in zip(self.members, self.buckets, strict=True)
            if len(members)
        ]

    def __call__(self, seed: int, step: int) -> Batch:
        """Returns the batch at `step`, counted from 0 over all epochs."""
        require(seed >= 0 and step >= 0, f"seed is {seed} and step is {step}; neither may be negative")
        epoch, position = divmod(step, self.steps_per_epoch)
        return self._pad(self._plan(seed, epoch)[position])

    def in_order(self) -> Iterator[Batch]:
        """Yields every example once, shortest bucket first."""
        for members in self.members:
            for start in range(0, len(members), self.batch_size):
                yield self._pad(members[start : start + self.batch_size])

    def by_length(self) -> Iterator[Batch]:
        """Yields every example once, sorted by length, in whole batches whatever their buckets.

        A batch is padded to the bucket of its longest example: for a network to which padding costs nothing.
        """
        order = np.argsort(self._longest, kind="stable")
        for start in range(0, len(order), self.batch_size):
            yield self._pad(order[start : start + self.batch_size])

    def one_of_each_shape(self) -> Iterator[Batch]:
        """Yields one batch of each shape that occurs: what there is to compile."""
        for members in self.members:
            if len(members):
                yield self._pad(members[: self.batch_size])

    def _plan_epoch(self, seed: int, epoch: int) -> list[np.ndarray]:
        rng = np.random.default_rng((seed, epoch))
        shuffled = [rng.permutation(members) for members in self.members]
        chunks = [
            members[start : start + self.batch_size]
            for members in shuffled
            for start in range(0, len(members), self.batch_size)
        ]
        return [chunks[index] for index in rng.permutation(len(chunks))]

    def _pad(self, rows: np.ndarray) -> Batch:
        size = self.buckets[np.searchsorted(self.buckets, self._longest[rows].max())]
        room, rows = len(range(*self.share.indices(self.batch_size))), rows[self.share]
        batch = Batch(
            token_ids=np.full((room, size * self.parts), PAD, dtype=np.int32),
            lengths=np.zeros((room, *self.lengths.shape[1:]), dtype=np.int32),
            labels=np.zeros((room, *self.labels.shape[1:]), dtype=self.labels.dtype),
            weights=np.zeros(room, dtype=np.float32),
            rows=np.full(room, -1, dtype=np.int32),
        )
        for index, row in enumerate(rows):
            for part, words in enumerate(self._texts[row]):
                batch.token_ids[index, part * size : part * size + len(words)] = words
        count = len(rows)
        batch.lengths[:count], batch.labels[:count] = self.lengths[rows], self.labels[rows]
        batch.weights[:count], batch.rows[:count] = 1, rows
        if self.evidence is None:
            return batch
        return batch._replace(evidence=self.evidence.padded(rows, room, size))
