"""A run's training: its phases, in which different parameters train, and a step compiled for every shape."""

import time
from collections.abc import Callable
from typing import Any

import jax
import optax
from jax.sharding import Mesh

from rnn_jax.batches import Batch
from rnn_jax.groups import Groups
from rnn_jax.interruption import Interruption
from rnn_jax.optimizer import carry_over
from rnn_jax.parallel import joined_rows, on_every_device
from rnn_jax.regularisers import Averaged
from rnn_jax.training import TrainState


class CompiledByShape:
    """A jitted function of (state, batch, ...) compiled ahead, once for each [B, T] of the batch, and timed.

    A batch has the rows of this process, and the function gets those of all. `seconds` maps the shapes of
    whole batches to the time that tracing and compiling took.
    """

    def __init__(self, function: Any, mesh: Mesh):
        self.function, self.mesh = function, mesh
        self.executables: dict[tuple[int, ...], Any] = {}
        self.seconds: dict[tuple[int, ...], float] = {}

    def __call__(self, state: Any, batch: Any, *rest: Any) -> Any:
        batch = joined_rows(batch, self.mesh)
        return self._executable(state, batch, *rest)(state, batch, *rest)

    def compile(self, state: Any, batch: Any, *rest: Any) -> None:
        """Compiles the function for the batch's shape."""
        self._executable(state, joined_rows(batch, self.mesh), *rest)

    def _executable(self, state: Any, batch: Any, *rest: Any) -> Any:
        shape = batch.token_ids.shape
        if shape not in self.executables:
            began = time.perf_counter()
            self.executables[shape] = self.function.lower(state, batch, *rest).compile()
            self.seconds[shape] = time.perf_counter() - began
        return self.executables[shape]


class Trainer:
    """Takes a state from step to step. A phase begins where a group of parameters begins to train.

    Attributes:
      optimizers, steps: of each phase, by the step that it begins with.
    """

    def __init__(
        self,
        groups: Groups,
        optimizer_at: Callable[[int], optax.GradientTransformation],
        make_step: Callable[[optax.GradientTransformation, Any], Any],
        mesh: Mesh,
        key: jax.Array,
    ):
        """`make_step(optimizer, trained)` gives a phase's jitted step, as `training.make_train_step` does.

        `key` is the step's argument and no part of it, so that runs of other seeds share what is compiled.
        """
        self.groups, self.mesh, self.key = groups, mesh, key
        self.optimizers = {start: optimizer_at(start) for start in groups.starts()}
        self.steps = {
            start: CompiledByShape(make_step(optimizer, groups.trained(start)), mesh)
            for start, optimizer in self.optimizers.items()
        }

    def template(self, state: TrainState, step: int) -> TrainState:
        """Returns the initial `state` with an optimiser's state of the structure that it has at `step`."""
        phase = self.groups.phase(step)
        return self._enter(phase, state) if phase else state

    def train_until(
        self,
        stop: int,
        state: TrainState,
        batches: Callable[[int, int], Batch],
        seed: int,
        meter: Any,
        interruption: Interruption,
    ) -> TrainState:
        """Returns the state after step `stop`, or before the step that an interruption keeps from beginning.

        `meter.push(step, batch, metrics)` is called after each step.
        """
        for step in range(int(state.step), stop):
            if interruption.due(step):
                break
            batch = batches(seed, step)
            state, metrics = self.steps[self.groups.phase(step)](state, batch, self.key)
            meter.push(step + 1, batch, metrics)
            if step + 1 in self.steps:
                state = self._enter(step + 1, state)
        meter.flush()
        return state

    def compile(self, state: TrainState, batches: list[Batch], total: int) -> dict[tuple[int, ...], float]:
        """Compiles the steps from the state's to `total`; returns the seconds by shape, phases added up."""
        now, seconds = self.groups.phase(int(state.step)), dict[tuple[int, ...], float]()
        for start in (start for start in self.steps if now <= start < total):
            entered = state if start == now else self._enter(start, state)
            for batch in batches:
                self.steps[start].compile(entered, batch, self.key)
            for shape, value in self.steps[start].seconds.items():
                seconds[shape] = seconds.get(shape, 0) + value
        return seconds

    @property
    def compilations(self) -> int:
        """The number of compiled steps, of all phases and shapes."""
        return sum(len(step.seconds) for step in self.steps.values())

    def _enter(self, start: int, state: TrainState) -> TrainState:
        """Returns the state with room for what the phase trains first; what trained before goes on."""
        fresh = on_every_device(jax.jit(self.optimizers[start].init)(state.params), self.mesh)
        old = state.opt_state
        if isinstance(old, Averaged):
            return state._replace(opt_state=old._replace(optimizer=carry_over(old.optimizer, fresh)))
        return state._replace(opt_state=carry_over(old, fresh))
