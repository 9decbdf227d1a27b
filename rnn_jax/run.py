"""What a run trains, built from its config and its data: the model, its first state, and the steps."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
from ml_collections import ConfigDict

from rnn_jax.data import Data
from rnn_jax.groups import group_parameters
from rnn_jax.host import describe_environment
from rnn_jax.models import build_classifier
from rnn_jax.optimizer import build_optimizer
from rnn_jax.parallel import batch_mesh, on_every_device
from rnn_jax.pretrained import Start, start_from
from rnn_jax.regularisers import Regularisers
from rnn_jax.rows import RowAdam
from rnn_jax.trainer import CompiledByShape, Trainer
from rnn_jax.training import TrainState, init_params, init_state, make_eval_step, make_train_step


class Run(NamedTuple):
    """What trains: the state before the first step, the trainer, the learning rate, and how many steps."""

    state: TrainState
    trainer: Trainer
    settle: Callable[[TrainState], TrainState]  # before the parameters are used
    eval_step: CompiledByShape
    rate: Callable[[int], float]
    total: int
    interval: int  # steps between evaluations

    def template(self, step: int) -> TrainState:
        """Returns a state of the structure that it has at `step`."""
        return self.trainer.template(self.state, step)


def build_run(config: ConfigDict, data: Data, cache: Path, fresh: bool, say: Callable[[str], None]) -> Run:
    """Builds the model, its first state, if `fresh` with pretrained parameters, and what trains it."""
    epoch, train = data.train.steps_per_epoch, config.train
    total, interval = train.epochs * epoch, max(1, round(train.evaluate_every * epoch))
    model = build_classifier(data.tokenizer.vocab_size, len(data.label_names), **config.model)
    init_key, dropout_key = jax.random.split(jax.random.key(config.seed))
    params = init_params(model, init_key)
    if fresh:
        start = Start(**config.embedding)
        params = start_from(start, params, data.tokenizer, data.uses, data.texts, say, config.seed, cache)
    settings = dict(config.optimizer)
    groups = group_parameters(params, train.freeze, settings.pop("rates"), epoch)
    say(groups.describe(params))
    optimizer, rate = build_optimizer(total, groups, 0, **settings)
    rows = RowAdam(rate, b1=config.optimizer.momentum) if train.row_sparse else None
    options = regularisers(config)

    def apply_fn(variables, *arguments, **keywords):
        words = len(variables["params"]["embedding"]["embedding"])  # with row_sparse, those of a batch
        return model.clone(vocab_size=words).apply(variables, *arguments, **keywords)

    mesh = batch_mesh(config.devices)
    trainer = Trainer(
        groups,
        lambda step: build_optimizer(total, groups, step, **settings)[0],
        lambda optimizer, trained: make_train_step(
            apply_fn, optimizer, dropout_key, mesh, rows, trained, options
        ),
        mesh,
    )
    state = init_state(params, optimizer, options)
    state = on_every_device(rows.init(state) if rows else state, mesh)
    settle = jax.jit(rows.settle, donate_argnums=0) if rows else lambda state: state
    eval_step = CompiledByShape(make_eval_step(apply_fn, mesh))
    return Run(state, trainer, settle, eval_step, rate, total, interval)


def regularisers(config: ConfigDict) -> Regularisers:
    """Returns the regularisers of `config.train`."""
    return Regularisers(*(config.train[name] for name in Regularisers._fields)).check()


def compile_ahead(run: Run, state: TrainState, data: Data) -> str:
    """Compiles the steps for every shape that will come, and says how long each took."""
    batches = list(data.train.one_of_each_shape())
    seconds = run.trainer.compile(state, batches, run.total)
    for split in (data.validation, data.test):
        for batch in split.one_of_each_shape():
            run.eval_step.executable(state.params, batch)
    shapes = ", ".join(f"{shape} {value:.1f} s" for shape, value in seconds.items())
    devices = f"{state.step.sharding.num_devices} ({jax.default_backend()}); {describe_environment()}"
    compiled = f"the train step for {shapes}; the eval step for {len(run.eval_step.seconds)} shapes"
    return f"devices: {devices}\ncompiled {compiled}"
