"""What each word adds to a decision: integrated gradients (Sundararajan, Taly & Yan 2017)."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rnn_jax.errors import choose, require
from rnn_jax.models.losses import class_log_probabilities


class Attribution(NamedTuple):
    """What each word of a text adds to what the model says of one class.

    Attributes:
      words: as the text writes them, those outside the vocabulary too.
      scores: float32[n], one for each word. Their sum is `value - baseline`, but for the error of the steps.
      label: the name of the class.
      value: what the model says of it: its logit or probability.
      baseline: what it says of as many words whose vectors are zero.
    """

    words: list[str]
    scores: np.ndarray
    label: str
    value: float
    baseline: float


def _log_odds(log_p_BC: jax.Array, label: jax.Array) -> jax.Array:
    other_BC = jnp.where(jnp.arange(log_p_BC.shape[-1]) == label, -jnp.inf, log_p_BC)
    return log_p_BC[:, label] - jax.nn.logsumexp(other_BC, axis=-1)


QUANTITIES: dict[str, Callable[[jax.Array, jax.Array], jax.Array]] = {
    "logit": _log_odds,
    "probability": lambda log_p_BC, label: jnp.exp(log_p_BC[:, label]),
}


def attribute_words(
    apply_fn: Callable[..., Any],
    params: Any,
    token_ids_T: np.ndarray,
    length: int,
    label: int,
    *,
    of: str,
    steps: int,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns the words' attributions float32[T], zero at padding, the value of the text and of the baseline.

    Args:
      apply_fn: `model.apply` of a TextClassifier; compiled once for it and each T, `of` and `steps`.
      token_ids_T, length: one text, padded on the right.
      label: the class, by number.
      of: "logit", log p / (1 - p), which of two classes is the model's one logit, or "probability".
      steps: gradients on the way from the baseline to the text.

    Raises:
      InputError: another `of`, or no steps.
    """
    choose("of", of, QUANTITIES)
    require(steps > 0, f"steps is {steps}; give at least 1 gradient on the way from the baseline")
    return _attribute_words(apply_fn, of, steps, {"params": params}, token_ids_T, length, label)


@partial(jax.jit, static_argnums=(0, 1, 2))
def _attribute_words(apply_fn, of, steps, variables, token_ids_T, length, label):
    def value_fn(x_BTE):
        logits = apply_fn(variables, x_BTE, jnp.full(len(x_BTE), length), method="classify")
        return QUANTITIES[of](class_log_probabilities(logits), label)

    x_TE = apply_fn(variables, token_ids_T[None], method="embed")[0]
    value, baseline = value_fn(jnp.stack([x_TE, jnp.zeros_like(x_TE)]))
    return integrated_gradients(value_fn, x_TE, steps), value, baseline


def integrated_gradients(
    value_fn: Callable[[jax.Array], jax.Array], x_TE: jax.Array, steps: int
) -> jax.Array:
    """Returns float32[T]: x times the mean gradient of `value_fn`, [B, T, E] -> [B], between zeros and x.

    The mean is Gauss and Legendre's: for as many steps the smallest error there is on a smooth function. The
    steps are one batch.
    """
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    on_the_way_STE = jnp.asarray((nodes + 1) / 2, x_TE.dtype)[:, None, None] * x_TE
    slopes_STE = jax.grad(lambda x: value_fn(x).sum())(on_the_way_STE).astype(jnp.float32)
    mean_TE = jnp.einsum("s,ste->te", jnp.asarray(weights / 2, jnp.float32), slopes_STE)
    return (x_TE.astype(jnp.float32) * mean_TE).sum(axis=-1)
