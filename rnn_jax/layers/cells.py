"""Recurrent cells: the parameters and one step. Flax's cell protocol and Flax's parameter names."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype
from flax.typing import Dtype, Initializer

from rnn_jax.layers.recurrence import (
    GRU,
    LSTM,
    SIMPLE,
    Gating,
    LSTMCarry,
    Norms,
    Weights,
    gru_step,
    lstm_step,
    project_inputs,
    simple_step,
)

Carry = Any


class _Leaves(nn.Module):
    """Owns parameters under one name, as `nn.Dense` and `nn.LayerNorm` do."""

    param_dtype: Dtype

    @nn.compact
    def __call__(self, **leaves: tuple[Initializer, tuple[int, ...]]) -> tuple[jax.Array, ...]:
        # Drawn in float32 or wider: there is no orthogonal matrix of bfloat16.
        wide = jnp.promote_types(self.param_dtype, jnp.float32)

        def draw(key, init, shape):
            return init(key, shape, wide).astype(self.param_dtype)

        return tuple(self.param(name, draw, *leaf) for name, leaf in leaves.items())


class Cell(nn.RNNCellBase):
    """What the three cells share. Use SimpleCell, LSTMCell or GRUCell.

    Default initialisers are Keras's: glorot_uniform input kernels, orthogonal recurrent kernels, zero biases.
    (Flax draws input kernels from lecun_normal; torch draws everything from U(-1/sqrt(H), 1/sqrt(H)).)

    Attributes:
      features: H, the number of units.
      dtype: compute type; None takes that of the parameters. In bfloat16 products take bfloat16 operands and
        accumulate in float32, the outputs are bfloat16, and the carry keeps the type it starts with: float32,
        unless an `initial_carry` of another type is given.
      param_dtype: storage type of the parameters.
    """

    features: int
    dtype: Dtype | None = None
    param_dtype: Dtype = jnp.float32
    kernel_init: Initializer = nn.initializers.glorot_uniform()
    recurrent_kernel_init: Initializer = nn.initializers.orthogonal()
    bias_init: Initializer = nn.initializers.zeros_init()

    def weights(self, input_size: int) -> Weights:
        """Returns the cell's arrays for inputs of `input_size` features."""
        raise NotImplementedError

    def step(
        self, weights: Weights, carry: Carry, z: jax.Array, hidden_mask: jax.Array | None = None
    ) -> tuple[Carry, jax.Array]:
        """Returns (new carry, output [B, H]) from projected inputs z; `hidden_mask` [B, H] is on h in U h."""
        raise NotImplementedError

    def __call__(self, carry: Carry, inputs: jax.Array) -> tuple[Carry, jax.Array]:
        weights = self.weights(inputs.shape[-1])
        return self.step(weights, carry, project_inputs(weights, inputs))

    @nn.nowrap
    def initialize_carry(self, rng: jax.Array, input_shape: tuple[int, ...]) -> Carry:
        """Returns zeros [..., H], float32 or wider, for inputs [..., E]; `rng` is Flax's protocol, unused."""
        return jnp.zeros((*input_shape[:-1], self.features), jnp.promote_types(self.param_dtype, jnp.float32))

    @property
    def num_feature_axes(self) -> int:
        return 1

    @property
    def gating(self) -> Gating | None:
        """The step as the fused backend takes it, or None: a cell with a step of its own is scanned."""
        return FUSED_STEPS.get(type(self).step) if is_stepped(self) else None

    def _input(self, name: str, size: int, **others) -> tuple[jax.Array, ...]:
        return self._leaves(name, kernel=(self.kernel_init, (size, self.features)), **others)

    def _recurrent(self, name: str, **others) -> tuple[jax.Array, ...]:
        kernel = (self.recurrent_kernel_init, (self.features, self.features))
        return self._leaves(name, kernel=kernel, **others)

    def _leaves(self, name: str, **leaves) -> tuple[jax.Array, ...]:
        return _Leaves(self.param_dtype, name=name)(**leaves)

    def _join(self, kernels, recurrent, biases, **others) -> Weights:
        """Joins the gates; operands of products get the compute type, what is added to them keeps its own."""
        kernel, recurrent = promote_dtype(
            jnp.concatenate(kernels, axis=-1), jnp.concatenate(recurrent, axis=-1), dtype=self.dtype
        )
        return Weights(kernel, recurrent, jnp.concatenate(biases), **others)


class SimpleCell(Cell):
    """h' = tanh(W x + U h + b). Carry: h [B, H].

    Parameters of `flax.linen.SimpleCell`: i {kernel, bias}, h {kernel}.
    """

    @nn.compact
    def weights(self, input_size: int) -> Weights:
        bias_init = (self.bias_init, (self.features,))
        kernel, bias = self._input("i", input_size, bias=bias_init)
        return self._join([kernel], self._recurrent("h"), [bias])

    def step(self, weights, carry, z, hidden_mask=None):
        h = simple_step(weights, carry, z, hidden_mask)
        return h, h.astype(weights.recurrent.dtype)


class GRUCell(Cell):
    """Gated recurrent unit, reset after the product. Carry: h [B, H].

    r = sigmoid(W_r x + b_r + U_r h), z = sigmoid(W_z x + b_z + U_z h),
    n = tanh(W_n x + b_n + r * (U_n h + b_hn)), h' = (1-z)*n + z*h.

    Parameters of `flax.linen.GRUCell`: ir, iz, in {kernel, bias}, hr, hz {kernel}, hn {kernel, bias}.
    """

    @nn.compact
    def weights(self, input_size: int) -> Weights:
        bias_init = (self.bias_init, (self.features,))
        inputs = [self._input(f"i{gate}", input_size, bias=bias_init) for gate in "rzn"]
        kernels, biases = zip(*inputs, strict=True)
        n, candidate_bias = self._recurrent("hn", bias=bias_init)
        recurrent = [*self._recurrent("hr"), *self._recurrent("hz"), n]
        return self._join(kernels, recurrent, biases, candidate_bias=candidate_bias)

    def step(self, weights, carry, z, hidden_mask=None):
        h = gru_step(weights, carry, z, hidden_mask)
        return h, h.astype(weights.recurrent.dtype)


class LSTMCell(Cell):
    """Long short-term memory. Carry: LSTMCarry(c, h).

    i, f, o = sigmoid(.), g = tanh(.), each of W x + U h + b; c' = f*c + i*g; h' = o*tanh(c').

    Parameters of `flax.linen.LSTMCell` and `OptimizedLSTMCell`: ii, if, ig, io {kernel}, hi, hf, hg, ho
    {kernel, bias}; with layer_norm also input_norm, recurrent_norm {scale [4H]}, cell_norm {scale, bias [H]}.

    Attributes:
      forget_bias: where the forget gate's bias starts (Gers et al. 2000; 1 in Keras, 0 in Flax).
      layer_norm: normalises W x and U h over their 4H values, with the bias as their shift, and c before the
        last tanh (Ba et al. 2016).
    """

    forget_bias: float = 1.0
    layer_norm: bool = False

    @nn.compact
    def weights(self, input_size: int) -> Weights:
        bias_inits = dict.fromkeys("igo", self.bias_init) | {"f": nn.initializers.constant(self.forget_bias)}
        kernels = [self._input(f"i{gate}", input_size)[0] for gate in "ifgo"]
        hidden = [self._recurrent(f"h{gate}", bias=(bias_inits[gate], (self.features,))) for gate in "ifgo"]
        recurrent, biases = zip(*hidden, strict=True)
        return self._join(kernels, recurrent, biases, norms=self._norms() if self.layer_norm else None)

    def _norms(self) -> Norms:
        gates, units = (4 * self.features,), (self.features,)
        ones, zeros = nn.initializers.ones_init(), nn.initializers.zeros_init()
        return Norms(
            *self._leaves("input_norm", scale=(ones, gates)),
            *self._leaves("recurrent_norm", scale=(ones, gates)),
            *self._leaves("cell_norm", scale=(ones, units), bias=(zeros, units)),
        )

    def step(self, weights, carry, z, hidden_mask=None):
        carry = lstm_step(weights, LSTMCarry(*carry), z, hidden_mask)
        return carry, carry.h.astype(weights.recurrent.dtype)

    @property
    def gating(self) -> Gating | None:
        return None if self.layer_norm else super().gating

    @nn.nowrap
    def initialize_carry(self, rng: jax.Array, input_shape: tuple[int, ...]) -> LSTMCarry:
        """Returns zeros [..., H] twice, float32 or wider, for inputs [..., E]; `rng` is unused."""
        zeros = super().initialize_carry(rng, input_shape)
        return LSTMCarry(zeros, zeros)


def is_stepped(cell: nn.RNNCellBase) -> bool:
    """Returns whether layers run the cell by its `weights` and `step`, so that masks can reach inside.

    They call any other cell, as Flax's protocol has it: also a subclass of ours that has its own `__call__`.
    """
    return isinstance(cell, Cell) and type(cell).__call__ is Cell.__call__


FUSED_STEPS = {SimpleCell.step: SIMPLE, GRUCell.step: GRU, LSTMCell.step: LSTM}
