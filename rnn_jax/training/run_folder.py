"""A run's folder, shared by all its processes: process 0 alone reads and writes it, and tells the others."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import jax
import numpy as np

from rnn_jax.checkpoints.checkpoints import Checkpoints, Evaluation
from rnn_jax.checkpoints.workdir import open_workdir
from rnn_jax.distributed.broadcast import broadcast_arrays, leads, on_host, on_process_zero
from rnn_jax.distributed.data_parallel import placed
from rnn_jax.training.logger import Journal, Silence
from rnn_jax.training.steps import TrainState
from rnn_jax.training.tasks import Say
from rnn_jax.trees import Params

Template = Callable[[int], TrainState]  # of the structure, shapes and types that a state has at a step


class SharedRun:
    """The workdir of a run, locked, and its checkpoints, for all processes. Use it as a context manager.

    All processes have to call each method, except `newest`.

    Attributes:
      begun: whether there was a checkpoint when it was opened.
    """

    def __init__(self, workdir: Path, config: Mapping[str, object], keep: int):
        """Takes the arguments of `open_workdir`, and the number of last checkpoints to keep."""
        self.workdir, self.config, self.keep = workdir, config, keep
        self.stack = ExitStack()

    def __enter__(self) -> "SharedRun":
        self.begun = on_process_zero(self._open)
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.close()  # only process 0 has opened anything

    def _open(self) -> bool:
        self.stack.enter_context(open_workdir(self.workdir, self.config))
        try:
            self.checkpoints = self.stack.enter_context(Checkpoints(self.workdir, self.keep))
        except BaseException:
            self.stack.close()
            raise
        return self.checkpoints.latest is not None

    def restore(self, template: Template, say: Say) -> tuple[TrainState, list[Evaluation]]:
        """Returns a state, placed as template(step), and evaluations; if none was saved, template(0).

        Everything else is as in `Checkpoints.restore`.
        """

        def read_newest() -> tuple[TrainState | None, tuple[int | None, list[Evaluation]]]:
            state, evaluations = self.checkpoints.restore(template, say)
            return state, (None if state is None else int(state.step), evaluations)

        def zeros(note: tuple[int | None, list[Evaluation]]) -> TrainState | None:
            return None if note[0] is None else jax.tree.map(zeros_like, template(note[0]))

        state, (step, evaluations) = broadcast_arrays(read_newest, zeros)
        if state is None or step is None:
            return template(0), evaluations
        return placed(state, jax.tree.map(lambda leaf: leaf.sharding, template(step))), evaluations

    def restore_params(self, step: int, like: Params) -> Params:
        """Returns the parameters of a step in numpy arrays; `like` has their structure, shapes and types."""
        return broadcast_arrays(lambda: (self.checkpoints.restore_params(step), None), lambda _: like)[0]

    def save(self, state: TrainState, evaluations: Sequence[Evaluation]) -> None:
        """Saves a state as `Checkpoints.save` does."""
        whole = on_host(state)
        on_process_zero(lambda: self.checkpoints.save(whole, evaluations))

    def best(self) -> int:
        """Returns the step of the best checkpoint."""
        return on_process_zero(lambda: self.checkpoints.steps("best", fallback=False)[0])

    def newest(self) -> Path | str | None:
        """Returns the folder of the last checkpoint, for a message."""
        return self.checkpoints.newest() if leads() else "the one that process 0 names"

    def journal(self, total: int, start: int, tensorboard: bool) -> Journal | Silence:
        """Returns the journal of the run; on processes other than 0, one that prints and writes nothing."""
        return Journal(self.workdir, total, start, tensorboard) if leads() else Silence()


def zeros_like(leaf: jax.Array) -> np.ndarray:
    """Returns zeros on the host of an array's shape and type."""
    return np.zeros(leaf.shape, leaf.dtype)
