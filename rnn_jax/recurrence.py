"""One step of each recurrence, as pure functions of arrays: no Flax, no parameters of their own.

A step has two halves: `project_inputs` needs only the inputs; `*_step` waits for the previous state.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rnn_jax.products import accumulated_dot


class LSTMCarry(NamedTuple):
    """State of an LSTM, in Flax's order: the memory `c` and the hidden state `h`, each [B, H]."""

    c: jax.Array
    h: jax.Array


class Norms(NamedTuple):
    """Scales and shift of a layer-normalised LSTM: [4H], [4H], [H], [H]."""

    input_scale: jax.Array
    recurrent_scale: jax.Array
    cell_scale: jax.Array
    cell_bias: jax.Array


class Weights(NamedTuple):
    """A cell's arrays, its G gates side by side: `kernel` is [E, G*H], `recurrent` [H, G*H], `bias` [G*H]."""

    kernel: jax.Array
    recurrent: jax.Array
    bias: jax.Array
    candidate_bias: Any = None  # of the GRU: [H], on the recurrent side of n
    norms: Norms | None = None


def project_inputs(weights: Weights, x: jax.Array) -> jax.Array:
    """Returns x W + b, [..., G*H]; with `weights.norms`, x W is layer-normalised before the bias."""
    product = accumulated_dot(x, weights.kernel)
    if weights.norms:
        product = jax.nn.standardize(product) * weights.norms.input_scale
    return product + weights.bias


def recurrent_product(weights: Weights, h: jax.Array, hidden_mask: jax.Array | None) -> jax.Array:
    """Returns (h * hidden_mask) @ U, [B, G*H]."""
    return accumulated_dot(h if hidden_mask is None else h * hidden_mask, weights.recurrent)


def simple_step(
    weights: Weights, h: jax.Array, z: jax.Array, hidden_mask: jax.Array | None = None
) -> jax.Array:
    """Returns h' = tanh(z + U h), [B, H], from projected inputs z (Elman 1990)."""
    return jnp.tanh(z + recurrent_product(weights, h, hidden_mask)).astype(h.dtype)


def gru_step(weights: Weights, h: jax.Array, z: jax.Array, hidden_mask: jax.Array | None = None) -> jax.Array:
    """Returns h' = (1-z)*n + z*h, [B, H] (Cho et al. 2014), reset after the product as in cuDNN and torch."""
    r_in, z_in, n_in = jnp.split(z, 3, axis=-1)
    r_h, z_h, n_h = jnp.split(recurrent_product(weights, h, hidden_mask), 3, axis=-1)
    r, z = jax.nn.sigmoid(r_in + r_h), jax.nn.sigmoid(z_in + z_h)
    n = jnp.tanh(n_in + r * (n_h + weights.candidate_bias))
    return ((1 - z) * n + z * h).astype(h.dtype)


def lstm_step(
    weights: Weights, carry: LSTMCarry, z: jax.Array, hidden_mask: jax.Array | None = None
) -> LSTMCarry:
    """Returns c' = f*c + i*g and h' = o*tanh(c') (Hochreiter & Schmidhuber 1997; f of Gers et al. 2000).

    With `weights.norms`, U h and the c inside the last tanh are layer-normalised (Ba et al. 2016).
    """
    c, h = carry
    norms = weights.norms
    product = recurrent_product(weights, h, hidden_mask)
    if norms:
        product = jax.nn.standardize(product) * norms.recurrent_scale
    i, f, g, o = jnp.split(z + product, 4, axis=-1)
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    read = jax.nn.standardize(c) * norms.cell_scale + norms.cell_bias if norms else c
    return LSTMCarry(c.astype(carry.c.dtype), (jax.nn.sigmoid(o) * jnp.tanh(read)).astype(h.dtype))
