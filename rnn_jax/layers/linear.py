"""The linear backend: cells with the state h' = a*h + b, whose products are formed for all steps at once."""

from collections.abc import Mapping
from contextlib import suppress
from typing import ClassVar, NamedTuple, TypeGuard

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype
from flax.typing import Initializer
from jax import export

from rnn_jax.layers.cells import BareCell
from rnn_jax.layers.gated import gated_of, run_gated
from rnn_jax.layers.linear_recurrence import linear_recurrence, multiply
from rnn_jax.layers.matmul import products
from rnn_jax.layers.recurrence import Carry, along
from rnn_jax.trees import Tree


class LinearWeights(NamedTuple):
    """The arrays of a linear cell.

    Attributes:
      kernel: what x is multiplied with, [E, F], in the type of the product's operands and of the outputs.
      bias: [F], in the type of the parameters; None for none.
      extras: what else the cell reads, any tree of arrays.
    """

    kernel: jax.Array
    bias: jax.Array | None = None
    extras: Tree = None


class Terms(NamedTuple):
    """What a step of h' = a*h + b reads of its input.

    Attributes:
      a, b: [..., N]; a may have a size of 1 in front where b has more, as one that is equal at all steps has.
      extras: what `LinearCell.output` reads, any tree of arrays [..., F]. None: nothing.
    """

    a: jax.Array
    b: jax.Array
    extras: Tree = None


class LinearCarry(NamedTuple):
    """State of a linear cell whose output is not its state, such as SRUCell and LRUCell.

    Attributes:
      c: the state of the recurrence, [B, N].
      h: the output of the last valid step, [B, H]. No step reads it.
    """

    c: jax.Array
    h: jax.Array


with suppress(ValueError):  # as LSTMCarry
    export.register_namedtuple_serialization(LinearCarry, serialized_name="rnn_jax.LinearCarry")


class LinearCell(BareCell):
    """A cell with the state h' = a*h + b, whose a and b are functions of the input x alone.

    No gate reads the state. So all products are formed for all steps at once, and what is left of the loop is
    a multiplication and an addition (rnn_jax.layers.linear_recurrence). A cell of your own defines `weights`
    and `terms`, and `output` where the output is not the state. `__call__` and the scan run the same
    functions on one step. A subclass that overrides `step` is scanned, as its `terms` may say something
    else; one that overrides `__call__` is called at every step.

    There is no recurrent product, and therefore no recurrent dropout and no weight drop.

    Attributes:
      features: H, the number of units, at least 1.
      dtype: compute type; None takes that of the parameters. In bfloat16 the product takes bfloat16 operands
        and accumulates in float32, a, b and the state are float32, and the outputs are bfloat16.
      param_dtype: storage type of the parameters.
      kernel_init: draws each kernel.
      paired: of the class: whether a, b and the state are complex, [..., 2N]: real, then imaginary parts.

    >>> import flax.linen as nn, jax, jax.numpy as jnp
    >>> from rnn_jax.layers import RNN, LinearCell, Terms
    >>> class Decay(LinearCell):  # h' = h / 2 + W x
    ...     @nn.compact
    ...     def weights(self, input_size):
    ...         return self.join_inputs({"i": None}, input_size)
    ...     def terms(self, weights, x):
    ...         (b,) = self.project(weights, x)
    ...         return Terms(jnp.full_like(b, 0.5), b)
    >>> layer, x = RNN(Decay(features=1, kernel_init=nn.initializers.ones)), jnp.ones((1, 3, 1))
    >>> layer.init_with_output(jax.random.key(0), x)[0][1].ravel().tolist()
    [1.0, 1.5, 1.75]
    """

    paired: ClassVar[bool] = False

    def weights(self, input_size: int) -> LinearWeights:
        """Returns the cell's arrays for inputs of `input_size` features. Decorate it with `@nn.compact`."""
        raise NotImplementedError

    def terms(self, weights: LinearWeights, x: jax.Array) -> Terms:
        """Returns a, b and what the output reads, for inputs [..., E]: of one step, or of all."""
        raise NotImplementedError

    def output(self, weights: LinearWeights, state: jax.Array, extras: Tree) -> jax.Array:
        """Returns the outputs [..., H], float32 or wider, for states [..., N]; the states, if not overridden.

        A cell that overrides it carries LinearCarry(c, h).
        """
        return state

    def __call__(self, carry: Carry, inputs: jax.Array) -> tuple[Carry, jax.Array]:
        """Returns (new carry, output [B, H]) of one step from inputs [B, E]: Flax's protocol.

        >>> import jax, jax.numpy as jnp
        >>> from rnn_jax.layers import MinGRUCell
        >>> cell, h, x = MinGRUCell(features=4), jnp.zeros((2, 4)), jnp.ones((2, 3))
        >>> (new_h, output), variables = cell.init_with_output(jax.random.key(0), h, x)
        >>> new_h.shape, bool((new_h == output).all())
        ((2, 4), True)
        """
        return self.step(self.weights(inputs.shape[-1]), carry, inputs)

    def step(self, weights: LinearWeights, carry: Carry, x: jax.Array) -> tuple[Carry, jax.Array]:
        """Returns (new carry, output [B, H]) of one step from x [B, E]: `terms` and `output` on this step."""
        a, b, extras = self.terms(weights, x)
        state = multiply(a, self.state_of(carry).astype(b.dtype), self.paired) + b
        output = self.output(weights, state, extras)
        return self.carry_like(carry, state, output), output.astype(weights.kernel.dtype)

    @nn.nowrap
    def state_of(self, carry: Carry) -> jax.Array:
        """Returns the state [B, N] of a carry."""
        state: jax.Array = carry[0] if self.has_output() else carry
        return state

    @nn.nowrap
    def carry_like(self, carry: Carry, state: jax.Array, output: jax.Array) -> Carry:
        """Returns the carry of a state and an output, in the types of another carry."""
        if not self.has_output():
            return state.astype(carry.dtype)
        return LinearCarry(state.astype(carry[0].dtype), output.astype(carry[1].dtype))

    @nn.nowrap
    def has_output(self) -> bool:
        """Returns whether the cell's output is something else than its state."""
        return type(self).output is not LinearCell.output

    @nn.nowrap
    def initialize_carry(self, rng: jax.Array, input_shape: tuple[int, ...]) -> Carry:
        """Returns zeros [..., H], float32 or wider, or LinearCarry(c, h) of them; `rng` is unused."""
        zeros = super().initialize_carry(rng, input_shape)
        if not self.has_output():
            return zeros
        h = jnp.zeros_like(zeros)  # an array of its own: a jitted step may take over the memory of both
        return LinearCarry(jnp.concatenate([zeros, zeros], axis=-1) if self.paired else zeros, h)

    def join_inputs(
        self, biases: Mapping[str, Initializer | None], input_size: int, extras: Tree = None
    ) -> LinearWeights:
        """Returns kernels [E, H] side by side, and biases [H], of parameters by their names.

        Each name is given with what draws its bias, or None for no bias.
        """
        kernel = self.kernel_init, (input_size, self.features)
        drawn = [
            self.parameters(name, kernel=kernel, **({"bias": (init, kernel[1][1:])} if init else {}))
            for name, init in biases.items()
        ]
        (joined,) = promote_dtype(
            jnp.concatenate([kernel for kernel, *_ in drawn], axis=-1), dtype=self.dtype
        )
        if not any(biases.values()):
            return LinearWeights(joined, None, extras)
        each = [bias[0] if bias else jnp.zeros_like(kernel[0]) for kernel, *bias in drawn]
        return LinearWeights(joined, jnp.concatenate(each), extras)

    @nn.nowrap
    def project(self, weights: LinearWeights, x: jax.Array) -> list[jax.Array]:
        """Returns x W + b of each name that `join_inputs` was given, [..., H], in float32 or wider."""
        kernels = jnp.split(weights.kernel, weights.kernel.shape[1] // self.features, axis=1)
        gates = products(x, tuple(kernels))
        if weights.bias is None:
            return list(gates)
        biases = jnp.split(weights.bias, len(kernels))
        return [gate + along(gate, bias) for gate, bias in zip(gates, biases, strict=True)]


def has_linear_weights(cell: nn.RNNCellBase) -> TypeGuard[LinearCell]:
    """Returns whether layers run the cell by its `weights`, and not by a `__call__` of its own."""
    return isinstance(cell, LinearCell) and type(cell).__call__ is LinearCell.__call__


def is_linear(cell: nn.RNNCellBase) -> TypeGuard[LinearCell]:
    """Returns whether the linear backend runs the cell: it has no `__call__` or `step` of its own."""
    return has_linear_weights(cell) and type(cell).step is LinearCell.step


def why_not_linear(cell: object, weights: Tree, x: jax.Array, carry: Carry) -> str:
    """Returns why the linear backend cannot run a cell, or "" where it can."""
    return "" if isinstance(cell, LinearCell) else "it runs linear cells, such as MinGRUCell"


def run_linear(
    cell: LinearCell,
    weights: LinearWeights,
    x_TBE: jax.Array,
    carry: Carry,
    valid_TB: jax.Array | None,
    hidden_mask_BH: None,
    reverse: bool,
    remat: None,
) -> tuple[Carry, jax.Array]:
    """Returns the last carry and the outputs [T, B, H], float32 or wider, as `run_fused` does."""
    state_BTN, last_BN, extras = states(cell, weights, x_TBE, cell.state_of(carry), valid_TB, reverse)
    outputs_BTH = cell.output(weights, state_BTN, extras)
    last_BH = last_output(outputs_BTH, carry, valid_TB, reverse) if cell.has_output() else last_BN
    return cell.carry_like(carry, last_BN, last_BH), outputs_BTH.swapaxes(0, 1)


def states(
    cell: LinearCell,
    weights: LinearWeights,
    x_TBE: jax.Array,
    first_BN: jax.Array,
    valid_TB: jax.Array | None,
    reverse: bool,
) -> tuple[jax.Array, jax.Array, Tree]:
    """Returns the states [B, T, N], the last of them, and what `output` reads beside them.

    At a padded step a is 1 and b is 0, which passes the state on.
    """
    if type(cell).project is LinearCell.project:
        gated = gated_of(type(cell).terms, weights, x_TBE, first_BN)
        if gated is not None:
            return *run_gated(gated, weights, x_TBE, first_BN, valid_TB, reverse), None
    a, b, extras = cell.terms(weights, x_TBE.swapaxes(0, 1))
    a = jnp.broadcast_to(a, b.shape)
    if valid_TB is not None:
        valid_BT1 = valid_TB.T[:, :, None]
        one = jnp.ones_like(a, shape=(1, 1, a.shape[-1]))
        if cell.paired:
            one = one.at[..., a.shape[-1] // 2 :].set(0)
        a, b = jnp.where(valid_BT1, a, one), jnp.where(valid_BT1, b, 0)
    return *linear_recurrence(a, b, first_BN, reverse, cell.paired), extras


def last_output(
    outputs_BTH: jax.Array, carry: LinearCarry, valid_TB: jax.Array | None, reverse: bool
) -> jax.Array:
    """Returns the output of the last valid step that is run, [B, H]; a row without steps has the carry's."""
    if isinstance(outputs_BTH.shape[1], int) and not outputs_BTH.shape[1]:
        return carry.h
    if valid_TB is None:
        return outputs_BTH[:, 0 if reverse else -1]
    lengths_B = valid_TB.sum(axis=0)
    if reverse:
        last_BH = outputs_BTH[:, 0]
    else:
        at_B11 = jnp.maximum(lengths_B - 1, 0)[:, None, None]
        last_BH = jnp.take_along_axis(outputs_BTH, at_B11, axis=1)[:, 0]
    return jnp.where(lengths_B[:, None] > 0, last_BH, carry.h.astype(outputs_BTH.dtype))
