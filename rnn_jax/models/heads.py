"""Heads: what a network decides of a text, and all that depends on it.

`data.target` names one: a class (the default), several labels at once, or a number. Training, predictors,
exports, reports and servers ask the head for the loss, the metrics, the scores and the prediction.
docs/heads.md shows each.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple, Protocol, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from rnn_jax.data.batches import Batch
from rnn_jax.data.targets import CLASS, LABELS, NUMBER
from rnn_jax.errors import check_rate, choose, require
from rnn_jax.models.losses import batch_metrics, class_factors, class_log_probabilities
from rnn_jax.models.metrics import LabelMetrics, Measured, Metrics, NumberMetrics, Values, of_field
from rnn_jax.models.scores import (
    FROM_COUNTS,
    FROM_LABEL_COUNTS,
    Scores,
    classifier_scores,
    label_scores,
    number_scores,
)

SMALLEST = float(jnp.finfo(jnp.float32).tiny)  # of a probability, so that its logarithm is finite
Monitor: TypeAlias = Callable[[Any], float]  # a value of metrics that an evaluation may be chosen by


class Prediction(NamedTuple):
    """What a classifier says of n texts, as `Predictor.predict` returns it.

    Attributes:
      labels: the most probable label of each text.
      probabilities: float32[n, C], of each class, in the order of `Predictor.label_names`.

    >>> prediction = Prediction(["fine"], np.array([[0.25, 0.75]], np.float32))
    >>> prediction.labels, prediction.probabilities.tolist()
    (['fine'], [[0.25, 0.75]])
    """

    labels: list[str]
    probabilities: np.ndarray


class LabelsPrediction(NamedTuple):
    """What a network for several labels at once says of n texts.

    Attributes:
      labels: for each text the labels whose probability is above 0.5, none, one or more.
      probabilities: float32[n, C], of each label by itself, in the order of `Predictor.label_names`.

    >>> LabelsPrediction([["war", "love"], []], np.array([[0.9, 0.8], [0.1, 0.2]])).labels[0]
    ['war', 'love']
    """

    labels: list[list[str]]
    probabilities: np.ndarray


class NumbersPrediction(NamedTuple):
    """What a regressor says of n texts.

    Attributes:
      values: float64[n], in the unit of the data.

    >>> NumbersPrediction(np.array([4.5, 1.0])).values.max()
    np.float64(4.5)
    """

    values: np.ndarray


AnyPrediction: TypeAlias = Prediction | LabelsPrediction | NumbersPrediction


class Head(Protocol):
    """What depends on the kind of decision. `ClassHead`, `LabelsHead` and `NumberHead` are the three."""

    target: ClassVar[str]  # its name in `data.target`
    monitors: ClassVar[Mapping[str, Monitor]]  # what `train.monitor` may name beside "loss", each of metrics
    export_call: ClassVar[str]  # what an exported program gives

    @property
    def model_options(self) -> dict[str, Any]:
        """The keywords of `build_classifier` that make the network's logits those of this head."""

    def measure(
        self, logits: jax.Array, batch: Batch, smoothing: float = 0.0, class_weights: Values | None = None
    ) -> Measured:
        """Returns the summed loss and the metrics of a batch, as `batch_metrics` does for classes."""

    def answer(self, logits: jax.Array) -> jax.Array:
        """Returns what the logits [B, ...] say: float32 probabilities [B, C], or standardised numbers [B]."""

    def logits_of(self, answers: jax.Array) -> jax.Array:
        """Returns float32[n, ...] logits whose answers are these: the inverse of `answer`."""

    def exported(self, logits: jax.Array) -> jax.Array:
        """Returns what an exported program gives."""

    def quantity(self, logits: jax.Array, label: jax.Array) -> jax.Array:
        """Returns float32[B], what is explained of one label: its logit, or the number in its unit."""

    def details(self, metrics: Any) -> Scores:
        """Returns what an evaluation has beside its summary, such as errors in the unit of the data."""

    def scores(self, answers: np.ndarray, targets: np.ndarray) -> Scores:
        """Returns the scores of n answers, JSON values by name, for `Batch.labels` of all of them."""

    def prediction(self, answers: np.ndarray) -> AnyPrediction:
        """Returns the prediction of n answers."""

    def as_json(self, prediction: Any) -> list[dict[str, Any]]:
        """Returns a prediction as JSON values for each text."""


@dataclass(frozen=True)
class ClassHead:
    """One of C classes: softmax and cross-entropy; two classes have one logit.

    Attributes:
      names: the C classes.

    >>> head = ClassHead(("dull", "fine"))
    >>> head.prediction(np.array([[0.25, 0.75]])).labels
    ['fine']
    """

    names: tuple[str, ...]
    target: ClassVar[str] = CLASS
    monitors: ClassVar[Mapping[str, Monitor]] = MappingProxyType(
        {name: partial(of_field, "confusion", of) for name, of in FROM_COUNTS.items()}
    )
    export_call: ClassVar[str] = "log_probabilities f32[b, classes]"

    @property
    def model_options(self) -> dict[str, Any]:
        return {"num_classes": len(self.names)}

    def measure(
        self, logits: jax.Array, batch: Batch, smoothing: float = 0.0, class_weights: Values | None = None
    ) -> Metrics:
        return batch_metrics(logits, batch, smoothing, class_weights)

    def answer(self, logits: jax.Array) -> jax.Array:
        return jnp.exp(class_log_probabilities(logits))

    def logits_of(self, answers: jax.Array) -> jax.Array:
        return jnp.log(jnp.maximum(answers, SMALLEST))

    def exported(self, logits: jax.Array) -> jax.Array:
        return class_log_probabilities(logits)

    def quantity(self, logits: jax.Array, label: jax.Array) -> jax.Array:
        log_p_BC = class_log_probabilities(logits)
        other_BC = jnp.where(jnp.arange(log_p_BC.shape[-1]) == label, -jnp.inf, log_p_BC)
        return log_p_BC[:, label] - jax.nn.logsumexp(other_BC, axis=-1)

    def details(self, metrics: Any) -> Scores:
        return {}

    def scores(self, answers: np.ndarray, targets: np.ndarray) -> Scores:
        return classifier_scores(answers, targets, self.names)

    def prediction(self, answers: np.ndarray) -> Prediction:
        return Prediction([self.names[index] for index in answers.argmax(axis=1)], answers)

    def as_json(self, prediction: Prediction) -> list[dict[str, Any]]:
        return [
            {"label": label, "probabilities": named(self.names, row)}
            for label, row in zip(prediction.labels, prediction.probabilities, strict=True)
        ]


@dataclass(frozen=True)
class LabelsHead:
    """Any of C labels at once: a logistic regression for each label, on the same features.

    p_c = sigmoid(z_c);  loss = -mean_c [w_c y_c log p_c + (1 - y_c) log(1 - p_c)]

    Attributes:
      names: the C labels.

    >>> LabelsHead(("war", "love")).prediction(np.array([[0.9, 0.8], [0.1, 0.2]])).labels
    [['war', 'love'], []]
    """

    names: tuple[str, ...]
    target: ClassVar[str] = LABELS
    monitors: ClassVar[Mapping[str, Monitor]] = MappingProxyType(
        {
            **{name: partial(of_field, "counts", of) for name, of in FROM_LABEL_COUNTS.items()},
            "subset_accuracy": lambda m: m.summary()["subset_accuracy"],
        }
    )
    export_call: ClassVar[str] = "probabilities f32[b, labels]"

    @property
    def model_options(self) -> dict[str, Any]:
        return {"num_classes": len(self.names), "independent": True}

    def measure(
        self, logits: jax.Array, batch: Batch, smoothing: float = 0.0, class_weights: Values | None = None
    ) -> LabelMetrics:
        """Returns the sums of a batch, whose `labels` are int32[B, C] of 0 and 1.

        Args:
          logits: float[B, C].
          batch: its labels and weights are read.
          smoothing: s; a target y becomes (1 - s) y + s / 2.
          class_weights: float[C], w above; None is 1.

        Raises:
          InputError: labels that are not [B, C], smoothing outside [0, 1), or another number of class
            weights.
        """
        check_rate("smoothing", smoothing)
        check_shape(batch.labels, logits.shape)
        true_BC, weights_B = jnp.asarray(batch.labels, jnp.float32), jnp.asarray(batch.weights)
        soft_BC = (1 - smoothing) * true_BC + smoothing / 2
        classes = len(self.names)
        factors_C = jnp.ones(classes) if class_weights is None else class_factors(class_weights, classes)
        losses_BC = factors_C[None] * soft_BC * jax.nn.softplus(-logits) + (1 - soft_BC) * jax.nn.softplus(
            logits
        )
        found_BC = (logits > 0).astype(jnp.float32)
        exact_B = (found_BC == true_BC).all(axis=-1)
        counts_C3 = jnp.stack([weights_B @ part for part in (found_BC * true_BC, found_BC, true_BC)], axis=-1)
        return LabelMetrics(
            (losses_BC.mean(axis=-1) * weights_B).sum(),
            counts_C3,
            (exact_B * weights_B).sum(),
            weights_B.sum(),
        )

    def answer(self, logits: jax.Array) -> jax.Array:
        return jax.nn.sigmoid(logits)

    def logits_of(self, answers: jax.Array) -> jax.Array:
        return jnp.log(jnp.maximum(answers, SMALLEST)) - jnp.log(jnp.maximum(1 - answers, SMALLEST))

    def exported(self, logits: jax.Array) -> jax.Array:
        return self.answer(logits)

    def quantity(self, logits: jax.Array, label: jax.Array) -> jax.Array:
        return logits[:, label]

    def details(self, metrics: Any) -> Scores:
        return {}

    def scores(self, answers: np.ndarray, targets: np.ndarray) -> Scores:
        return label_scores(answers, targets, self.names)

    def prediction(self, answers: np.ndarray) -> LabelsPrediction:
        labels = [[self.names[index] for index in np.flatnonzero(row)] for row in answers > 0.5]
        return LabelsPrediction(labels, answers)

    def as_json(self, prediction: LabelsPrediction) -> list[dict[str, Any]]:
        return [
            {"labels": labels, "probabilities": named(self.names, row)}
            for labels, row in zip(prediction.labels, prediction.probabilities, strict=True)
        ]


@dataclass(frozen=True)
class NumberHead:
    """A number: linear regression on the text's features, of numbers with mean 0 and deviation 1.

    loss = (z - (y - mean) / deviation)^2; a prediction is mean + deviation z, in the unit of the data.

    Attributes:
      mean, deviation: of the numbers to train on.

    >>> NumberHead(mean=10.0, deviation=2.0).prediction(np.array([0.5])).values.tolist()
    [11.0]
    """

    mean: float
    deviation: float
    names: ClassVar[tuple[str, ...]] = ()
    target: ClassVar[str] = NUMBER
    monitors: ClassVar[Mapping[str, Monitor]] = MappingProxyType(
        {
            "rmse": lambda m: m.summary()["loss"] ** 0.5,
            "mae": lambda m: float(m.absolute) / max(float(m.examples), 1.0),
            "r2": lambda m: m.summary()["r2"],
        }
    )
    export_call: ClassVar[str] = "numbers f32[b]"

    @property
    def model_options(self) -> dict[str, Any]:
        return {"num_classes": 1, "independent": True}

    def measure(
        self, logits: jax.Array, batch: Batch, smoothing: float = 0.0, class_weights: Values | None = None
    ) -> NumberMetrics:
        """Returns the sums of a batch, whose `labels` are standardised float32[B]; logits are float[B, 1].

        Raises:
          InputError: labels that are not [B], or smoothing or class weights, which numbers do not have.
        """
        check_shape(batch.labels, logits.shape[:1])
        require(
            not smoothing and class_weights is None,
            f"smoothing is {smoothing} and class_weights is {class_weights}, but a number has no classes; "
            "leave them at 0 and None",
        )
        true_B, weights_B = jnp.asarray(batch.labels), jnp.asarray(batch.weights)
        errors_B = logits[:, 0] - true_B
        parts = (errors_B**2, jnp.abs(errors_B), true_B, true_B**2, jnp.ones_like(true_B))
        return NumberMetrics(*((part * weights_B).sum() for part in parts))

    def answer(self, logits: jax.Array) -> jax.Array:
        return logits[:, 0]

    def logits_of(self, answers: jax.Array) -> jax.Array:
        return answers[:, None]

    def exported(self, logits: jax.Array) -> jax.Array:
        return self.mean + self.deviation * logits[:, 0]

    def quantity(self, logits: jax.Array, label: jax.Array) -> jax.Array:
        return self.exported(logits)

    def details(self, metrics: Any) -> Scores:
        return {name: self.deviation * self.monitors[name](metrics) for name in ("rmse", "mae")}

    def scores(self, answers: np.ndarray, targets: np.ndarray) -> Scores:
        return number_scores(self.prediction(answers).values, self.prediction(targets).values)

    def prediction(self, answers: np.ndarray) -> NumbersPrediction:
        return NumbersPrediction(self.mean + self.deviation * answers.astype(np.float64))

    def as_json(self, prediction: NumbersPrediction) -> list[dict[str, Any]]:
        return [{"value": value} for value in prediction.values.tolist()]


def check_shape(labels: Values, shape: tuple[int, ...]) -> None:
    """Raises InputError unless labels are of that shape: JAX would repeat others in silence."""
    require(
        labels.shape == shape, f"labels has shape {labels.shape}, but the logits are for {shape}; give that"
    )


def named(names: Sequence[str], row: np.ndarray) -> dict[str, float]:
    """Returns the probabilities of a text by label."""
    return dict(zip(names, row.tolist(), strict=True))


# By data.target; each is made of a run's task.json.
HEADS: dict[str, Callable[[Mapping[str, Any]], Head]] = {
    CLASS: lambda task: ClassHead(tuple(map(str, task["label_names"]))),
    LABELS: lambda task: LabelsHead(tuple(map(str, task["label_names"]))),
    NUMBER: lambda task: NumberHead(task["mean"], task["deviation"]),
}
MONITORS: dict[str, Mapping[str, Monitor]] = {
    head.target: head.monitors for head in (ClassHead, LabelsHead, NumberHead)
}


def head_of(target: str, task: Mapping[str, Any]) -> Head:
    """Returns the head of a run.

    Args:
      target: `data.target`.
      task: what task.json holds: "label_names", or "mean" and "deviation".

    Raises:
      InputError: no such target.

    >>> head_of("number", {"mean": 3.0, "deviation": 1.0}).target
    'number'
    """
    return choose("data.target", target, HEADS)(task)
