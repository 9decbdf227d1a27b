"""A run's folder as all its processes see it: process 0 alone reads and writes it, and gives what it read."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import jax
import numpy as np

from rnn_jax.checkpoints.checkpoints import Checkpoints
from rnn_jax.checkpoints.workdir import open_workdir
from rnn_jax.distributed.broadcast import first, from_first, leads, on_host
from rnn_jax.distributed.data_parallel import placed
from rnn_jax.training.logger import Journal, Silence


class SharedRun:
    """The workdir of a run, locked, and its checkpoints, for all processes. Use it as a context manager.

    Each method has to be called by all of them, but for `newest`.

    Attributes:
      begun: whether there was a checkpoint when it was opened.
    """

    def __init__(self, workdir: Path, config: Mapping[str, Any], keep: int):
        """Takes the arguments of `open_workdir`, and how many of the last checkpoints are kept."""
        self.workdir, self.config, self.keep = workdir, config, keep
        self.stack = ExitStack()

    def __enter__(self) -> "SharedRun":
        self.begun = first(self._open)
        return self

    def __exit__(self, *error: Any) -> None:
        self.stack.__exit__(*error)  # elsewhere than on process 0 nothing was opened

    def _open(self) -> bool:
        self.stack.enter_context(open_workdir(self.workdir, self.config))
        try:
            self.checkpoints = self.stack.enter_context(Checkpoints(self.workdir, self.keep))
        except BaseException:
            self.stack.close()
            raise
        return self.checkpoints.latest is not None

    def restore(
        self, template: Callable[[int], Any], say: Callable[[str], None]
    ) -> tuple[Any, list[dict[str, Any]]]:
        """Returns a state, placed as template(step), and evaluations; template(0) where none was saved.

        All else is as in `Checkpoints.restore`.
        """
        read: list[Any] = []

        def read_newest() -> tuple[int | None, list[dict[str, Any]]]:
            state, evaluations = self.checkpoints.restore(template, say)
            read.append(state)
            return None if state is None else int(state.step), evaluations

        step, evaluations = first(read_newest)
        if step is None:
            return template(0), evaluations
        like = template(step)
        state = from_first(read[0] if read else _zeros(like))
        return placed(state, jax.tree.map(lambda leaf: leaf.sharding, like)), evaluations

    def restore_params(self, step: int, like: Any) -> Any:
        """Returns the parameters of a step in numpy arrays; `like` has their structure, shapes and types."""
        read: list[Any] = []
        first(lambda: read.append(self.checkpoints.restore_params(step)))
        return from_first(read[0] if read else like)

    def save(self, state: Any, evaluations: Sequence[Mapping[str, Any]]) -> None:
        """Saves a state as `Checkpoints.save` does."""
        whole = on_host(state)
        first(lambda: self.checkpoints.save(whole, evaluations))

    def best(self) -> int:
        """Returns the step of the best checkpoint."""
        return first(lambda: self.checkpoints.steps("best", fallback=False)[0])

    def newest(self) -> Path | str | None:
        """Returns the folder of the last checkpoint, for a message."""
        return self.checkpoints.newest() if leads() else "the one that process 0 names"

    def journal(self, total: int, start: int, tensorboard: bool) -> Journal | Silence:
        """Returns the journal of the run; on other processes than 0 one that says and writes nothing."""
        return Journal(self.workdir, total, start, tensorboard) if leads() else Silence()


def _zeros(like: Any) -> Any:
    return jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), like)
