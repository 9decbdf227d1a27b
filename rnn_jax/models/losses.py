"""What networks are trained for and measured by: pure functions of (parameters, carry, batch).

A loss is `total, (metrics, count, carry) = loss_fn(params, carry, batch, key)`. `total` is the sum over the
batch that is differentiated; `count` is what it is divided by, and `metrics` are sums that are reported. The
carry is what goes on to the next batch: the state of a language model, `()` of a classifier. A measure, which
evaluates, is `metrics, carry = measure(params, carry, batch)`.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, Protocol, TypeVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import KeyPath

from rnn_jax.data.batches import Batch
from rnn_jax.data.windows import Window
from rnn_jax.errors import check_rate, require
from rnn_jax.layers.cells import Carry
from rnn_jax.layers.masking import keep_valid, valid_steps
from rnn_jax.models.language_model import LanguageModel
from rnn_jax.models.softmax import Negatives, sampled_losses, softmax_losses
from rnn_jax.trees import Params, names_on

BatchIn = TypeVar("BatchIn", contravariant=True)
RECURRENT = {"h", "hi", "hf", "hg", "ho", "hr", "hz", "hn"}  # names of cells' recurrent kernels, as in Flax


class Measured(Protocol):
    """Metrics: a NamedTuple of sums over what one or more steps read, that add up field by field."""

    @property
    def loss(self) -> jax.Array:
        """The summed loss."""

    @property
    def unit(self) -> str:
        """What is counted, such as "words"."""

    def summary(self) -> dict[str, float]:
        """Returns the means by name, the loss among them, and under `unit` how many there were."""


class Metrics(NamedTuple):
    """Sums over the real examples of one or more batches; `confusion[i, j]` counts label i predicted as j."""

    loss: jax.Array  # float32[]
    confusion: jax.Array  # float32[C, C]

    @property
    def unit(self) -> str:
        """What is counted."""
        return "examples"

    def summary(self) -> dict[str, float]:
        """Returns the mean loss, the accuracy and the number of examples."""
        count = float(np.sum(self.confusion))
        hits = float(np.trace(np.asarray(self.confusion)))
        return {
            "loss": float(self.loss) / max(count, 1.0),
            "accuracy": hits / max(count, 1.0),
            "examples": int(count),
        }


class LossFn(Protocol[BatchIn]):
    """A loss, as the head of this module describes it."""

    def __call__(
        self, params: Params, carry: Carry, batch: BatchIn, key: jax.Array, /
    ) -> tuple[jax.Array, tuple[Measured, jax.Array, Carry]]:
        """Returns the summed loss, and (metrics, count, carry); `key` is of all that is drawn."""


class MeasureFn(Protocol[BatchIn]):
    """A measure, as the head of this module describes it."""

    def __call__(self, params: Params, carry: Carry, batch: BatchIn, /) -> tuple[Measured, Carry]:
        """Returns the metrics and the carry, without anything drawn."""


def class_log_probabilities(logits: jax.Array) -> jax.Array:
    """Returns log p [B, C] from logits [B, C], or [B, 2] from the single logit [B, 1] of a binary task."""
    if logits.shape[-1] == 1:
        return jnp.concatenate([jax.nn.log_sigmoid(-logits), jax.nn.log_sigmoid(logits)], axis=-1)
    return jax.nn.log_softmax(logits)


def batch_metrics(logits: jax.Array, batch: Batch, smoothing: float = 0.0) -> Metrics:
    """Returns the cross-entropy and the confusion counts of a batch, weighted by `batch.weights`.

    Of each target, a share of `smoothing` is spread evenly over the classes.
    """
    log_p_BC = class_log_probabilities(logits)
    losses_B = -jnp.take_along_axis(log_p_BC, batch.labels[:, None], axis=1)[:, 0]
    if smoothing:
        losses_B = (1 - smoothing) * losses_B - smoothing * log_p_BC.mean(axis=1)
    classes = log_p_BC.shape[-1]
    true_BC = jax.nn.one_hot(batch.labels, classes) * batch.weights[:, None]
    predicted_BC = jax.nn.one_hot(log_p_BC.argmax(axis=-1), classes)
    return Metrics((losses_B * batch.weights).sum(), true_BC.T @ predicted_BC)


def make_classifier_loss(apply_fn: Callable[..., jax.Array], smoothing: float = 0.0) -> LossFn[Batch]:
    """Returns the loss of a classifier: the cross-entropy, summed over the real examples.

    `loss_fn(..., perturbation=change)` adds float32[B, T, E] to the embedded words, as an adversary does.

    Args:
      apply_fn: `logits = apply_fn({"params": params}, token_ids, lengths, ...)`, such as `model.apply` of a
        TextClassifier. It gets `deterministic=False`, the rng "dropout", and `perturbation` where there is
        one.
      smoothing: the share of each target that is spread evenly over all classes, from 0 to below 1.
    """

    def loss_fn(params, carry, batch, key, perturbation=None):
        changed = {} if perturbation is None else {"perturbation": perturbation}
        logits = apply_fn(
            {"params": params},
            batch.token_ids,
            batch.lengths,
            deterministic=False,
            rngs={"dropout": key},
            **changed,
        )
        metrics = batch_metrics(logits, batch, smoothing)
        return metrics.loss, (metrics, batch.weights.sum(), carry)

    return loss_fn


def make_classifier_measure(apply_fn: Callable[..., jax.Array]) -> MeasureFn[Batch]:
    """Returns the measure of a classifier: its loss and confusion counts, without dropout."""

    def measure(params, carry, batch):
        return batch_metrics(apply_fn({"params": params}, batch.token_ids, batch.lengths), batch), carry

    return measure


class LanguageMetrics(NamedTuple):
    """Sums over the predicted words of one or more windows."""

    loss: jax.Array  # float32[]: of -log p(word), in nats
    words: jax.Array  # float32[]

    @property
    def unit(self) -> str:
        """What is counted."""
        return "words"

    def summary(self) -> dict[str, float]:
        """Returns the mean loss, the perplexity and the number of words."""
        loss = float(self.loss) / max(float(self.words), 1.0)
        return {"loss": loss, "perplexity": math.exp(min(loss, 700.0)), "words": int(self.words)}


class Objective(NamedTuple):
    """What is minimised beside the whole softmax's cross-entropy, or in its place; all off by default.

    Attributes:
      draw_negatives: draws the words of a sampled softmax (rnn_jax.models.softmax) from a key, such as
        `partial(draw, proposal, 1024)`; the metrics of training are then its estimate.
      weight_drop: rate on the recurrent kernels.
      activation: weight, for each word, of the mean square of the dropped outputs (AR, Merity et al. 2017).
      temporal: weight of the mean square of the change from an output to the next within a window (TAR).
    """

    draw_negatives: Callable[[jax.Array], Negatives] | None = None
    weight_drop: float = 0.0
    activation: float = 0.0
    temporal: float = 0.0

    def check(self) -> "Objective":
        """Returns itself. Raises InputError for a number out of its range."""
        check_rate("weight_drop", self.weight_drop)
        for name in ("activation", "temporal"):
            weight = getattr(self, name)
            require(
                0 <= weight < math.inf, f"{name} is {weight}; it is the weight of a penalty: give at least 0"
            )
        return self


CROSS_ENTROPY = Objective()


def make_language_loss(model: LanguageModel, objective: Objective = CROSS_ENTROPY) -> LossFn[Window]:
    """Returns the loss of a language model, summed over the words to predict; their number is the count.

    The carry is that after the window before, from which no gradient flows; fresh rows begin anew. All rows
    share what is drawn from `key` alone (negatives, dropped weights and types), and the masks of a row are
    its own, so that the sum over the parts of a split batch is the sum over the batch.

    Raises:
      InputError: a number of the objective is out of its range.
    """
    draw_negatives, weight_drop, activation, temporal = objective.check()

    def loss_fn(params, carry, window, key):
        masks, weights, words = jax.random.split(key, 3)
        if weight_drop:
            params = drop_weights(params, weights, weight_drop)
        negatives = None if draw_negatives is None else draw_negatives(words)
        read = partial(_read, window=window, carry=carry, negatives=negatives, deterministic=False)
        metrics, carry, outputs, dropped = nn.apply(read, model)({"params": params}, rngs={"dropout": masks})
        loss = metrics.loss
        if activation:
            loss += activation * mean_squares(dropped)
        if temporal:
            loss += temporal * mean_squares(changes(outputs, window.lengths))
        return loss, (metrics, metrics.words, carry)

    return loss_fn


def make_language_measure(model: LanguageModel) -> MeasureFn[Window]:
    """Returns the measure of a language model: of the whole softmax, without dropout."""

    def measure(params, carry, window):
        read = partial(_read, window=window, carry=carry, negatives=None, deterministic=True)
        metrics, carry, _, _ = nn.apply(read, model)({"params": params})
        return metrics, carry

    return measure


def _read(
    model: LanguageModel, window: Any, carry: Carry, negatives: Negatives | None, deterministic: bool
) -> tuple[LanguageMetrics, Carry, jax.Array, jax.Array]:
    """Returns the metrics, the carry, and the outputs [B, T, H] before and after dropout."""
    carry = begin_anew(carry, model.initial_carry(len(window.fresh)), window.fresh)
    carry, outputs = model(window.token_ids, window.lengths, carry, deterministic)
    dropped = model.drop(outputs, deterministic)
    vectors = model.vectors(dropped)
    rows_NE, targets_N = vectors.reshape(-1, vectors.shape[-1]), window.targets.reshape(-1)
    losses_of = softmax_losses if negatives is None else partial(sampled_losses, negatives=negatives)
    losses_N = losses_of(rows_NE, *model.softmax(), targets_N)
    valid_N = valid_steps(window.lengths, window.targets.shape[1]).reshape(-1)
    loss = jnp.where(valid_N, losses_N, 0).sum()
    return LanguageMetrics(loss, valid_N.sum(dtype=jnp.float32)), carry, outputs, dropped


def begin_anew(carry: Carry, initial: Carry, fresh_B: jax.Array) -> Carry:
    """Returns `initial` in fresh rows and `carry` in the others, cut off from the gradient."""
    kept = jax.tree.map(partial(keep_valid, fresh_B), initial, carry)
    return jax.tree.map(jax.lax.stop_gradient, kept)


def drop_weights(params: Params, key: jax.Array, rate: float) -> Params:
    """Returns parameters whose recurrent kernels have a share `rate` of their entries set to zero.

    The others are scaled by 1 / (1 - rate): DropConnect (Wan et al. 2013; Merity et al. 2018). A network that
    is run with them has one mask for all rows and steps; its cells need not know.

    Raises:
      InputError: a rate outside [0, 1), or no recurrent kernel among the parameters.
    """
    check_rate("weight_drop", rate)
    leaves, structure = jax.tree_util.tree_flatten_with_path(params)
    dropped = []
    for index, (path, leaf) in enumerate(leaves):
        if is_recurrent_kernel(path):
            kept = jax.random.bernoulli(jax.random.fold_in(key, index), 1 - rate, leaf.shape)
            leaf = jnp.where(kept, leaf / (1 - rate), 0)
        dropped.append(leaf)
    require(any(is_recurrent_kernel(path) for path, _ in leaves), "params have no recurrent kernel to drop")
    return jax.tree.unflatten(structure, dropped)


def is_recurrent_kernel(path: KeyPath) -> bool:
    """Returns whether a path of `jax.tree_util` ends in cell, a recurrent name, kernel."""
    names = names_on(path)[-3:]
    return len(names) == 3 and names[0] == "cell" and names[1] in RECURRENT and names[2] == "kernel"


def mean_squares(outputs_BTH: jax.Array) -> jax.Array:
    """Returns the sum over rows and steps of the mean square over features, float32[]."""
    return (outputs_BTH.astype(jnp.float32) ** 2).mean(axis=-1).sum()


def changes(outputs_BTH: jax.Array, lengths: jax.Array) -> jax.Array:
    """Returns [B, T-1, H], each output from the second on less the one before; zero at padding."""
    valid_BT = valid_steps(lengths, outputs_BTH.shape[1])[:, 1:, None]
    return jnp.where(valid_BT, outputs_BTH[:, 1:] - outputs_BTH[:, :-1], 0)
