"""Training: one step for every task, what a run starts from, and what it leaves behind."""

from rnn_jax.training.classification import CLASSIFICATION
from rnn_jax.training.initialisation import transferred
from rnn_jax.training.language_modelling import LANGUAGE_MODELLING
from rnn_jax.training.logger import NonFiniteLossError
from rnn_jax.training.loop import TASKS, check_config, train_and_evaluate
from rnn_jax.training.optimizer import build_optimizer
from rnn_jax.training.parameter_groups import group_parameters
from rnn_jax.training.regularisers import Regularisers
from rnn_jax.training.row_sparse import RowAdam
from rnn_jax.training.state import TrainState
from rnn_jax.training.steps import (
    evaluate,
    init_params,
    init_state,
    make_eval_step,
    make_train_step,
)
from rnn_jax.training.tagging import TAGGING
from rnn_jax.training.tasks import Network, Task

__all__ = [
    "CLASSIFICATION",
    "LANGUAGE_MODELLING",
    "TAGGING",
    "TASKS",
    "Network",
    "NonFiniteLossError",
    "Regularisers",
    "RowAdam",
    "Task",
    "TrainState",
    "build_optimizer",
    "check_config",
    "evaluate",
    "group_parameters",
    "init_params",
    "init_state",
    "make_eval_step",
    "make_train_step",
    "train_and_evaluate",
    "transferred",
]
