"""What a run says while it trains: a progress bar or plain lines, metrics as JSON lines, and TensorBoard."""

import importlib.util
import json
import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar

import jax
import numpy as np

from rnn_jax.checkpoints.workdir import METRICS, write_text
from rnn_jax.errors import InputError, require
from rnn_jax.files import read_text
from rnn_jax.models.metrics import Measured
from rnn_jax.progress import Bar
from rnn_jax.training.tasks import Results
from rnn_jax.trees import Tree


class Journal:
    """The record of a run's metrics by step. Use it as a context manager.

    On a terminal and in a notebook a bar shows the metrics and the time left; elsewhere plain lines do.
    """

    def __init__(self, workdir: Path, total_steps: int, start_step: int, tensorboard: bool):
        """Continues the metrics of an earlier run up to `start_step`; lines of later steps are dropped."""
        self.writer = _tensorboard_writer(workdir, start_step) if tensorboard else None
        self.total_steps, self.start_step = total_steps, start_step
        self.first: tuple[int, float] | None = None  # step and time of the first train line
        self.history = [line for line in _lines(workdir / METRICS) if line["step"] <= start_step]
        write_text(workdir / METRICS, "".join(json.dumps(line) + "\n" for line in self.history))
        self.file = (workdir / METRICS).open("a", encoding="utf-8")
        self.bar = Bar(total_steps, start_step)

    def __enter__(self) -> "Journal":
        self.bar.__enter__()
        self.say(f"steps {self.start_step} to {self.total_steps}")
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.__exit__()
        with suppress(OSError):  # `record` has raised already for a line that could not be written
            self.file.close()
        if self.writer:
            self.writer.close()

    def say(self, message: str) -> None:
        """Prints one line, above the bar where there is one."""
        self.bar.say(message)

    def record(self, step: int, split: str, values: Mapping[str, float]) -> None:
        """Keeps the values of a split at a step and shows them."""
        line = {"step": step, "split": split, **values}
        self.history.append(line)
        try:
            self.file.write(json.dumps(line) + "\n")
            self.file.flush()
        except OSError as error:
            reason = f"{error.strerror}; metrics cannot be written"
            raise OSError(error.errno, reason, self.file.name) from error
        if self.writer:
            for name, value in values.items():
                self.writer.add_scalar(f"{split}/{name}", value, step)
        if split == "train" and self.first is None:
            self.first = step, time.perf_counter()
        status = "  ".join(f"{name} {value:.4g}" for name, value in values.items())
        if split == "train":
            self.bar.update(step, status)
        if split != "train" or not self.bar.live:
            self.say(f"step {step}/{self.total_steps}  {split:<10}  {status}{self._time_left(step)}")

    def _time_left(self, step: int) -> str:
        # The pace of so few steps would be wrong: an evaluation among them would count too much.
        if self.first is None or step < 2 * self.first[0] - self.start_step or self.bar.live:
            return ""
        pace = (time.perf_counter() - self.first[1]) / (step - self.first[0])
        return f"  {pace * (self.total_steps - step):.0f} s left"


class Silence:
    """A journal that prints and writes nothing, for processes other than process 0."""

    history: ClassVar[list[Results]] = []

    def __enter__(self) -> "Silence":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def say(self, message: str) -> None:
        """Says nothing."""

    def record(self, step: int, split: str, values: Mapping[str, float]) -> None:
        """Keeps nothing."""


def _lines(path: Path) -> list[Results]:
    """Returns the metrics of an earlier run, without a last line that a kill cut short."""
    if not path.exists():
        return []
    complete = [line for line in read_text(path).split("\n")[:-1] if line]
    try:
        lines = [json.loads(line) for line in complete]
        known = all(type(line["step"]) is int and isinstance(line["split"], str) for line in lines)
    except (ValueError, RecursionError, TypeError, KeyError) as error:
        raise InputError(f"{path} cannot be read: {type(error).__name__}: {error}; delete it") from error
    require(known, f"{path} has lines that are no metrics of a step; delete it")
    return lines


def check_tensorboard() -> None:
    """Raises InputError unless TensorBoard's event files can be written."""
    if importlib.util.find_spec("tensorboardX") is None:
        raise InputError("log.tensorboard needs a package; install it with: pip install -e '.[tensorboard]'")


def _tensorboard_writer(workdir: Path, start_step: int) -> Any:
    check_tensorboard()
    from tensorboardX import SummaryWriter

    # With purge_step TensorBoard hides what a killed run wrote after the step from which this one continues.
    return SummaryWriter(str(workdir / "tensorboard"), purge_step=start_step + 1 if start_step else None)


class NonFiniteLossError(ArithmeticError):
    """The loss became infinite or NaN. The message names the step, the examples and the last checkpoint.

    >>> from rnn_jax.training import NonFiniteLossError
    >>> issubclass(NonFiniteLossError, ArithmeticError)
    True
    """


class Stopwatch:
    """Adds up seconds by phase: `with clock("train"): ...`; `clock.seconds` has the sums."""

    def __init__(self, *phases: str):
        self.seconds = dict.fromkeys(phases, 0.0)

    def add(self, seconds: Mapping[str, float]) -> None:
        """Adds the seconds that an earlier part of the run took, by phase."""
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
    """Sums up the metrics of training, and writes a line of means to the journal every few steps.

    It reads the metrics of a step after the next step has started, so that the device does not wait.
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
        self.pending: deque[tuple[int, Tree, Measured]] = deque()
        self._restart()

    def push(self, step: int, batch: Tree, metrics: Measured) -> None:
        """Takes the batch and the metrics of a step, which may still be running."""
        self.pending.append((step, batch, metrics))
        if len(self.pending) > 1:
            self._read(*self.pending.popleft())

    def flush(self) -> None:
        """Waits for the last step and writes a line for the steps since the line before."""
        while self.pending:
            self._read(*self.pending.popleft())
        if self.sums is not None:
            self._write_line(self.sums)

    def evaluated(self, step: int, metrics: Results) -> None:
        """Takes the evaluation of the validation split at a step; its numbers are shown."""
        self._require_finite(metrics["loss"], f"on validation after step {step}")
        numbers = {name: value for name, value in metrics.items() if not isinstance(value, str)}
        self.journal.record(step, "validation", numbers)
        self._restart()

    def _require_finite(self, loss: float, where: str) -> None:
        if not math.isfinite(loss):
            raise NonFiniteLossError(
                f"the loss is {loss} {where}; last good checkpoint: {self.last_good()}. "
                "Lower optimizer.learning_rate or set optimizer.clip_norm"
            )

    def _restart(self) -> None:
        self.sums: Tree = None
        self.step = 0
        self.began = time.perf_counter()

    def _read(self, step: int, batch: Tree, metrics: Measured) -> None:
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
