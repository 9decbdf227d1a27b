"""Pooling: turns what a recurrent layer returned into one vector a row. Padding is never seen."""

from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from rnn_jax.errors import choose
from rnn_jax.layers.inputs import row_lengths
from rnn_jax.layers.masking import max_over_time, mean_over_time, softmax_over_time, zero_padding


class Summary(NamedTuple):
    """What is kept of the outputs so far: enough for every kind of pooling, and no more for a longer text.

    Each output h_t has the weight exp(score_t). The score is 0 unless the pooling is attention. Weights are
    kept in units of the largest so far, and the mean is updated step by step, so that no number grows with
    the text.
    """

    peak: jax.Array  # float32[B]: the highest score; before any step -inf
    mass: jax.Array  # float32[B]: the sum of the weights, in units of exp(peak)
    mean: jax.Array  # float32[B, H]: the weighted mean of the outputs
    highest: jax.Array  # float32[B, H]: their maximum


class Pooling(nn.Module):
    """Turns a recurrent layer's outputs into one vector a row: `pooling(final_hidden, outputs, lengths)`.

    Attributes:
      kind: "last" (the final hidden state), "mean", "max", "concat" (those three joined), or "attention", a
        softmax over time of v . tanh(W h_t + b), with parameters `score` and `query` (Yang et al. 2016).

    Raises:
      InputError: an unknown kind.

    >>> import jax.numpy as jnp
    >>> from rnn_jax.layers import Pooling
    >>> outputs, lengths = jnp.array([[[1.0], [3.0], [9.0]]]), jnp.array([2])
    >>> Pooling("mean").apply({}, jnp.array([[3.0]]), outputs, lengths).tolist()
    [[2.0]]
    """

    kind: str = "last"

    def __call__(self, final_hidden: jax.Array, outputs: jax.Array, lengths: jax.Array) -> jax.Array:
        """Returns [B, H], or [B, 3H] for "concat".

        Args:
          final_hidden: the layer's `final_hidden(carry)`, [B, H].
          outputs: [B, T, H].
          lengths: int[B], the valid steps of each row, clamped to 0..T. A row of length 0 gives zeros, except
            with "last", which gives its final hidden state.

        Raises:
          InputError: lengths is not int[B].

        >>> import jax.numpy as jnp
        >>> from rnn_jax.layers import Pooling
        >>> final, outputs = jnp.array([[3.0]]), jnp.array([[[1.0], [3.0]]])
        >>> Pooling("concat").apply({}, final, outputs, jnp.array([2])).tolist()  # last, mean, max
        [[3.0, 2.0, 3.0]]
        """
        pool = choose("pooling", self.kind, POOLINGS)
        lengths = row_lengths(lengths, outputs.shape[:1], outputs.shape[1])
        return pool(self, final_hidden, outputs, lengths)

    def attention(self, outputs_BTH: jax.Array, lengths: jax.Array) -> jax.Array:
        """Returns [B, H], the sum of the outputs weighted by the softmax."""
        # A weight of zero does not hide NaN: 0 * NaN is NaN.
        outputs_BTH = zero_padding(outputs_BTH, lengths)
        weights_BT = softmax_over_time(self.scores(outputs_BTH), lengths)
        return jnp.einsum("bt,bth->bh", weights_BT.astype(outputs_BTH.dtype), outputs_BTH)

    @nn.compact
    def scores(self, outputs: jax.Array) -> jax.Array:
        """Returns float32[...], the scores of attention for outputs [..., H]."""
        hidden = jnp.tanh(nn.Dense(outputs.shape[-1], dtype=outputs.dtype, name="score")(outputs))
        scores = nn.Dense(1, use_bias=False, dtype=outputs.dtype, name="query")(hidden)
        return scores[..., 0].astype(jnp.float32)

    @nn.nowrap
    def begin(self, outputs_BH: jax.Array) -> Summary:
        """Returns the summary of no outputs, for outputs of that shape."""
        zeros_BH = jnp.zeros(outputs_BH.shape, jnp.float32)
        return Summary(zeros_BH[:, 0] - jnp.inf, zeros_BH[:, 0], zeros_BH, zeros_BH - jnp.inf)

    def advance(self, summary: Summary, outputs_BH: jax.Array) -> Summary:
        """Returns the summary with one step more."""
        scores_B = self.scores(outputs_BH) if self.kind == "attention" else jnp.zeros(len(outputs_BH))
        outputs_BH = outputs_BH.astype(jnp.float32)
        peak = jnp.maximum(summary.peak, scores_B)
        weight = jnp.exp(scores_B - peak)
        mass = summary.mass * jnp.exp(summary.peak - peak) + weight
        mean = summary.mean + (weight / mass)[:, None] * (outputs_BH - summary.mean)
        return Summary(peak, mass, mean, jnp.maximum(summary.highest, outputs_BH))

    def read(self, summary: Summary, final_hidden: jax.Array) -> jax.Array:
        """Returns what the call gives for all outputs so far.

        Raises:
          InputError: a kind of pooling that has to see all outputs at once.
        """
        return choose("pooling of what is read word by word", self.kind, RUNNING)(summary, final_hidden)


POOLINGS: dict[str, Callable[[Pooling, jax.Array, jax.Array, jax.Array], jax.Array]] = {
    "last": lambda module, final, outputs, lengths: final,
    "mean": lambda module, final, outputs, lengths: mean_over_time(outputs, lengths),
    "max": lambda module, final, outputs, lengths: max_over_time(outputs, lengths),
    "concat": lambda module, final, outputs, lengths: jnp.concatenate(
        [final.astype(outputs.dtype), mean_over_time(outputs, lengths), max_over_time(outputs, lengths)],
        axis=-1,
    ),
    "attention": lambda module, final, outputs, lengths: module.attention(outputs, lengths),
}
RUNNING: dict[str, Callable[[Summary, jax.Array], jax.Array]] = {
    "last": lambda summary, final: final,
    "mean": lambda summary, final: summary.mean,
    "max": lambda summary, final: highest(summary),
    "concat": lambda summary, final: jnp.concatenate([final, summary.mean, highest(summary)], axis=-1),
    "attention": lambda summary, final: summary.mean,
}


def highest(summary: Summary) -> jax.Array:
    """Returns the maximum of the outputs so far, zero where there are none."""
    return jnp.where(summary.mass[:, None] > 0, summary.highest, 0)
