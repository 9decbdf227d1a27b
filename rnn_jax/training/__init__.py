"""Training: steps, optimisers, what a run starts from, and what it leaves behind."""

from rnn_jax.training.initialisation import transferred
from rnn_jax.training.logger import NonFiniteLossError
from rnn_jax.training.optimizer import build_optimizer
from rnn_jax.training.parameter_groups import group_parameters
from rnn_jax.training.regularisers import Regularisers
from rnn_jax.training.row_sparse import RowAdam
from rnn_jax.training.steps import (
    TrainState,
    evaluate,
    init_params,
    init_state,
    make_eval_step,
    make_train_step,
)

__all__ = [
    "NonFiniteLossError",
    "Regularisers",
    "RowAdam",
    "TrainState",
    "build_optimizer",
    "evaluate",
    "group_parameters",
    "init_params",
    "init_state",
    "make_eval_step",
    "make_train_step",
    "transferred",
]
