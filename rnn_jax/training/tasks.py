"""What a task is: its settings, how its data is read, what it trains and what it prints at its end.

A new task needs a loss, a measure (rnn_jax.models.losses) and one `Task`, which is added to
`rnn_jax.training.TASKS`. docs/extend.md has a whole task in one file.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from string import Formatter
from types import MappingProxyType
from typing import Any, NamedTuple

import flax.linen as nn
import numpy as np
from ml_collections import ConfigDict

from rnn_jax.data.pipeline import RunData
from rnn_jax.layers.cells import Carry
from rnn_jax.models.losses import LossFn, MeasureFn
from rnn_jax.models.metrics import Measured
from rnn_jax.training.regularisers import PLAIN, Regularisers

Say = Callable[[str], None]  # takes a line for the log
Results = dict[str, Any]  # JSON values by name, as in results.json


class Scoring(NamedTuple):
    """What is computed of a network's outputs for the whole test split, once, at the end of a run.

    Attributes:
      measure: `(metrics, outputs), carry = measure(params, carry, batch)`: a `MeasureFn` whose metrics are
        those of the network's own, beside an array [B, ...] of the batch's outputs, such as probabilities.
      scores: `scores = scores(outputs, labels)` of all n examples of the split, numpy arrays [n, ...] and
        int32[n]; JSON values by name for results.json.
      table: `text = table(scores)` for the log.
    """

    measure: MeasureFn[Any]
    scores: Callable[[np.ndarray, np.ndarray], Results]
    table: Callable[[Results], str]


def nothing_more(metrics: Measured) -> Results:
    """Adds nothing to an evaluation."""
    return {}


class Network(NamedTuple):
    """What a task trains.

    Attributes:
      model: the network; `model.init(key, token_ids, lengths)["params"]` draws its parameters. If it has a
        table of word vectors, that is the parameter embedding/embedding, so that vectors can be put there.
      loss, measure: as `LossFn` and `MeasureFn` describe them.
      carry: what the first batch starts from, arrays [B, ...]; () if nothing goes on from batch to batch.
      regularisers: the adversary's norm and the decay of the average of the weights.
      row_sparse: whether a step trains only those rows of the embedding that its batch has. The loss must
        then accept a table of fewer rows.
      scoring: what the test split is scored by at the end; None for a network without scores.
      monitor: `values = monitor(metrics)` adds values to an evaluation on the validation split; with
        "monitor", the name of the value that makes an evaluation better than another.

    >>> from rnn_jax import RNN, GRUCell, TextClassifier
    >>> from rnn_jax.models import make_classifier_loss, make_classifier_measure
    >>> from rnn_jax.training import Network
    >>> model = TextClassifier(vocab_size=10, embedding_dim=3, num_classes=2, encoder=RNN(GRUCell(4)))
    >>> Network(model, make_classifier_loss(model.apply), make_classifier_measure(model.apply)).carry
    ()
    """

    model: nn.Module
    loss: LossFn[Any]
    measure: MeasureFn[Any]
    carry: Carry = ()
    regularisers: Regularisers = PLAIN
    row_sparse: bool = False
    scoring: Scoring | None = None
    monitor: Callable[[Any], Results] = nothing_more


def no_details(workdir: Path, test: Measured, data: RunData[Any]) -> Results:
    """Adds nothing to the report of a run."""
    return {}


def keep_nothing(workdir: Path, data: RunData[Any]) -> None:
    """Writes nothing into the folder of a run."""


class Task(NamedTuple):
    """A kind of run.

    Attributes:
      settings: the reference of its settings, nested dicts of defaults, such as
        `rnn_jax.settings.CLASSIFIER`. A config has to have exactly these keys, with values of these types.
      least: the smallest value of each setting that has one, by dotted key.
      check: `check(config)` raises InputError for a setting that cannot be; called before anything is read.
      load: `load(config, cache)` reads the data; `cache` is a folder for files that other runs can use too.
        With a third argument, splits by name, it takes these for what `config.data.source` names.
      network: `network(config, data)` returns what is trained.
      closing: the text that is printed at the end, formatted with results.json's values, `workdir`, and
        `tested_on`, the name of the split that was measured.
      report: `report(workdir, test, data)` draws pictures of the test split, and returns values to report.
      closings: what `closing` is for a `config.data.target` that has other measures; `of` puts it in place.
      keep: `keep(workdir, data)` writes what using the model needs beside task.json, before training begins.

    >>> from rnn_jax.training import CLASSIFICATION
    >>> CLASSIFICATION._replace(closing="accuracy {accuracy:.2%}, see {workdir}").measures
    ['accuracy']
    """

    settings: Mapping[str, Any]
    least: Mapping[str, float]
    check: Callable[[ConfigDict], None]
    load: Callable[..., RunData[Any]]
    network: Callable[[ConfigDict, Any], Network]
    closing: str
    report: Callable[[Path, Any, Any], Results] = no_details
    closings: Mapping[str, str] = MappingProxyType({})
    keep: Callable[[Path, Any], None] = keep_nothing

    def of(self, config: ConfigDict) -> "Task":
        """Returns the task with the closing of the config's target."""
        return self._replace(closing=self.closings.get(config.data.get("target"), self.closing))

    @property
    def measures(self) -> list[str]:
        """The names of the results that `closing` prints; the report of a finished run has to have them."""
        names = (name for _, name, _, _ in Formatter().parse(self.closing))
        return [name for name in names if name and name not in ("workdir", "tested_on")]

    def close(self, workdir: str | Path, results: Results) -> str:
        """Returns `closing` filled in.

        >>> from rnn_jax.training import CLASSIFICATION
        >>> CLASSIFICATION.close("runs/a", {"accuracy": 0.5, "examples": 8}).split("\\n")[0]
        'test accuracy 50.00% on 8 texts'
        """
        return self.closing.format(**{"tested_on": "test", "workdir": workdir, **results})
