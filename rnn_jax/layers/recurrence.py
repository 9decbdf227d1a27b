"""One step of each recurrence, as pure functions of arrays: no Flax, no parameters of their own.

Every cell computes z = x W + b, which needs only the inputs, and q = h U, which waits for the previous state.
`*_step` is the whole step from z on, as it reads in a paper; the scan runs it. A `FusedStep` is the same step
taken apart, with its derivatives; the fused backend (rnn_jax.layers.fused) runs it.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jax import export, lax

from rnn_jax.layers.matmul import accumulated_dot
from rnn_jax.trees import Tree

Carry: TypeAlias = (
    Any  # what a cell passes from step to step: an array [B, H], or a tuple of them that ends in h
)


class LSTMCarry(NamedTuple):
    """State of an LSTM, in Flax's order: the memory `c` and the hidden state `h`.

    Attributes:
      c, h: float arrays of one shape, [B, H]; with other leading axes where x has them.

    >>> carry = LSTMCarry(c=jnp.zeros((2, 4)), h=jnp.ones((2, 4)))
    >>> c, h = carry
    >>> h.shape
    (2, 4)
    """

    c: jax.Array
    h: jax.Array


# So that what `jax.export` makes of a layer can be saved. A second import of the module finds the name taken.
with suppress(ValueError):
    export.register_namedtuple_serialization(LSTMCarry, serialized_name="rnn_jax.LSTMCarry")


class Norms(NamedTuple):
    """Scales and shift of a layer-normalised LSTM: [4H], [4H], [H], [H]."""

    input_scale: jax.Array
    recurrent_scale: jax.Array
    cell_scale: jax.Array
    cell_bias: jax.Array


class Weights(NamedTuple):
    """A cell's arrays, with its G gates side by side.

    Attributes:
      kernel: W [E, G*H], in the type of the products' operands.
      recurrent: U [H, G*H], likewise.
      bias: b [G*H], in the type of the parameters.
      norms: of a layer-normalised LSTM.
      extras: what else the step reads, any tree of arrays that end in H, such as [H]. None: nothing.

    >>> import jax
    >>> from rnn_jax.layers import GRUCell
    >>> weights, _ = GRUCell(features=4).init_with_output(jax.random.key(0), 3, method="weights")
    >>> weights.kernel.shape, weights.recurrent.shape, weights.bias.shape, weights.extras.shape
    ((3, 12), (4, 12), (12,), (4,))
    """

    kernel: jax.Array
    recurrent: jax.Array
    bias: jax.Array
    norms: Norms | None = None
    extras: Tree = None


def along(x: jax.Array, vector: jax.Array) -> jax.Array:
    """Returns a vector [F] with leading axes of size 1, as many as x [..., F] has: no rank is promoted.

    >>> along(jnp.ones((5, 2, 3)), jnp.ones(3)).shape
    (1, 1, 3)
    """
    return lax.expand_dims(vector, range(x.ndim - vector.ndim))


def project_inputs(weights: Weights, x: jax.Array) -> jax.Array:
    """Returns z = x W + b, [..., G*H]; with `weights.norms`, x W is layer-normalised before the bias."""
    product = accumulated_dot(x, weights.kernel)
    if weights.norms:
        product = jax.nn.standardize(product) * along(product, weights.norms.input_scale)
    return product + along(product, weights.bias)


def recurrent_product(weights: Weights, h: jax.Array, hidden_mask: jax.Array | None) -> jax.Array:
    """Returns q = (h * hidden_mask) U, [B, G*H], in float32 or wider.

    Args:
      weights: a cell's arrays; U is `weights.recurrent`.
      h: the hidden state [B, H].
      hidden_mask: dropout on h, [B, H]; None for none.

    >>> import jax.numpy as jnp
    >>> from rnn_jax.layers import Weights, recurrent_product
    >>> weights = Weights(kernel=jnp.ones((3, 2)), recurrent=2 * jnp.ones((2, 2)), bias=jnp.zeros(2))
    >>> recurrent_product(weights, jnp.ones((1, 2)), None).tolist()
    [[4.0, 4.0]]
    """
    return accumulated_dot(h if hidden_mask is None else h * hidden_mask, weights.recurrent)


def hidden_state(carry: Carry) -> jax.Array:
    """Returns the h of a carry: the carry itself, or the last of a tuple."""
    h: jax.Array = carry[-1] if isinstance(carry, tuple) else carry
    return h


def simple_step(
    weights: Weights, h: jax.Array, z: jax.Array, hidden_mask: jax.Array | None = None
) -> jax.Array:
    """Returns h' = tanh(z + U h), [B, H], from projected inputs z (Elman 1990)."""
    return jnp.tanh(z + recurrent_product(weights, h, hidden_mask)).astype(h.dtype)


def gru_step(weights: Weights, h: jax.Array, z: jax.Array, hidden_mask: jax.Array | None = None) -> jax.Array:
    """Returns h' = (1-z)*n + z*h, [B, H] (Cho et al. 2014), reset after the product as in cuDNN and torch.

    `weights.extras` is b_hn [H], the bias inside the reset.
    """
    r_in, z_in, n_in = jnp.split(z, 3, axis=-1)
    r_h, z_h, n_h = jnp.split(recurrent_product(weights, h, hidden_mask), 3, axis=-1)
    r, z = jax.nn.sigmoid(r_in + r_h), jax.nn.sigmoid(z_in + z_h)
    n = jnp.tanh(n_in + r * (n_h + along(n_h, weights.extras)))
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
        product = jax.nn.standardize(product) * along(product, norms.recurrent_scale)
    i, f, g, o = jnp.split(z + product, 4, axis=-1)
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    read = c
    if norms:
        read = jax.nn.standardize(c) * along(c, norms.cell_scale) + along(c, norms.cell_bias)
    return LSTMCarry(c.astype(carry.c.dtype), (jax.nn.sigmoid(o) * jnp.tanh(read)).astype(h.dtype))


def _all(z: jax.Array) -> jax.Array:
    return z


class FusedStep(NamedTuple):
    """One step of a cell and its derivative: what a cell describes so that the fused backend can run it.

    The backend computes the two products, z = x W + b and q = h U, and their derivatives. A description says
    what a step does with z and q, unit by unit: no function below may mix two of the H units, or two rows of
    the batch. The output of the step is h', the last array of the new carry.

    Below, h stands for the whole carry and e for the cell's own arrays (`Weights.extras`). A small change of
    anything that the step reads changes the new carry by

        dh' = dh'/dh dh + dh'/dz dz + dh'/dq dq + dh'/de de,      where dq = dh U + h dU.

    `jacobian` returns the partial derivatives. `input_tangent` adds up what is known before the loop over the
    steps: dz, h dU and de. `carry_tangent` adds what waits for the step before, dh and dh U, inside the loop.
    JAX transposes the two into the backward pass. They must therefore be linear in their tangents, and
    `carry_tangent` must give zeros where every array of the jacobian is zero: the backend zeroes the jacobian
    at padded steps, so that no gradient leaves them.

    Arrays of a step are [B, ...]. Those of a chunk of K steps are [K, B, ...], and arrays of extras are [H]
    in both: write `x[..., :n]`, or `jnp.split(x, n, axis=-1)`, and the same code serves both.

    Attributes:
      activations: (carry, inputs, q, extras) -> activations, the values of the gates, any tree of arrays. Of
        a step or of a chunk. What takes long to compute, such as a tanh, belongs here, for activations may be
        kept for the backward pass.
          carry: before the step. inputs: what `read_inputs` made of z. q: [..., G*H].
      next_carry: (carry, activations, extras) -> the new carry. Of a step.
      jacobian: (carry, new_carry, activations, extras) -> the partial derivatives, any tree of arrays
        [K, B, ...]. Of a chunk.
      input_tangent: (jacobian, z_dot, q_dot, extras_dot) -> input_tangent, any tree of arrays [K, B, ...]. Of
        a chunk.
          z_dot: dz [K, B, G*H]. q_dot: h dU, likewise. extras_dot: de, shaped like extras.
      carry_tangent: (jacobian, carry_dot, input_tangent, q_dot) -> the change of the new carry. Of a step.
          carry_dot: dh, shaped like the carry. q_dot: dh U, [B, G*H].
      scales: G numbers. Each gate's columns of W, b and U are multiplied by its number before anything is
        computed, and so are z and q. Half of a sigmoid's argument lets one tanh serve all gates: see
        `sigmoid_from_tanh`. Empty: nothing is multiplied.
      read_inputs: z [..., G*H] -> what `activations` reads of it, any tree of arrays. By default z itself.

    >>> import jax.numpy as jnp
    >>> from rnn_jax.layers import SimpleCell
    >>> step, h, z, q = SimpleCell.fused_step, jnp.zeros((2, 4)), jnp.ones((2, 4)), jnp.ones((2, 4))
    >>> new_h = step.next_carry(h, step.activations(h, z, q, None), None)
    >>> bool((new_h == jnp.tanh(z + q)).all())
    True
    """

    activations: Callable[[Carry, Tree, jax.Array, Tree], Tree]
    next_carry: Callable[[Carry, Tree, Tree], Carry]
    jacobian: Callable[[Carry, Carry, Tree, Tree], Tree]
    input_tangent: Callable[[Tree, jax.Array, jax.Array, Tree], Tree]
    carry_tangent: Callable[[Tree, Carry, Tree, jax.Array], Carry]
    scales: tuple[float, ...] = ()
    read_inputs: Callable[[jax.Array], Tree] = _all


def sigmoid_from_tanh(t: jax.Array) -> jax.Array:
    """Returns the sigmoid of 2y from t = tanh(y)."""
    return 0.5 * t + 0.5


def sigmoid_slope_from_tanh(t: jax.Array) -> jax.Array:
    """Returns the derivative of the sigmoid of 2y by y, from t = tanh(y)."""
    return 0.5 * (1 - t * t)


def split_gates(x: jax.Array, count: int) -> list[jax.Array]:
    """Returns `count` equal parts of the last axis. (The transpose of a split is one concatenation.)"""
    return jnp.split(x, count, axis=-1)


def _lstm_activations(carry: LSTMCarry, z: jax.Array, q: jax.Array, extras: None) -> jax.Array:
    return jnp.tanh(z + q)


def _lstm_next_carry(carry: LSTMCarry, activations: jax.Array, extras: None) -> LSTMCarry:
    i, f, g, o = split_gates(activations, 4)
    c = sigmoid_from_tanh(f) * carry.c + sigmoid_from_tanh(i) * g
    return LSTMCarry(c, sigmoid_from_tanh(o) * jnp.tanh(c))


def _lstm_jacobian(carry: LSTMCarry, new_carry: LSTMCarry, activations: jax.Array, extras: None) -> Tree:
    i, f, g, o = split_gates(activations, 4)
    read = jnp.tanh(new_carry.c)
    c_by = (
        sigmoid_slope_from_tanh(i) * g,
        sigmoid_slope_from_tanh(f) * carry.c,
        sigmoid_from_tanh(i) * (1 - g * g),
        sigmoid_from_tanh(f),
    )
    h_by = (sigmoid_slope_from_tanh(o) * read, sigmoid_from_tanh(o) * (1 - read * read))
    return c_by, h_by


def _sum_of_tangents(jacobian: Tree, z_dot: jax.Array, q_dot: jax.Array, extras_dot: None) -> jax.Array:
    return z_dot + q_dot


def _lstm_carry_tangent(
    jacobian: Tree, carry_dot: LSTMCarry, input_tangent: jax.Array, q_dot: jax.Array
) -> LSTMCarry:
    (c_by_i, c_by_f, c_by_g, c_by_c), (h_by_o, h_by_c) = jacobian
    i, f, g, o = split_gates(input_tangent + q_dot, 4)
    c_dot = c_by_c * carry_dot.c + c_by_i * i + c_by_f * f + c_by_g * g
    return LSTMCarry(c_dot, h_by_c * c_dot + h_by_o * o)


LSTM = FusedStep(
    activations=_lstm_activations,
    next_carry=_lstm_next_carry,
    jacobian=_lstm_jacobian,
    input_tangent=_sum_of_tangents,
    carry_tangent=_lstm_carry_tangent,
    scales=(0.5, 0.5, 1.0, 0.5),
)


def _gru_read_inputs(z: jax.Array) -> list[jax.Array]:
    # A step that reads a slice of its slice of one array does not vectorise on XLA's CPU: 7 times slower.
    return split_gates(z, 3)


def _add_to_n(q: jax.Array, n_bias: jax.Array) -> jax.Array:
    """Returns q [..., 3H] plus a bias [H] on n alone."""
    return q + along(q, jnp.pad(n_bias, (2 * n_bias.size, 0)))


def _gru_activations(h: jax.Array, inputs: list[jax.Array], q: jax.Array, n_bias: jax.Array) -> Tree:
    (r_z, u_z, n_z), (r_q, u_q, n_q) = inputs, split_gates(_add_to_n(q, n_bias), 3)
    r, u = jnp.tanh(r_z + r_q), jnp.tanh(u_z + u_q)
    return r, u, jnp.tanh(n_z + sigmoid_from_tanh(r) * n_q), n_q


def _gru_next_carry(h: jax.Array, activations: Tree, n_bias: jax.Array) -> jax.Array:
    _, u, n, _ = activations
    new_h: jax.Array = n + sigmoid_from_tanh(u) * (h - n)
    return new_h


def _gru_jacobian(h: jax.Array, new_h: jax.Array, activations: Tree, n_bias: jax.Array) -> Tree:
    r, u, n, n_q = activations
    h_by = (
        sigmoid_slope_from_tanh(u) * (h - n),
        (1 - n * n) * (1 - sigmoid_from_tanh(u)),
        sigmoid_from_tanh(u),
    )
    return h_by, (sigmoid_from_tanh(r), sigmoid_slope_from_tanh(r) * n_q)


def _gru_input_tangent(jacobian: Tree, z_dot: jax.Array, q_dot: jax.Array, n_bias_dot: jax.Array) -> Tree:
    _, (n_by_q, _) = jacobian
    (r_z, u_z, n_z), (r_q, u_q, n_q) = split_gates(z_dot, 3), split_gates(_add_to_n(q_dot, n_bias_dot), 3)
    return r_z + r_q, u_z + u_q, n_z + n_by_q * n_q


def _gru_carry_tangent(jacobian: Tree, h_dot: jax.Array, input_tangent: Tree, q_dot: jax.Array) -> jax.Array:
    (h_by_u, h_by_n, h_by_h), (n_by_q, n_by_r) = jacobian
    (r, u, n), (r_q, u_q, n_q) = input_tangent, split_gates(q_dot, 3)
    n_dot = n + n_by_q * n_q + n_by_r * (r + r_q)
    new_h_dot: jax.Array = h_by_h * h_dot + h_by_u * (u + u_q) + h_by_n * n_dot
    return new_h_dot


GRU = FusedStep(
    activations=_gru_activations,
    next_carry=_gru_next_carry,
    jacobian=_gru_jacobian,
    input_tangent=_gru_input_tangent,
    carry_tangent=_gru_carry_tangent,
    scales=(0.5, 0.5, 1.0),
    read_inputs=_gru_read_inputs,
)


def _simple_activations(h: jax.Array, z: jax.Array, q: jax.Array, extras: None) -> jax.Array:
    return jnp.tanh(z + q)


def _simple_next_carry(h: jax.Array, activations: jax.Array, extras: None) -> jax.Array:
    return activations


def _simple_jacobian(h: jax.Array, new_h: jax.Array, activations: jax.Array, extras: None) -> jax.Array:
    return 1 - activations * activations


def _simple_carry_tangent(
    jacobian: jax.Array, h_dot: jax.Array, input_tangent: jax.Array, q_dot: jax.Array
) -> jax.Array:
    return jacobian * (input_tangent + q_dot)


SIMPLE = FusedStep(
    activations=_simple_activations,
    next_carry=_simple_next_carry,
    jacobian=_simple_jacobian,
    input_tangent=_sum_of_tangents,
    carry_tangent=_simple_carry_tangent,
)
