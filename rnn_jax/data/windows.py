"""Windows of running text, for truncated backpropagation with a carried state; a function of (seed, step)."""

import functools
import heapq
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from rnn_jax.data.tokenizer import PAD
from rnn_jax.errors import require

NOTHING = -1  # the document of a lane that has come to its end


class Window(NamedTuple):
    """The next T words of every lane, and the word that follows each of them.

    Attributes:
      token_ids: int32[B, T], the words that are read, PAD after `lengths`.
      targets: int32[B, T], targets[b, t] is the word that is read after token_ids[b, t].
      lengths: int32[B], from 0 (the lane has come to its end) to T.
      fresh: bool[B], whether a document begins, or there is none: the carry starts anew.
      rows: int32[B], the documents' positions among those given, -1 for none.

    >>> window = Windows([np.array([5, 6, 7, 8])], lanes=1, window=2)(seed=0, step=0)
    >>> window.token_ids.tolist(), window.targets.tolist(), window.fresh.tolist()
    ([[5, 6]], [[6, 7]], [True])
    """

    token_ids: np.ndarray
    targets: np.ndarray
    lengths: np.ndarray
    fresh: np.ndarray
    rows: np.ndarray


class Windows:
    """Documents laid out in lanes that are read side by side, a window of words at a time.

    `windows(seed, step)` is pure, so the data's position is a number; the carry goes from each step to the
    next. A document lies whole in one lane, and no window holds words of two documents, so the last window
    of a document may be short. Each epoch of `steps_per_epoch` steps has the documents in another order and
    beside others; all lanes are fresh at its start.

    A document of n words has n - 1 targets, all its words but the first, each once an epoch. Its last word
    is predicted and not read, and no word stands for its beginning or end. Documents of fewer than two words
    have nothing to predict and are left out. With `reverse`, documents are read from their last word to their
    first, so that a forward network predicts the word before; then the last word is not a target.

    Attributes:
      steps_per_epoch: the number of windows of the longest lane.
      words: int32[all words], the documents one after another.
      targets: int[documents], the number of targets of each.

    >>> windows = Windows([np.array([5, 6, 7, 8]), np.array([9, 3])], lanes=2, window=2)
    >>> windows.steps_per_epoch, windows.predictions, windows.shapes
    (2, 4, [(2, 2)])
    >>> [window.lengths.tolist() for window in windows.in_order()]
    [[2, 1], [1, 0]]
    """

    def __init__(
        self,
        documents: Sequence[np.ndarray],
        lanes: int,
        window: int,
        reverse: bool = False,
        share: slice = slice(None),
    ):
        """Takes the documents and how to lay them out.

        Args:
          documents: int32[words] of each; at least one has two words.
          lanes: B, the rows of a window, of all processes together.
          window: T, the words of a window.
          reverse: read the documents backward.
          share: the lanes that this process gets.

        Raises:
          InputError: no lanes, no words a window, or nothing to predict.
        """
        require(lanes > 0, f"lanes is {lanes}; give at least 1")
        require(window > 0, f"window is {window}; give at least 1 word")
        sizes = np.array([len(document) for document in documents], dtype=np.int64)
        ends = np.cumsum(sizes)
        require(bool((sizes > 1).any()), "there are no documents of two words or more, so nothing to predict")
        self.words = np.concatenate([np.asarray(document, np.int32) for document in documents])
        self.lanes, self.window, self.direction = lanes, window, -1 if reverse else 1
        self.share = share
        self.starts = ends - 1 if reverse else ends - sizes  # where each document's first word to read lies
        self.targets = np.maximum(sizes - 1, 0)  # of each document
        self.counts = -(-self.targets // window)  # windows of each document
        self.longest_first = np.argsort(-self.counts, kind="stable")[: int((self.counts > 0).sum())]
        self.lane_of = self._share_out()
        loads = np.bincount(self.lane_of, self.counts[self.longest_first])
        self.steps_per_epoch = int(loads.max())  # the windows of the longest lane
        self._plan = functools.lru_cache(maxsize=2)(self._plan_epoch)

    @property
    def predictions(self) -> int:
        """The number of targets in an epoch."""
        return int(self.targets.sum())

    @property
    def padding_waste(self) -> float:
        """The share of steps that a recurrence spends on padding, lanes at their end included."""
        return 1 - self.predictions / (self.steps_per_epoch * self.lanes * self.window)

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """The one [B, T] shape."""
        return [(self.lanes, self.window)]

    def __call__(self, seed: int, step: int) -> Window:
        """Returns the window at `step`, counted from 0 over all epochs."""
        require(seed >= 0 and step >= 0, f"seed is {seed} and step is {step}; neither may be negative")
        epoch, position = divmod(step, self.steps_per_epoch)
        return self._cut(*self._plan((seed, epoch)), position)

    def in_order(self) -> Iterator[Window]:
        """Yields every target once: an epoch, in each lane the longest documents first."""
        plan = self._plan(None)
        for position in range(self.steps_per_epoch):
            yield self._cut(*plan, position)

    def one_of_each_shape(self) -> Iterator[Window]:
        """Yields one window: what there is to compile."""
        yield self._cut(*self._plan(None), 0)

    def _share_out(self) -> np.ndarray:
        """Returns the lane of each of `longest_first`: always the one that has the fewest windows so far."""
        lanes = np.zeros(len(self.longest_first), dtype=np.int64)
        loads = [(0, lane) for lane in range(self.lanes)]
        for place, count in enumerate(self.counts[self.longest_first].tolist()):
            load, lanes[place] = loads[0]
            heapq.heapreplace(loads, (load + count, int(lanes[place])))
        return lanes

    def _plan_epoch(self, source: tuple[int, int] | None) -> tuple[np.ndarray, np.ndarray]:
        """Returns the document and the window within it, each [steps, B], of an epoch."""
        rng = None if source is None else np.random.default_rng(source)
        documents = self.longest_first
        if rng is not None:
            # Documents of as many windows change places: lanes stay as long as they are.
            shuffled = rng.permutation(documents)
            documents = shuffled[np.argsort(-self.counts[shuffled], kind="stable")]
        rows = np.full((self.steps_per_epoch, self.lanes), NOTHING, dtype=np.int64)
        indices = np.zeros_like(rows)
        for lane in range(self.lanes):
            members = documents[self.lane_of == lane]
            members = members if rng is None else rng.permutation(members)
            counts = self.counts[members]
            begins = np.repeat(np.cumsum(counts) - counts, counts)
            rows[: len(begins), lane] = np.repeat(members, counts)
            indices[: len(begins), lane] = np.arange(len(begins)) - begins
        return rows, indices

    def _cut(self, rows: np.ndarray, indices: np.ndarray, position: int) -> Window:
        rows_B, offsets_B = rows[position, self.share], indices[position, self.share] * self.window
        left_B = np.where(rows_B == NOTHING, 0, self.targets[rows_B] - offsets_B)
        lengths_B = np.minimum(left_B, self.window)
        valid_BT = np.arange(self.window) < lengths_B[:, None]
        places_BT = self.starts[rows_B, None] + self.direction * (offsets_B[:, None] + np.arange(self.window))
        token_ids, targets = (
            np.where(valid_BT, self.words[np.where(valid_BT, places, 0)], np.int32(PAD))
            for places in (places_BT, places_BT + self.direction)
        )
        return Window(
            token_ids=token_ids,
            targets=targets,
            lengths=lengths_B.astype(np.int32),
            fresh=offsets_B == 0,
            rows=rows_B.astype(np.int32),
        )
