"""Pooling: turns what a recurrent layer returned into one vector a row. Padding is never seen."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from rnn_jax.errors import choose
from rnn_jax.sequence import max_over_time, mean_over_time, softmax_over_time, zero_padding


class Pooling(nn.Module):
    """Returns [B, H], or [B, 3H] for "concat", from `pooling(final_hidden, outputs, lengths)`.

    final_hidden is [B, H], outputs [B, T, H], lengths int[B]. A row of length 0 gives zeros, but its
    final hidden state for "last".

    Attributes:
      kind: "last" (the final hidden state), "mean", "max", "concat" (those three joined), or "attention", a
        softmax over time of v . tanh(W h_t + b), with parameters `score` and `query` (Yang et al. 2016).

    Raises:
      InputError: an unknown kind.
    """

    kind: str = "last"

    @nn.compact
    def __call__(self, final_hidden: jax.Array, outputs: jax.Array, lengths: jax.Array) -> jax.Array:
        return choose("pooling", self.kind, POOLINGS)(self, final_hidden, outputs, lengths)

    def attention(self, outputs_BTH: jax.Array, lengths: jax.Array) -> jax.Array:
        """Returns [B, H], the sum of the outputs weighted by the softmax."""
        # A weight of zero does not hide NaN: 0 * NaN is NaN.
        outputs_BTH = zero_padding(outputs_BTH, lengths)
        dtype = outputs_BTH.dtype
        hidden_BTH = jnp.tanh(nn.Dense(outputs_BTH.shape[-1], dtype=dtype, name="score")(outputs_BTH))
        scores_BT = nn.Dense(1, use_bias=False, dtype=dtype, name="query")(hidden_BTH)[:, :, 0]
        weights_BT = softmax_over_time(scores_BT.astype(jnp.float32), lengths)
        return jnp.einsum("bt,bth->bh", weights_BT.astype(dtype), outputs_BTH)


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
