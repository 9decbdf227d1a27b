"""A run's training: its phases, in which different parameters train, and a step compiled for every shape."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from absl import logging
from jax.sharding import Mesh
from ml_collections import ConfigDict

from rnn_jax import native
from rnn_jax.checkpoints.workdir import RESULTS, check_workdir, has_begun, read_results
from rnn_jax.data.batches import BatchSource
from rnn_jax.data.pipeline import RunData
from rnn_jax.distributed.broadcast import broadcast_arrays
from rnn_jax.distributed.data_parallel import batch_mesh, on_every_device, split_rows
from rnn_jax.distributed.host import describe_environment
from rnn_jax.distributed.pacing import Jitted
from rnn_jax.distributed.preemption import Interruption
from rnn_jax.errors import check_seed
from rnn_jax.layers.cells import Carry
from rnn_jax.models.metrics import Measured
from rnn_jax.training.initialisation import start_from, start_of
from rnn_jax.training.logger import Meter
from rnn_jax.training.optimizer import build_optimizer, carry_over
from rnn_jax.training.parameter_groups import Flags, Groups, freezing_of, group_parameters, rate_of
from rnn_jax.training.programs import CompiledByShape
from rnn_jax.training.regularisers import Averaged
from rnn_jax.training.row_sparse import RowAdam
from rnn_jax.training.state import TrainState
from rnn_jax.training.steps import (
    evaluate,
    evaluate_rows,
    init_params,
    init_state,
    make_eval_step,
    make_train_step,
)
from rnn_jax.training.tasks import Network, Results, Say
from rnn_jax.trees import Params, Tree


class Trainer:
    """Takes a state from step to step. A phase begins where a group of parameters begins to train.

    Attributes:
      optimizers, steps: of each phase, by the step that it begins with.
    """

    def __init__(
        self,
        groups: Groups,
        optimizer_at: Callable[[int], optax.GradientTransformation],
        make_step: Callable[[optax.GradientTransformation, Flags], Jitted],
        mesh: Mesh,
        key: jax.Array,
    ):
        """`make_step(optimizer, trained)` gives a phase's jitted step, as `training.make_train_step` does.

        `key` is an argument of the step, so that runs with other seeds share the compiled step.
        """
        self.groups, self.mesh, self.key = groups, mesh, key
        self.optimizers = {start: optimizer_at(start) for start in groups.starts()}
        self.steps = {
            start: CompiledByShape(make_step(optimizer, groups.trained(start)), mesh)
            for start, optimizer in self.optimizers.items()
        }

    def template(self, state: TrainState, step: int) -> TrainState:
        """Returns the initial `state` with an optimiser's state that has the structure of one at `step`."""
        phase = self.groups.phase(step)
        return self._enter(phase, state) if phase else state

    def train_until(
        self,
        stop: int,
        state: TrainState,
        batches: BatchSource[Tree],
        seed: int,
        meter: Meter,
        interruption: Interruption,
    ) -> TrainState:
        """Returns the state after step `stop`, or after an earlier step if an interruption came.

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

    def compile(self, state: TrainState, batches: Sequence[Tree], total: int) -> dict[tuple[int, ...], float]:
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
        """Returns the state with new optimiser states for groups that begin here; the others keep theirs."""
        fresh = on_every_device(jax.jit(self.optimizers[start].init)(state.params), self.mesh)
        old = state.opt_state
        if isinstance(old, Averaged):
            return state._replace(opt_state=old._replace(optimizer=carry_over(old.optimizer, fresh)))
        return state._replace(opt_state=carry_over(old, fresh))


class Plan(NamedTuple):
    """Which parameters train when, how fast, and for how long."""

    groups: Groups
    optimizer_at: Callable[[int], optax.GradientTransformation]  # the optimiser from a step on
    rate: Callable[[int], float]  # the learning rate by step
    total: int
    interval: int  # steps between evaluations


class Run(NamedTuple):
    """What trains a network and what measures it.

    Attributes:
      state: the one before the first step.
      trainer: takes a state from step to step.
      settle: makes a state's parameters ready to be evaluated and saved.
      eval_step: `metrics, carry = eval_step((params, carry), batch)`.
      carry: what an evaluation starts from.
      network: what is trained.
      plan: which parameters train when, how fast, and for how long.
    """

    state: TrainState
    trainer: Trainer
    settle: Callable[[TrainState], TrainState]
    eval_step: CompiledByShape
    carry: Carry
    network: Network
    plan: Plan

    def template(self, step: int) -> TrainState:
        """Returns a state with the structure that a state has at `step`."""
        return self.trainer.template(self.state, step)

    def evaluate(self, params: Params, split: BatchSource[Tree]) -> Measured:
        """Returns the sums of a split's metrics, every example counted once."""
        return evaluate(self.eval_step, params, split.in_order(), self.carry)

    def validate(self, params: Params, split: BatchSource[Tree]) -> Results:
        """Returns the means of a split's metrics, and what the network's monitor adds to them."""
        metrics = self.evaluate(params, split)
        return metrics.summary() | self.network.monitor(metrics)

    def test(self, params: Params, split: BatchSource[Tree], say: Say) -> tuple[Measured, Results]:
        """Returns what `evaluate` does, and the split's "scores", which it says; {} for a network without."""
        scoring, mesh = self.network.scoring, self.trainer.mesh
        if scoring is None:
            return self.evaluate(params, split), {}
        step = CompiledByShape(make_eval_step(scoring.measure, mesh), mesh)
        metrics, outputs, labels = evaluate_rows(step, params, split.in_order(), self.carry)
        scores = scoring.scores(outputs, labels)
        say(f"best checkpoint:\n{scoring.table(scores)}")
        return metrics, {"scores": scores}


def results_of(config: ConfigDict, workdir: Path, measures: Sequence[str], say: Say) -> Results | None:
    """Returns the results of a finished run, which have all of `measures`; None if the run is not finished.

    That nothing is trained is said.

    Raises:
      InputError: nothing can be trained in `workdir`, or what the run would start from is missing.
    """
    check_workdir(workdir, config.to_dict())
    if (workdir / RESULTS).exists():
        results = read_results(workdir, measures)
        say(f"the run in {workdir} is finished already, and is used as it is; another --workdir is a new run")
        return results
    if not has_begun(workdir):
        start_of(config.embedding).check()
    return None


def check_plan(config: ConfigDict) -> None:
    """Raises InputError for a setting of training that cannot be; all tasks have these settings."""
    check_seed("config.seed", config.seed)
    settings = dict(config.optimizer)
    for entry in settings.pop("rates"):
        rate_of(entry)
    for entry in config.train.freeze:
        freezing_of(entry)
    build_optimizer(1, **settings)


def make_plan(config: ConfigDict, params: Params, epoch: int) -> Plan:
    """Returns the plan of a run whose epochs have `epoch` steps."""
    train, settings = config.train, dict(config.optimizer)
    groups = group_parameters(params, train.freeze, settings.pop("rates"), epoch)
    total = train.epochs * epoch

    def optimizer_at(step: int) -> optax.GradientTransformation:
        return build_optimizer(total, groups, step, **settings)[0]

    rate = build_optimizer(total, groups, 0, **settings)[1]
    return Plan(groups, optimizer_at, rate, total, max(1, round(train.evaluate_every * epoch)))


def build_run(
    config: ConfigDict, data: RunData[Tree], network: Network, cache: Path, fresh: bool, say: Say
) -> Run:
    """Returns the run that trains a network; `fresh` starts from what `config.embedding` names."""
    init_key, step_key = jax.random.split(jax.random.key(config.seed))
    params = init_params(network.model, init_key)
    plan = make_plan(config, params, data.train.steps_per_epoch)  # refuses what cannot be, before word2vec
    if fresh:
        params = first_params(config, params, data, cache, say)
    say(plan.groups.describe(params, plan.total))
    mesh, options = batch_mesh(config.devices), network.regularisers
    rows = RowAdam(plan.rate, b1=config.optimizer.momentum) if network.row_sparse else None

    def make_step(optimizer: optax.GradientTransformation, trained: Flags) -> Jitted:
        return make_train_step(network.loss, optimizer, mesh, rows, trained, options)

    state = init_state(params, plan.optimizer_at(0), options)
    state = on_every_device(rows.init(state) if rows else state, mesh)
    return Run(
        state=state._replace(carry=split_rows(network.carry, mesh)),
        trainer=Trainer(plan.groups, plan.optimizer_at, make_step, mesh, step_key),
        settle=jax.jit(rows.settle, donate_argnums=0) if rows else lambda state: state,
        eval_step=CompiledByShape(make_eval_step(network.measure, mesh), mesh),
        carry=split_rows(jax.tree.map(jnp.copy, network.carry), mesh),  # the state's is donated
        network=network,
        plan=plan,
    )


def first_params(config: ConfigDict, drawn: Params, data: RunData[Tree], cache: Path, say: Say) -> Params:
    """Returns the parameters that a model drew, with those of `config.embedding` in them.

    Process 0 gives them to all, because the rounding of another processor may change the draws.
    """

    def begin() -> tuple[Params, None]:
        start = start_of(config.embedding)
        task: Mapping[str, Any] = data.task
        names = task.get("label_names", task.get("tag_names", ())), task.get("letters")
        words, uses = data.tokenizer, data.uses
        return start_from(start, drawn, words, uses, data.texts, say, config.seed, cache, *names), None

    return broadcast_arrays(begin, lambda _: drawn)[0]


def compile_ahead(run: Run, state: TrainState, data: RunData[Tree]) -> str:
    """Compiles the steps for every shape of the data, and returns lines on the seconds that each took."""
    batches = list(data.train.one_of_each_shape())
    seconds = run.trainer.compile(state, batches, run.plan.total)
    for split in (data.validation,) if run.network.scoring else (data.validation, data.test):
        for batch in split.one_of_each_shape():
            run.eval_step.compile((state.params, run.carry), batch)
    shapes = ", ".join(f"{shape} {value:.1f} s" for shape, value in seconds.items())
    processes = f" in {jax.process_count()} processes" if jax.process_count() > 1 else ""
    count = state.step.sharding.num_devices
    logging.info("%s", describe_environment())
    compiled = f"the train step for {shapes}; the eval step for {len(run.eval_step.seconds)} shapes"
    kernels = f"; {native.describe()}" if jax.default_backend() == "cpu" else ""
    return f"devices: {count} ({jax.default_backend()}){processes}{kernels}\ncompiled {compiled}"
