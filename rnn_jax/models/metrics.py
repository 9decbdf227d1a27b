"""Metrics: the sums over a batch that a loss or a measure reports, which add up over batches and devices."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, TypeAlias

import jax
import numpy as np

from rnn_jax.models.scores import FROM_LABEL_COUNTS

Values: TypeAlias = jax.Array | np.ndarray


class Measured(Protocol):
    """Metrics, such as `Metrics` and `LanguageMetrics`: a NamedTuple of sums, which add up field by field."""

    @property
    def loss(self) -> jax.Array:
        """The summed loss."""

    @property
    def unit(self) -> str:
        """What is counted, such as "words"."""

    def summary(self) -> dict[str, float]:
        """Returns the means by name, the loss among them, and under `unit` how many there were."""


class Metrics(NamedTuple):
    """The sums over the real examples of one or more batches that a classifier reports.

    Attributes:
      loss: float32[], the summed cross-entropy, in nats.
      confusion: float32[C, C]; `confusion[i, j]` counts the examples of label i that are predicted as j.

    >>> import jax.numpy as jnp
    >>> from rnn_jax.models import Metrics
    >>> Metrics(loss=jnp.array(2.0), confusion=jnp.array([[3.0, 1.0], [0.0, 0.0]])).summary()
    {'loss': 0.5, 'accuracy': 0.75, 'examples': 4}
    """

    loss: jax.Array
    confusion: jax.Array

    @property
    def unit(self) -> str:
        """What is counted."""
        return "examples"

    def summary(self) -> dict[str, float]:
        """Returns the mean loss, the accuracy and the number of examples."""
        return confusion_means(self.loss, self.confusion, self.unit)


def confusion_means(loss: Values, confusion: Values, unit: str) -> dict[str, float]:
    """Returns the mean loss, the accuracy and, under `unit`, the number of what a confusion counts."""
    count, hits = float(np.sum(confusion)), float(np.trace(np.asarray(confusion)))
    return {"loss": float(loss) / max(count, 1.0), "accuracy": hits / max(count, 1.0), unit: int(count)}


class LabelMetrics(NamedTuple):
    """The sums over the real examples of one or more batches that a network for several labels reports.

    Attributes:
      loss: float32[], the summed cross-entropy of the labels, in nats, its mean over the C labels.
      counts: float32[C, 3], of each label how often it was predicted rightly, predicted, and true.
      exact: float32[], the examples all of whose labels were predicted, and no other.
      examples: float32[], how many there were.

    >>> import jax.numpy as jnp
    >>> counts = jnp.array([[1.0, 1.0, 2.0], [0.0, 0.0, 0.0]])
    >>> LabelMetrics(jnp.array(0.5), counts, jnp.array(1.0), jnp.array(2.0)).summary()
    {'loss': 0.25, 'micro_f1': 0.6666666666666666, 'subset_accuracy': 0.5, 'examples': 2}
    """

    loss: jax.Array
    counts: jax.Array
    exact: jax.Array
    examples: jax.Array

    @property
    def unit(self) -> str:
        return "examples"

    def summary(self) -> dict[str, float]:
        """Returns the mean loss, the F1 of all decisions, the share with all labels right, the examples."""
        count, micro = (
            max(float(self.examples), 1.0),
            FROM_LABEL_COUNTS["micro_f1"](np.asarray(self.counts, float)),
        )
        found = {"loss": float(self.loss) / count, "micro_f1": micro}
        return found | {"subset_accuracy": float(self.exact) / count, "examples": int(self.examples)}


class NumberMetrics(NamedTuple):
    """The sums over the real examples of batches that a regressor reports, of standardised numbers.

    Attributes:
      loss: float32[], the summed squared errors.
      absolute: float32[], the summed absolute errors.
      total, squares: float32[], the sums of the true numbers, and of their squares.
      examples: float32[], how many there were.

    >>> import jax.numpy as jnp
    >>> NumberMetrics(*map(jnp.array, (1.0, 1.0, 0.0, 4.0, 2.0))).summary()
    {'loss': 0.5, 'r2': 0.75, 'examples': 2}
    """

    loss: jax.Array
    absolute: jax.Array
    total: jax.Array
    squares: jax.Array
    examples: jax.Array

    @property
    def unit(self) -> str:
        return "examples"

    def summary(self) -> dict[str, float]:
        """Returns the mean squared error of standardised numbers, R2 = 1 - SSE / SST, and the examples."""
        count = max(float(self.examples), 1.0)
        spread = float(self.squares) - float(self.total) ** 2 / count
        r2 = 1 - float(self.loss) / spread if spread > 0 else 0.0
        return {"loss": float(self.loss) / count, "r2": r2, "examples": int(self.examples)}


class LanguageMetrics(NamedTuple):
    """The sums over the predicted words of one or more windows; perplexity is exp(loss / words).

    Attributes:
      loss: float32[], the sum of -log p(word), in nats.
      words: float32[], the number of predicted words.

    >>> import jax.numpy as jnp
    >>> from rnn_jax.models import LanguageMetrics
    >>> LanguageMetrics(loss=jnp.array(0.0), words=jnp.array(3.0)).summary()
    {'loss': 0.0, 'perplexity': 1.0, 'words': 3}
    """

    loss: jax.Array
    words: jax.Array

    @property
    def unit(self) -> str:
        """What is counted."""
        return "words"

    def summary(self) -> dict[str, float]:
        """Returns the mean loss, the perplexity and the number of words."""
        loss = float(self.loss) / max(float(self.words), 1.0)
        return {"loss": loss, "perplexity": math.exp(min(loss, 700.0)), "words": int(self.words)}


def of_field(field: str, score: Callable[[np.ndarray], float], metrics: Any) -> float:
    """Returns a score of one field of metrics, such as the confusion counts."""
    return score(np.asarray(metrics._asdict()[field]))
