"""A classifier's run: its settings checked, its data, its model, first state and steps."""

from collections.abc import Callable
from pathlib import Path

import jax
from ml_collections import ConfigDict

from rnn_jax.data.pipeline import Data, load_data
from rnn_jax.data.tokenizer import TRUNCATIONS
from rnn_jax.distributed.data_parallel import batch_mesh, check_rows, on_every_device, own_rows
from rnn_jax.errors import choose, require
from rnn_jax.models.classifier import build_classifier
from rnn_jax.training.regularisers import Regularisers
from rnn_jax.training.row_sparse import RowAdam
from rnn_jax.training.steps import evaluate, init_state, make_eval_step, make_train_step
from rnn_jax.training.trainer import CompiledByShape, Run, Trainer, check_plan, first_params, make_plan


def check_classifier(config: ConfigDict) -> None:
    """Raises InputError for a setting that cannot be."""
    build_classifier(3, 2, **config.model)
    check_plan(config)
    regularisers(config)
    require(
        not config.train.row_sparse or config.optimizer.name == "adam",
        f"train.row_sparse is an option of adam, but optimizer.name is {config.optimizer.name!r}",
    )
    dense = {"train": ("freeze", "adversarial", "average"), "optimizer": ("rates",)}
    for section, name in ((section, name) for section, names in dense.items() for name in names):
        require(
            not (config.train.row_sparse and config[section][name]),
            f"{section}.{name} is {config[section][name]}, but train.row_sparse reads and changes a batch's "
            "rows alone; set train.row_sparse to False",
        )
    choose("text.truncate", config.text.truncate, TRUNCATIONS)
    trained, most = config.text.train_length, config.text.max_length
    require(trained <= most, f"text.train_length is {trained}, more than text.max_length, {most}")
    if jax.process_count() > 1:  # one alone adds rows
        check_rows("batch.size", config.batch.size, batch_mesh(config.devices))


def load_classifier_data(config: ConfigDict, cache: Path) -> Data:
    """Returns the batches of the three splits, of which this process gets its rows."""
    size = config.batch.size
    return load_data(config.data, config.text, size, config.batch.buckets, cache, own_rows(size))


def build_classifier_run(
    config: ConfigDict, data: Data, cache: Path, fresh: bool, say: Callable[[str], None]
) -> Run:
    """Builds the model, its first state, if `fresh` with pretrained parameters, and what trains it."""
    model = build_classifier(data.tokenizer.vocab_size, len(data.label_names), **config.model)
    init_key, dropout_key = jax.random.split(jax.random.key(config.seed))
    params = first_params(config, model, init_key, data, cache, fresh, say)
    plan = make_plan(config, params, data.train.steps_per_epoch)
    say(plan.groups.describe(params))
    rows = RowAdam(plan.rate, b1=config.optimizer.momentum) if config.train.row_sparse else None
    options, mesh = regularisers(config), batch_mesh(config.devices)

    def apply_fn(variables, *arguments, **keywords):
        words = len(variables["params"]["embedding"]["embedding"])  # with row_sparse, those of a batch
        return model.clone(vocab_size=words).apply(variables, *arguments, **keywords)

    def make_step(optimizer, trained):
        return make_train_step(apply_fn, optimizer, mesh, rows, trained, options)

    state = init_state(params, plan.optimizer_at(0), options)
    state = on_every_device(rows.init(state) if rows else state, mesh)
    eval_step = CompiledByShape(make_eval_step(apply_fn, mesh), mesh)
    return Run(
        state=state,
        trainer=Trainer(plan.groups, plan.optimizer_at, make_step, mesh, dropout_key),
        settle=jax.jit(rows.settle, donate_argnums=0) if rows else lambda state: state,
        eval_step=eval_step,
        eval_input=lambda params: params,
        evaluate=lambda params, split: evaluate(eval_step, params, split.in_order()),
        plan=plan,
    )


def regularisers(config: ConfigDict) -> Regularisers:
    """Returns the regularisers of `config.train`."""
    return Regularisers(*(config.train[name] for name in Regularisers._fields)).check()
