"""A language model's run: its settings checked, its data, its model, first state and steps."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from rnn_jax.data.pipeline import Documents, load_documents
from rnn_jax.distributed.data_parallel import batch_mesh, check_rows, on_every_device, own_rows, split_rows
from rnn_jax.errors import choose, require
from rnn_jax.models.language_model import build_language_model
from rnn_jax.models.losses import Objective, make_loss, make_measure
from rnn_jax.models.softmax import Proposal, draw, log_uniform, unigram
from rnn_jax.training.regularisers import Regularisers
from rnn_jax.training.steps import (
    WindowState,
    evaluate_windows,
    init_state,
    make_window_measure,
    make_window_step,
    parts_of,
)
from rnn_jax.training.trainer import CompiledByShape, Run, Trainer, check_plan, first_params, make_plan

DIRECTIONS = {"forward": False, "backward": True}  # whether documents are read reversed
PROPOSALS: dict[str, Callable[[np.ndarray], Proposal]] = {
    "unigram": unigram,
    "log_uniform": lambda uses: log_uniform(len(uses)),
}


def check_language(config: ConfigDict) -> None:
    """Raises InputError for a setting that cannot be."""
    build_language_model(3, **config.model)
    check_plan(config)
    averaging(config)
    build_objective(config, np.ones(3, int))
    choose("direction", config.direction, DIRECTIONS)
    check_rows("batch.lanes", config.batch.lanes, batch_mesh(config.devices))


def load_language_data(config: ConfigDict, cache: Path) -> Documents:
    """Returns the windows of the documents to train on and of those held out, this process's lanes."""
    reverse = choose("direction", config.direction, DIRECTIONS)
    lanes, window = config.batch.lanes, config.batch.window
    return load_documents(config.data, config.text, lanes, window, reverse, cache, own_rows(lanes))


def build_language_run(
    config: ConfigDict, data: Documents, cache: Path, fresh: bool, say: Callable[[str], None]
) -> Run:
    """Builds the model, its first state, if `fresh` with pretrained parameters, and what trains it."""
    model = build_language_model(data.tokenizer.vocab_size, **config.model)
    init_key, dropout_key = jax.random.split(jax.random.key(config.seed))
    params = first_params(config, model, init_key, data, cache, fresh, say)
    plan = make_plan(config, params, data.train.steps_per_epoch)
    say(plan.groups.describe(params))
    loss_fn, options = make_loss(model, build_objective(config, data.uses)), averaging(config)
    mesh = batch_mesh(config.devices)
    carry = jax.tree.map(jnp.copy, model.initial_carry(config.batch.lanes))  # of an LSTM one array twice

    def make_step(optimizer, trained):
        return make_window_step(loss_fn, optimizer, mesh, trained, options.average)

    whole = on_every_device(init_state(params, plan.optimizer_at(0), options), mesh)
    eval_carry = parts_of(carry, mesh)
    eval_step = CompiledByShape(make_window_measure(make_measure(model), mesh), mesh)
    return Run(
        state=WindowState(whole.step, whole.params, whole.opt_state, split_rows(carry, mesh)),
        trainer=Trainer(plan.groups, plan.optimizer_at, make_step, mesh, dropout_key),
        settle=lambda state: state,
        eval_step=eval_step,
        eval_input=lambda params: (params, eval_carry),
        evaluate=partial(evaluate_windows, eval_step, eval_carry),
        plan=plan,
    )


def build_objective(config: ConfigDict, uses: np.ndarray) -> Objective:
    """Returns the objective of `config.objective`; `uses`, int[V], counts the words of training.

    Raises:
      InputError: an unknown proposal, or a number out of its range.
    """
    settings = dict(config.objective)
    count, name = settings.pop("negatives"), settings.pop("proposal")
    proposal = choose("objective.proposal", name, PROPOSALS)
    require(count >= 0, f"objective.negatives is {count}; give 0 for the whole softmax")
    return Objective(partial(draw, proposal(uses), count) if count else None, **settings).check()


def averaging(config: ConfigDict) -> Regularisers:
    """Returns what a language model has of the regularisers: the average of the weights."""
    return Regularisers(average=config.train.average).check()
