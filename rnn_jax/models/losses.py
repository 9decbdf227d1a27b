"""Losses, which networks are trained with, and measures, which evaluate them: pure functions of a batch.

A loss is `total, (metrics, count, carry) = loss_fn(params, carry, batch, key)`. `total` is the sum over the
batch that is differentiated; `count` is what it is divided by, and `metrics` are sums that are reported. The
carry goes on to the next batch: it is the state of a language model, and `()` for a classifier. A measure is
`metrics, carry = measure(params, carry, batch)`.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, Protocol, TypeVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from rnn_jax.data.batches import Batch
from rnn_jax.data.windows import Window
from rnn_jax.errors import check_rate, require
from rnn_jax.layers.cells import Carry
from rnn_jax.layers.masking import keep_valid, valid_steps
from rnn_jax.models.language_model import LanguageModel
from rnn_jax.models.metrics import LanguageMetrics, Measured, Metrics, Values
from rnn_jax.models.softmax import Negatives, sampled_losses, softmax_losses
from rnn_jax.models.weight_drop import drop_weights
from rnn_jax.trees import Params

BatchIn = TypeVar("BatchIn", contravariant=True)


class LossFn(Protocol[BatchIn]):
    """A loss: `total, (metrics, count, carry) = loss_fn(params, carry, batch, key)`, all sums over the batch.

    >>> import jax, jax.numpy as jnp
    >>> from rnn_jax.models import LanguageMetrics
    >>> def loss_fn(params, carry, batch, key):  # the squared error of one number
    ...     total, count = ((params["w"] - batch) ** 2).sum(), jnp.float32(len(batch))
    ...     return total, (LanguageMetrics(total, count), count, carry)
    >>> float(loss_fn({"w": 1.0}, (), jnp.array([2.0, 3.0]), jax.random.key(0))[0])
    5.0
    """

    def __call__(
        self, params: Params, carry: Carry, batch: BatchIn, key: jax.Array, /
    ) -> tuple[jax.Array, tuple[Measured, jax.Array, Carry]]:
        """Returns the summed loss, and (metrics, count, carry); all random draws come from `key`."""


class MeasureFn(Protocol[BatchIn]):
    """A measure: `metrics, carry = measure(params, carry, batch)`, which evaluates and draws nothing."""

    def __call__(self, params: Params, carry: Carry, batch: BatchIn, /) -> tuple[Measured, Carry]:
        """Returns the metrics and the carry."""


def class_log_probabilities(logits: jax.Array) -> jax.Array:
    """Returns the logarithms of the classes' probabilities, float[B, C].

    log p = log_softmax(z) for logits z of shape [B, C]. A binary task has one logit z, of shape [B, 1], and
    p = (sigmoid(-z), sigmoid(z)), of shape [B, 2].

    >>> import jax.numpy as jnp
    >>> from rnn_jax.models import class_log_probabilities
    >>> jnp.exp(class_log_probabilities(jnp.array([[0.0]]))).round(2).tolist()
    [[0.5, 0.5]]
    """
    if logits.shape[-1] == 1:
        return jnp.concatenate([jax.nn.log_sigmoid(-logits), jax.nn.log_sigmoid(logits)], axis=-1)
    return jax.nn.log_softmax(logits)


def batch_metrics(
    logits: jax.Array, batch: Batch, smoothing: float = 0.0, class_weights: Values | None = None
) -> Metrics:
    """Returns the summed cross-entropy and the confusion counts of a batch, weighted by `batch.weights`.

    loss = -sum_b w_b sum_c q_bc log p_bc, where q is 1 - s + s / C at the label and s / C at other classes.
    Where labels are probabilities y, q is (1 - s) y + s / C, and the likeliest class is what is counted.

    Args:
      logits: float[B, C], or [B, 1] for two classes.
      batch: its `labels`, int32[B] in [0, C) or float32[B, C], and `weights`, float32[B], are read.
      smoothing: s, from 0 to below 1 (Szegedy et al. 2016).
      class_weights: float[C], factors of the weights by label; None is 1 for all.

    Raises:
      InputError: labels neither int[B] nor [B, C], another number of class weights, smoothing not in [0, 1).

    >>> import jax.numpy as jnp, numpy as np
    >>> from rnn_jax.data import Batch
    >>> from rnn_jax.models import batch_metrics
    >>> words, ones = np.ones((2, 1), np.int32), np.ones(2, np.int32)
    >>> batch = Batch(words, lengths=ones, labels=np.array([0, 1]), weights=np.ones(2), rows=np.arange(2))
    >>> batch_metrics(jnp.array([[-2.0], [-1.0]]), batch).confusion.tolist()
    [[1.0, 0.0], [1.0, 0.0]]
    """
    check_rate("smoothing", smoothing)
    log_p_BC = class_log_probabilities(logits)
    classes = classes_of(batch.labels, log_p_BC)
    if batch.labels.ndim == 2:
        labels_B, losses_B = batch.labels.argmax(axis=-1), -(batch.labels * log_p_BC).sum(axis=-1)
    else:
        labels_B, losses_B = batch.labels, -jnp.take_along_axis(log_p_BC, batch.labels[:, None], axis=1)[:, 0]
    weights_B = batch.weights
    if class_weights is not None:
        weights_B = weights_B * row_factors(batch.labels, class_factors(class_weights, classes))
    if smoothing:
        losses_B = (1 - smoothing) * losses_B - smoothing * log_p_BC.mean(axis=1)
    true_BC = jax.nn.one_hot(labels_B, classes) * weights_B[:, None]
    predicted_BC = jax.nn.one_hot(log_p_BC.argmax(axis=-1), classes)
    return Metrics((losses_B * weights_B).sum(), true_BC.T @ predicted_BC)


def classes_of(labels: Values, log_p_BC: jax.Array) -> int:
    """Returns C. Raises InputError unless labels are int[B], or probabilities [B, C]."""
    rows, classes = log_p_BC.shape
    require(
        labels.shape == (rows, classes)
        or (labels.shape == (rows,) and jnp.issubdtype(labels.dtype, jnp.integer)),
        f"labels has shape {labels.shape} and dtype {labels.dtype}, but the logits are of {rows} rows and "
        f"{classes} classes; give integers [{rows}], or probabilities [{rows}, {classes}]",
    )
    return classes


def class_factors(class_weights: Values, classes: int) -> jax.Array:
    """Returns float32[C], a factor for each of C classes. Raises InputError for another number of them."""
    factors_C = jnp.asarray(class_weights, jnp.float32)
    require(
        factors_C.shape == (classes,),
        f"class_weights has shape {factors_C.shape}, but there are {classes} classes; give one for each",
    )
    return factors_C


def row_factors(labels: Values, factors_C: jax.Array) -> jax.Array:
    """Returns float32[B], the factor of each row by its label, or by its probabilities."""
    labels = jnp.asarray(labels)
    return labels @ factors_C if labels.ndim == 2 else factors_C[labels]


def make_classifier_loss(
    apply_fn: Callable[..., jax.Array],
    smoothing: float = 0.0,
    weight_drop: float = 0.0,
    class_weights: np.ndarray | None = None,
    measure: Callable[..., Measured] = batch_metrics,
) -> LossFn[Batch]:
    """Returns the loss of a classifier: that of `measure`, the cross-entropy, summed over the real examples.

    `loss_fn(..., perturbation=change)` adds float32[B, T, E] to the embedded words, as an adversary does. The
    count is the number of real examples; the carry is returned as it came.

    Args:
      apply_fn: `logits = apply_fn({"params": params}, token_ids, lengths, ...)`, such as `model.apply` of a
        TextClassifier. It gets `deterministic=False`, the rng "dropout", and `perturbation` where there is
        one.
      smoothing: the share of each target that is spread evenly over all classes, from 0 to below 1.
      weight_drop: rate in [0, 1) at which entries of the recurrent kernels are dropped, one mask for all rows
        and steps of a batch (Merity et al. 2018).
      class_weights: float[C] above 0, factors of the loss by label. The count is still the number of real
        examples, as in Keras: divided by the sum of the factors, as in torch, most batches have no example
        of a rare class and weigh too much. The metrics stay unweighted. None is 1 for all.
      measure: the metrics of (logits, batch, smoothing, class_weights), with the summed `loss`: another
        head's, such as `NumberHead.measure` of rnn_jax.models.heads.

    >>> import jax, jax.numpy as jnp, numpy as np
    >>> from rnn_jax.data import Batches
    >>> from rnn_jax.models import make_classifier_loss
    >>> batch = Batches([np.array([5, 2])], np.array([1]), buckets=(4,), batch_size=2)(seed=0, step=0)
    >>> loss_fn = make_classifier_loss(lambda variables, token_ids, lengths, **_: variables["params"])
    >>> total, (metrics, count, carry) = loss_fn(jnp.zeros((2, 3)), (), batch, jax.random.key(0))
    >>> round(float(total), 3), float(count)  # log 3, of one example
    (1.099, 1.0)
    """

    def loss_fn(
        params: Params, carry: Carry, batch: Batch, key: jax.Array, perturbation: jax.Array | None = None
    ) -> tuple[jax.Array, tuple[Measured, jax.Array, Carry]]:
        changed: dict[str, Any] = {} if perturbation is None else {"perturbation": perturbation}
        if weight_drop:
            key, weights = jax.random.split(key)
            params = drop_weights(params, weights, weight_drop)
        changed |= {"deterministic": False, "rngs": {"dropout": key}, **batch.inputs}
        logits = apply_fn({"params": params}, batch.token_ids, batch.lengths, **changed)
        metrics = weighted = measure(logits, batch, smoothing)
        if class_weights is not None:
            weighted = measure(logits, batch, smoothing, class_weights)
        return weighted.loss, (metrics, jnp.asarray(batch.weights).sum(), carry)

    return loss_fn


def make_classifier_measure(
    apply_fn: Callable[..., jax.Array], measure: Callable[..., Any] = batch_metrics
) -> MeasureFn[Batch]:
    """Returns the measure of a classifier: its loss and confusion counts, without dropout or smoothing.

    The arguments are as in `make_classifier_loss`; `apply_fn` gets the token ids, the
    lengths, and the evidence where the batch has some.

    >>> import jax.numpy as jnp, numpy as np
    >>> from rnn_jax.data import Batches
    >>> from rnn_jax.models import make_classifier_measure
    >>> batch = Batches([np.array([5, 2])], np.array([1]), buckets=(4,), batch_size=2)(seed=0, step=0)
    >>> measure = make_classifier_measure(lambda variables, token_ids, lengths: variables["params"])
    >>> measure(jnp.array([[-1.0], [0.0]]), (), batch)[0].summary()["accuracy"]
    0.0
    """

    def measured(params: Params, carry: Carry, batch: Batch) -> tuple[Measured, Carry]:
        logits = apply_fn({"params": params}, batch.token_ids, batch.lengths, **batch.inputs)
        return measure(logits, batch), carry

    return measured


class Objective(NamedTuple):
    """Options of a language model's loss; by default it is the cross-entropy of the whole softmax.

    loss = sum_t -log p(word_t) + activation * mean(dropped h_t)^2 + temporal * mean(h_t - h_(t-1))^2, where
    each mean is that of the squares over the H features of an output.

    Attributes:
      draw_negatives: draws the words of a sampled softmax (rnn_jax.models.softmax) from a key, such as
        `partial(draw, proposal, 1024)`; the metrics of training are then estimates. None takes all words.
      weight_drop: rate in [0, 1) at which entries of the recurrent kernels are dropped (Merity et al. 2018).
      activation: weight, at least 0, of the activation penalty (AR, Merity et al. 2017).
      temporal: weight, at least 0, of the temporal penalty within a window (TAR, Merity et al. 2017).

    >>> from rnn_jax.models import Objective
    >>> Objective(weight_drop=0.5, activation=2.0, temporal=1.0).check().weight_drop
    0.5
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

    The carry is the state after the window before; no gradient flows through it, and fresh rows begin with
    the initial state. Negatives, dropped weights and dropped types are drawn from `key` once for all rows;
    dropout masks are drawn for each row. So the sum over the parts of a split batch is that over the batch.

    Args:
      model: the language model; its parameters are the first argument of the loss.
      objective: what is added to, or replaces, the cross-entropy of the whole softmax.

    Raises:
      InputError: a number of the objective is out of its range.

    >>> import jax, numpy as np
    >>> from rnn_jax import RNN, GRUCell, LanguageModel
    >>> from rnn_jax.data import Windows
    >>> from rnn_jax.models import make_language_loss
    >>> model = LanguageModel(vocab_size=10, embedding_dim=4, encoder=RNN(GRUCell(4)))
    >>> window = Windows([np.array([5, 6, 7])], lanes=1, window=2)(seed=0, step=0)
    >>> params = model.init(jax.random.key(0), window.token_ids)["params"]
    >>> loss_fn, carry = make_language_loss(model), model.initial_carry(rows=1)
    >>> total, (metrics, count, carry) = loss_fn(params, carry, window, jax.random.key(1))
    >>> float(count)  # words to predict
    2.0
    """
    draw_negatives, weight_drop, activation, temporal = objective.check()

    def loss_fn(
        params: Params, carry: Carry, window: Window, key: jax.Array
    ) -> tuple[jax.Array, tuple[LanguageMetrics, jax.Array, Carry]]:
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
            loss += temporal * mean_squares(output_changes(outputs, jnp.asarray(window.lengths)))
        return loss, (metrics, metrics.words, carry)

    return loss_fn


def make_language_measure(model: LanguageModel) -> MeasureFn[Window]:
    """Returns the measure of a language model: the loss of the whole softmax, without dropout.

    >>> import jax, numpy as np
    >>> from rnn_jax import RNN, GRUCell, LanguageModel
    >>> from rnn_jax.data import Windows
    >>> from rnn_jax.models import make_language_measure
    >>> model = LanguageModel(vocab_size=10, embedding_dim=4, encoder=RNN(GRUCell(4)))
    >>> window = Windows([np.array([5, 6, 7])], lanes=1, window=2)(seed=0, step=0)
    >>> params = model.init(jax.random.key(0), window.token_ids)["params"]
    >>> metrics, carry = make_language_measure(model)(params, model.initial_carry(rows=1), window)
    >>> metrics.summary()["words"]
    2
    """

    def measure(params: Params, carry: Carry, window: Window) -> tuple[LanguageMetrics, Carry]:
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


def mean_squares(outputs_BTH: jax.Array) -> jax.Array:
    """Returns the sum over rows and steps of the mean square over features, float32[]."""
    return (outputs_BTH.astype(jnp.float32) ** 2).mean(axis=-1).sum()


def output_changes(outputs_BTH: jax.Array, lengths: jax.Array) -> jax.Array:
    """Returns the outputs' changes h_t - h_(t-1), [B, T-1, H], from the second step on; zero at padding."""
    valid_BT = valid_steps(lengths, outputs_BTH.shape[1])[:, 1:, None]
    return jnp.where(valid_BT, outputs_BTH[:, 1:] - outputs_BTH[:, :-1], 0)
