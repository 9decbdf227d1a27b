"""What a task is: its settings, how its data is read, what it trains and what it says at its end.

A new task is a loss and a measure (rnn_jax.models.losses) and one `Task`, in a row of
`rnn_jax.training.TASKS`: docs/extend.md has a whole one in one file.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from string import Formatter
from typing import Any, NamedTuple

import flax.linen as nn
from ml_collections import ConfigDict

from rnn_jax.data.pipeline import RunData
from rnn_jax.layers.cells import Carry
from rnn_jax.models.losses import LossFn, Measured, MeasureFn
from rnn_jax.training.regularisers import PLAIN, Regularisers

Say = Callable[[str], None]  # takes a line for the log
Results = dict[str, Any]  # JSON values by name, as in results.json


class Network(NamedTuple):
    """What a task trains.

    Attributes:
      model: the network; `model.init(key, token_ids, lengths)["params"]` draws its parameters. A table of
        word vectors, if it has one, is the parameter embedding/embedding, so that vectors can be put there.
      loss, measure: as rnn_jax.models.losses describes them.
      carry: what the first batch starts from, rows first; () where nothing goes on from batch to batch.
      regularisers: the adversary's norm and the decay of the average of the weights.
      row_sparse: train the embedding's rows of a batch alone. The model must take the size of the table it
        gets.
    """

    model: nn.Module
    loss: LossFn[Any]
    measure: MeasureFn[Any]
    carry: Carry = ()
    regularisers: Regularisers = PLAIN
    row_sparse: bool = False


def no_details(workdir: Path, test: Measured, data: RunData[Any]) -> Results:
    """Adds nothing to the report of a run."""
    return {}


class Task(NamedTuple):
    """A kind of run.

    Attributes:
      settings: the reference of its settings, nested dicts of defaults, such as
        `rnn_jax.settings.CLASSIFIER`. A config has to have exactly these keys, with values of these types.
      least: the smallest value of each setting that has one, by dotted key.
      check: raises InputError for a setting that cannot be; called before anything is read.
      load: reads the data: `data = load(config, cache)`, with a folder for files that another run can use
        again.
      network: `network(config, data)` gives what is trained.
      closing: what is printed at the end, formatted with results.json's values and `workdir`.
      report: `report(workdir, test, data)` adds pictures and values to what is reported of the test split.
    """

    settings: Mapping[str, Any]
    least: Mapping[str, float]
    check: Callable[[ConfigDict], None]
    load: Callable[[ConfigDict, Path], RunData[Any]]
    network: Callable[[ConfigDict, Any], Network]
    closing: str
    report: Callable[[Path, Any, Any], Results] = no_details

    @property
    def measures(self) -> list[str]:
        """The results that `closing` prints: numbers that the report of a finished run has to have."""
        return [name for _, name, _, _ in Formatter().parse(self.closing) if name and name != "workdir"]
