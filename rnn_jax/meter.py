"""What is measured while training: seconds by phase, and the train metrics, fetched one step late."""

import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

import jax
import numpy as np

from rnn_jax.journal import Journal, Silence


class NonFiniteLossError(ArithmeticError):
    """The loss became infinite or NaN. The message names the step, the examples and the last checkpoint."""


class Measured(Protocol):
    """Metrics: a NamedTuple of sums over what one or more steps read, that add up field by field."""

    @property
    def loss(self) -> Any:
        """The summed loss."""

    @property
    def unit(self) -> str:
        """What is counted, such as "words"."""

    def summary(self) -> dict[str, float]:
        """Returns the means by name, the loss among them, and under `unit` how many there were."""


class Stopwatch:
    """Adds up seconds by phase: `with clock("train"): ...`; `clock.seconds` has the sums."""

    def __init__(self, *phases: str):
        self.seconds = dict.fromkeys(phases, 0.0)

    def add(self, seconds: Mapping[str, float]) -> None:
        """Adds what an earlier part of the run took."""
        for phase, value in seconds.items():
            self.seconds[phase] += value

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[phase] += time.perf_counter() - began


class Meter:
    """Train metrics on their way to the journal: a line every few steps, with means since the line before.

    The metrics of a step are read when the next step is under way: reading them does not stall the device.
    """

    def __init__(
        self,
        journal: Journal | Silence,
        every: int,
        rate: Callable[[int], float],
        last_good: Callable[[], object],
    ):
        """`rate` gives the learning rate at a step, `last_good` names the last good checkpoint."""
        self.journal, self.every, self.rate, self.last_good = journal, every, rate, last_good
        self.pending: deque[tuple[int, Any, Measured]] = deque()
        self._restart()

    def push(self, step: int, batch: Any, metrics: Measured) -> None:
        """Takes a batch, whose `rows` are numbers of texts, and the metrics of a step that may be running."""
        self.pending.append((step, batch, metrics))
        if len(self.pending) > 1:
            self._read(*self.pending.popleft())

    def flush(self) -> None:
        """Waits for the last step and writes a line for the steps since the line before."""
        while self.pending:
            self._read(*self.pending.popleft())
        if self.sums is not None:
            self._write_line(self.sums)

    def evaluated(self, step: int, metrics: dict[str, float]) -> None:
        """Takes the summary of the validation split at a step."""
        self._require_finite(metrics["loss"], f"on validation after step {step}")
        self.journal.record(step, "validation", metrics)
        self._restart()

    def _require_finite(self, loss: float, where: str) -> None:
        if not math.isfinite(loss):
            raise NonFiniteLossError(
                f"the loss is {loss} {where}; last good checkpoint: {self.last_good()}. "
                "Lower optimizer.learning_rate or set optimizer.clip_norm"
            )

    def _restart(self) -> None:
        self.sums: Any = None
        self.step = 0
        self.began = time.perf_counter()

    def _read(self, step: int, batch: Any, metrics: Measured) -> None:
        fetched = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), metrics)
        self._require_finite(
            float(fetched.loss),
            f"at step {step}, on training examples {batch.rows[batch.rows >= 0].tolist()}",
        )
        self.sums = fetched if self.sums is None else jax.tree.map(np.add, self.sums, fetched)
        self.step = step
        if step % self.every == 0:
            self._write_line(self.sums)

    def _write_line(self, sums: Measured) -> None:
        means = sums.summary()
        count = means.pop(sums.unit)
        pace = {f"{sums.unit}_per_second": count / (time.perf_counter() - self.began)}
        self.journal.record(
            self.step, "train", means | pace | {"learning_rate": float(self.rate(self.step - 1))}
        )
        self._restart()
