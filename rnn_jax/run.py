"""What a run trains, built from its config and its data; here what is the same for every kind of run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import optax
from ml_collections import ConfigDict

from rnn_jax.agreement import first, from_first
from rnn_jax.errors import require
from rnn_jax.groups import Groups, freezing_of, group_parameters, rate_of
from rnn_jax.host import describe_environment
from rnn_jax.meter import Measured
from rnn_jax.optimizer import build_optimizer
from rnn_jax.pretrained import Start, start_from
from rnn_jax.trainer import CompiledByShape, Trainer
from rnn_jax.training import init_params
from rnn_jax.workdir import CONFIG, RESULTS, check_workdir, read_results


class Plan(NamedTuple):
    """Which parameters train when, how fast, and for how long."""

    groups: Groups
    optimizer_at: Callable[[int], optax.GradientTransformation]  # the optimiser from a step on
    rate: Callable[[int], float]  # the learning rate by step
    total: int
    interval: int  # steps between evaluations


class Run(NamedTuple):
    """What trains and what measures it: the state before the first step, the trainer, and the plan."""

    state: Any
    trainer: Trainer
    settle: Callable[[Any], Any]  # of a state, before its parameters are used
    eval_step: CompiledByShape
    eval_input: Callable[[Any], Any]  # what the eval step takes beside a batch, of the parameters
    evaluate: Callable[[Any, Any], Measured]  # of the parameters and the batches of a split
    plan: Plan

    def template(self, step: int) -> Any:
        """Returns a state of the structure that it has at `step`."""
        return self.trainer.template(self.state, step)


def results_of(config: ConfigDict, workdir: Path) -> dict[str, Any] | None:
    """Returns the results of a finished run; None of another, and of none yet.

    Raises:
      InputError: nothing can be trained in `workdir`, or what it would start with is not there.
    """
    check_workdir(workdir, config.to_dict())
    if (workdir / RESULTS).exists():
        return read_results(workdir)
    if not (workdir / CONFIG).exists():
        Start(**config.embedding).check()
    return None


def check_plan(config: ConfigDict) -> None:
    """Raises InputError for a setting of training that cannot be, whatever is trained."""
    require(config.seed < 2**32, f"config.seed is {config.seed}; give a number from 0 to 2**32 - 1")
    settings = dict(config.optimizer)
    for entry in settings.pop("rates"):
        rate_of(entry)
    for entry in config.train.freeze:
        freezing_of(entry)
    build_optimizer(1, **settings)


def make_plan(config: ConfigDict, params: Any, epoch: int) -> Plan:
    """Returns the plan of a run whose epochs have so many steps."""
    train, settings = config.train, dict(config.optimizer)
    groups = group_parameters(params, train.freeze, settings.pop("rates"), epoch)
    total = train.epochs * epoch

    def optimizer_at(step: int) -> optax.GradientTransformation:
        return build_optimizer(total, groups, step, **settings)[0]

    rate = build_optimizer(total, groups, 0, **settings)[1]
    return Plan(groups, optimizer_at, rate, total, max(1, round(train.evaluate_every * epoch)))


def first_params(
    config: ConfigDict,
    model: Any,
    key: jax.Array,
    data: Any,
    cache: Path,
    fresh: bool,
    say: Callable[[str], None],
) -> Any:
    """Returns the parameters that the model draws and, if `fresh`, those of `config.embedding` in them.

    Those of process 0: on other processors others might be drawn, by their rounding.
    """
    params = init_params(model, key)
    if not fresh:
        return params
    found = [params]

    def begin() -> None:
        start = Start(**config.embedding)
        found[0] = start_from(start, params, data.tokenizer, data.uses, data.texts, say, config.seed, cache)

    first(begin)
    return from_first(found[0])


def compile_ahead(run: Run, state: Any, data: Any) -> str:
    """Compiles the steps for every shape that will come, and says how long each took."""
    batches = list(data.train.one_of_each_shape())
    seconds = run.trainer.compile(state, batches, run.plan.total)
    for split in (data.validation, data.test):
        for batch in split.one_of_each_shape():
            run.eval_step.compile(run.eval_input(state.params), batch)
    shapes = ", ".join(f"{shape} {value:.1f} s" for shape, value in seconds.items())
    processes = f" in {jax.process_count()} processes" if jax.process_count() > 1 else ""
    count = state.step.sharding.num_devices
    devices = f"{count} ({jax.default_backend()}){processes}; {describe_environment()}"
    compiled = f"the train step for {shapes}; the eval step for {len(run.eval_step.seconds)} shapes"
    return f"devices: {devices}\ncompiled {compiled}"
