"""The task of a language model: its settings checked, its data, its network."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from rnn_jax.data.pipeline import Documents, load_documents
from rnn_jax.data.sources import Source
from rnn_jax.distributed.data_parallel import batch_mesh, check_rows, own_rows
from rnn_jax.errors import choose, require
from rnn_jax.models.encoder import check_weight_drop
from rnn_jax.models.language_model import build_language_model
from rnn_jax.models.losses import Objective, make_language_loss, make_language_measure
from rnn_jax.models.softmax import Proposal, draw, log_uniform, unigram
from rnn_jax.settings import LANGUAGE_MODEL, LANGUAGE_MODEL_LEAST
from rnn_jax.training.initialisation import check_vocabulary
from rnn_jax.training.regularisers import averaging
from rnn_jax.training.tasks import Network, Task
from rnn_jax.training.trainer import check_plan

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
    check_vocabulary(config.text.tokenizer, config.embedding.vectors)
    build_objective(config, np.ones(3, int))
    check_weight_drop("objective.weight_drop", config.objective.weight_drop, config.model.cell)
    choose("direction", config.direction, DIRECTIONS)
    check_rows("batch.lanes", config.batch.lanes, batch_mesh(config.devices))


def load_language_data(config: ConfigDict, cache: Path, source: "Source | None" = None) -> Documents:
    """Returns the windows of the training and held-out documents; this process gets its own lanes."""
    reverse = choose("direction", config.direction, DIRECTIONS)
    lanes, window = config.batch.lanes, config.batch.window
    data = dict(config.data, source=source or config.data.source)
    return load_documents(data, config.text, lanes, window, reverse, cache, own_rows(lanes))


def language_network(config: ConfigDict, data: Documents) -> Network:
    """Returns the language model of `config.model`, its loss and its measure, and the carry of its lanes."""
    model = build_language_model(data.tokenizer.vocab_size, **config.model)
    return Network(
        model,
        make_language_loss(model, build_objective(config, data.uses)),
        make_language_measure(model),
        carry=jax.tree.map(jnp.copy, model.initial_carry(config.batch.lanes)),  # an LSTM's repeats one array
        regularisers=averaging(config),
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


LANGUAGE_MODELLING = Task(
    LANGUAGE_MODEL,
    LANGUAGE_MODEL_LEAST,
    check_language,
    load_language_data,
    language_network,
    "perplexity {perplexity:.1f} of {words:,} words held out\n"
    "use it: set embedding.from_workdir to {workdir}, or rnn-jax sample --workdir {workdir} --prompt the",
)
