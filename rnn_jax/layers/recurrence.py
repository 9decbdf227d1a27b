"""One step of each recurrence, as pure functions of arrays: no Flax, no parameters of their own.

A step has two halves: `project_inputs` needs only the inputs; `*_step` waits for the previous state.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rnn_jax.layers.matmul import accumulated_dot


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


class Gating(NamedTuple):
    """What distinguishes the cells, for one step [B, ...] or for many [K, B, ...].

    Attributes:
      scales: of the pre-activations, one for each of the G gates.
      inputs: z [..., G*H] -> what of it the steps read, any tree of arrays.
      gates: (inputs, q) -> all that a step computes before its new carry, any tree of arrays.
      advance: (carry, gates) -> the new carry.
      slopes: (previous carry, new carry, gates) -> partial derivatives of the step, any tree of arrays.
      push: (slopes, z_dot, q_dot) -> what changes of the two products give to the step's linear part, a tree.
      tangent: (slopes, carry_dot, push, q_dot) -> the change of the new carry; q_dot is here h_dot U.
    """

    scales: tuple[float, ...]
    inputs: Callable[..., Any]
    gates: Callable[..., Any]
    advance: Callable[..., Any]
    slopes: Callable[..., Any]
    push: Callable[..., Any]
    tangent: Callable[..., Any]


def unit(t: jax.Array) -> jax.Array:
    """Returns the sigmoid of 2y from t = tanh(y)."""
    return 0.5 * t + 0.5


def unit_slope(t: jax.Array) -> jax.Array:
    """Returns the derivative of the sigmoid of 2y by y, from t = tanh(y)."""
    return 0.5 * (1 - t * t)


def split(x: jax.Array, parts: int) -> list[jax.Array]:
    """Returns equal parts of the last axis. (The transpose of a split is one concatenation.)"""
    return jnp.split(x, parts, axis=-1)


def _lstm_advance(carry, gates):
    i, f, g, o = split(gates, 4)
    c = unit(f) * carry.c + unit(i) * g
    return LSTMCarry(c, unit(o) * jnp.tanh(c))


def _lstm_slopes(previous, carry, gates):
    i, f, g, o = split(gates, 4)
    read = jnp.tanh(carry.c)
    c_by = (unit_slope(i) * g, unit_slope(f) * previous.c, unit(i) * (1 - g * g), unit(f))
    h_by = (unit_slope(o) * read, unit(o) * (1 - read * read))
    return c_by, h_by


def _lstm_tangent(slopes, carry_dot, push, q_dot):
    (c_by_i, c_by_f, c_by_g, c_by_c), (h_by_o, h_by_c) = slopes
    i, f, g, o = split(push + q_dot, 4)
    c_dot = c_by_c * carry_dot.c + c_by_i * i + c_by_f * f + c_by_g * g
    return LSTMCarry(c_dot, h_by_c * c_dot + h_by_o * o)


LSTM = Gating(
    scales=(0.5, 0.5, 1.0, 0.5),
    inputs=lambda z: z,
    gates=lambda z, q: jnp.tanh(z + q),
    advance=_lstm_advance,
    slopes=_lstm_slopes,
    push=lambda slopes, z_dot, q_dot: z_dot + q_dot,
    tangent=_lstm_tangent,
)


def _gru_inputs(z):
    # A step that reads a slice of its slice of one array does not vectorise on XLA's CPU: 7 times slower.
    return split(z, 3)


def _gru_gates(inputs, q):
    (r_z, u_z, n_z), (r_q, u_q, n_q) = inputs, split(q, 3)
    r, u = jnp.tanh(r_z + r_q), jnp.tanh(u_z + u_q)
    return r, u, jnp.tanh(n_z + unit(r) * n_q), n_q


def _gru_advance(h, gates):
    _, u, n, _ = gates
    return n + unit(u) * (h - n)


def _gru_slopes(previous, h, gates):
    r, u, n, n_q = gates
    h_by = (unit_slope(u) * (previous - n), (1 - n * n) * (1 - unit(u)), unit(u))
    return h_by, (unit(r), unit_slope(r) * n_q)


def _gru_push(slopes, z_dot, q_dot):
    _, (n_by_q, _) = slopes
    (r_z, u_z, n_z), (r_q, u_q, n_q) = split(z_dot, 3), split(q_dot, 3)
    return r_z + r_q, u_z + u_q, n_z + n_by_q * n_q


def _gru_tangent(slopes, h_dot, push, q_dot):
    (h_by_u, h_by_n, h_by_h), (n_by_q, n_by_r) = slopes
    (r, u, n), (r_q, u_q, n_q) = push, split(q_dot, 3)
    n_dot = n + n_by_q * n_q + n_by_r * (r + r_q)
    return h_by_h * h_dot + h_by_u * (u + u_q) + h_by_n * n_dot


GRU = Gating((0.5, 0.5, 1.0), _gru_inputs, _gru_gates, _gru_advance, _gru_slopes, _gru_push, _gru_tangent)

SIMPLE = Gating(
    scales=(1.0,),
    inputs=lambda z: z,
    gates=lambda z, q: jnp.tanh(z + q),
    advance=lambda h, gates: gates,
    slopes=lambda previous, h, gates: 1 - gates * gates,
    push=lambda slopes, z_dot, q_dot: z_dot + q_dot,
    tangent=lambda slopes, h_dot, push, q_dot: slopes * (push + q_dot),
)
