"""The LSTM with exponential gates of xLSTM: not linear, a cell as those of rnn_jax.layers.cells."""

from contextlib import suppress
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import export

from rnn_jax.layers.cells import Cell
from rnn_jax.layers.recurrence import Weights, recurrent_product, split_gates


class SLSTMCarry(NamedTuple):
    """State of an sLSTM, float arrays [B, H].

    Attributes:
      c: the memory, divided by exp(m).
      n: the normaliser, the sum of what the input gates let in, likewise.
      m: the stabiliser, the logarithm of the largest gate so far; no output depends on it.
      h: the hidden state.
    """

    c: jax.Array
    n: jax.Array
    m: jax.Array
    h: jax.Array


with suppress(ValueError):  # as LSTMCarry
    export.register_namedtuple_serialization(SLSTMCarry, serialized_name="rnn_jax.SLSTMCarry")


class SLSTMCell(Cell):
    """LSTM with exponential input gates (Beck et al. 2024, xLSTM). Carry: SLSTMCarry(c, n, m, h), all [B, H].

    i = exp(.), f and o = sigmoid(.), z = tanh(.), each of W x + U h + b;
    c' = f*c + i*z, n' = f*n + i, h' = o * c'/n'.

    c and n are kept divided by exp(m), where m' = max(log f + m, log i), so that no exponential overflows.
    There is one head: U is whole. The gates read the state, so that the cell is scanned.
    Parameters: ii, if, iz, io {kernel}, hi, hf, hz, ho {kernel, bias}.

    Attributes:
      forget_bias: where the forget gate's bias starts. The others are those of `Cell`.

    >>> import jax, jax.numpy as jnp
    >>> from rnn_jax import RNN, SLSTMCell
    >>> layer, x = RNN(SLSTMCell(features=4)), jnp.ones((2, 5, 3))
    >>> (carry, outputs), variables = layer.init_with_output(jax.random.key(0), x)
    >>> carry.n.shape, outputs.shape
    ((2, 4), (2, 5, 4))
    """

    forget_bias: float = 1.0

    @nn.compact
    def weights(self, input_size: int) -> Weights:
        """Returns the arrays of i, f, z and o; see `Cell.weights`."""
        units = self.features
        inits = dict.fromkeys("izo", self.bias_init) | {"f": nn.initializers.constant(self.forget_bias)}
        kernels = [
            self.parameters(f"i{gate}", kernel=(self.kernel_init, (input_size, units)))[0] for gate in "ifzo"
        ]
        recurrent_kernel = self.recurrent_kernel_init, (units, units)
        hidden = [
            self.parameters(f"h{gate}", kernel=recurrent_kernel, bias=(inits[gate], (units,)))
            for gate in "ifzo"
        ]
        recurrent, biases = zip(*hidden, strict=True)
        return self.join_gates(kernels, recurrent, biases)

    def step(
        self, weights: Weights, carry: SLSTMCarry, z: jax.Array, hidden_mask: jax.Array | None = None
    ) -> tuple[SLSTMCarry, jax.Array]:
        """Returns (SLSTMCarry(c', n', m', h'), output [B, H]); see `Cell.step`."""
        carry = SLSTMCarry(*carry)
        i, f, z, o = split_gates(z + recurrent_product(weights, carry.h, hidden_mask), 4)
        # Where nothing was let in so far, the first input sets the scale: n is at least 1 from then on.
        before = jnp.where(carry.n == 0, -jnp.inf, jax.nn.log_sigmoid(f) + carry.m)
        m = jnp.maximum(before, i)
        kept, new = jnp.exp(before - m), jnp.exp(i - m)
        c, n = kept * carry.c + new * jnp.tanh(z), kept * carry.n + new
        h = jax.nn.sigmoid(o) * c / n
        state = SLSTMCarry(*(new.astype(old.dtype) for new, old in zip((c, n, m, h), carry, strict=True)))
        return state, h.astype(weights.recurrent.dtype)

    @nn.nowrap
    def initialize_carry(self, rng: jax.Array, input_shape: tuple[int, ...]) -> SLSTMCarry:
        """Returns zeros [..., H] four times, float32 or wider, for inputs [..., E]; `rng` is unused."""
        zeros = super().initialize_carry(rng, input_shape)
        return SLSTMCarry(zeros, *(jnp.zeros_like(zeros) for _ in range(3)))  # four arrays: see LSTMCell
