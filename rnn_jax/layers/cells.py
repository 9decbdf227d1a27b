"""Recurrent cells: the parameters and one step. Flax's cell protocol and Flax's parameter names."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.errors import ScopeParamShapeError
from flax.linen.dtypes import promote_dtype
from flax.typing import Dtype, Initializer

from rnn_jax.errors import InputError, require
from rnn_jax.layers.placement import gather
from rnn_jax.layers.recurrence import (
    GRU,
    LSTM,
    SIMPLE,
    FusedStep,
    LSTMCarry,
    Norms,
    Weights,
    gru_step,
    lstm_step,
    project_inputs,
    simple_step,
)
from rnn_jax.layers.recurrence import Carry as Carry  # other wings import it from here
from rnn_jax.trees import Tree, leaves_by_path

INPUT_KERNEL = re.compile(r"(^|/)i\w?/kernel$")  # of our cells and Flax's: i, ii, ir, ...
Shaped = tuple[Initializer, tuple[int, ...]]  # what draws a parameter, and its shape


class _Parameters(nn.Module):
    """Owns parameters under one name, as `nn.Dense` and `nn.LayerNorm` do."""

    param_dtype: Dtype

    @nn.compact
    def __call__(self, **shaped: Shaped) -> tuple[jax.Array, ...]:
        # Drawn in float32 or wider: there is no orthogonal matrix of bfloat16.
        wide = jnp.promote_types(self.param_dtype, jnp.float32)

        def draw(key: jax.Array, init: Initializer, shape: tuple[int, ...]) -> Tree:
            # A tree and not an array where the initialiser boxes it: nn.with_partitioning.
            return jax.tree.map(
                lambda drawn: jnp.asarray(drawn).astype(self.param_dtype), init(key, shape, wide)
            )

        return tuple(gather(self.param(name, draw, *each)) for name, each in shaped.items())


class BareCell(nn.RNNCellBase):
    """What all our cells share, linear ones too: sizes, types, and how parameters are drawn and stored.

    Attributes are among those of `Cell` and of `rnn_jax.layers.LinearCell`, of which a cell of yours is one.
    """

    features: int
    dtype: Dtype | None = None
    param_dtype: Dtype = jnp.float32
    kernel_init: Initializer = nn.initializers.glorot_uniform()

    @nn.nowrap
    def initialize_carry(self, rng: jax.Array, input_shape: tuple[int, ...]) -> Carry:
        """Returns zeros [..., H], float32 or wider, for inputs [..., E]; `rng` is Flax's protocol, unused."""
        return jnp.zeros((*input_shape[:-1], self.features), jnp.promote_types(self.param_dtype, jnp.float32))

    @property
    def num_feature_axes(self) -> int:
        """1: inputs have one axis of features. Flax's protocol."""
        return 1

    def parameters(self, name: str, **shaped: Shaped) -> tuple[jax.Array, ...]:
        """Returns parameters in order: `kernel, bias = parameters("hi", kernel=(init, shape), bias=...)`.

        They are drawn in float32 or wider, stored in `param_dtype`, and have the paths hi/kernel, hi/bias.
        """
        return _Parameters(self.param_dtype, name=name)(**shaped)


class Cell(BareCell):
    """What our cells share: SimpleCell, LSTMCell, GRUCell, and those that you add.

    A cell of your own defines `weights` and `step`, and `initialize_carry` where its carry is not one array.
    With a `fused_step` beside them the fused backend runs it, else the scan does. docs/extend.md adds one.
    A subclass that overrides `step` without a `fused_step` of its own is scanned; one that overrides
    `__call__`, which is Flax's protocol, is called at every step.

    Default initialisers are Keras's: glorot_uniform input kernels, orthogonal recurrent kernels, zero biases.
    (Flax draws input kernels from lecun_normal; torch draws everything from U(-1/sqrt(H), 1/sqrt(H)).)

    Attributes:
      features: H, the number of units, at least 1.
      dtype: compute type; None takes that of the parameters. In bfloat16 products take bfloat16 operands and
        accumulate in float32, the outputs are bfloat16, and the carry keeps the type it starts with: float32,
        unless an `initial_carry` of another type is given.
      param_dtype: storage type of the parameters.
      kernel_init: draws each gate's input kernel [E, H].
      recurrent_kernel_init: draws each gate's recurrent kernel [H, H].
      bias_init: draws each bias [H].
      fused_step: of the class, not of an instance: its `step` as the fused backend runs it, or None.

    >>> import jax.numpy as jnp
    >>> from rnn_jax.layers import RNN, Cell
    >>> class Sum(Cell):  # Flax's protocol alone: h' = h + the sum of x
    ...     def __call__(self, carry, inputs):
    ...         carry = carry + inputs.sum(axis=-1, keepdims=True)
    ...         return carry, carry
    >>> RNN(Sum(features=1)).apply({}, jnp.ones((1, 3, 2)))[1].ravel().tolist()
    [2.0, 4.0, 6.0]
    """

    recurrent_kernel_init: Initializer = nn.initializers.orthogonal()
    bias_init: Initializer = nn.initializers.zeros_init()

    fused_step: ClassVar[FusedStep | None] = None

    def weights(self, input_size: int) -> Weights:
        """Returns the cell's arrays for inputs of `input_size` features. Decorate it with `@nn.compact`."""
        raise NotImplementedError

    def step(
        self, weights: Weights, carry: Carry, z: jax.Array, hidden_mask: jax.Array | None = None
    ) -> tuple[Carry, jax.Array]:
        """Returns (new carry, output [B, H]) of one step.

        Args:
          weights: what `weights` returned.
          carry: the carry, arrays [B, H]; the new one has its types.
          z: the projected inputs x W + b, [B, G*H].
          hidden_mask: dropout on h in the product h U, [B, H]; None for none.
        """
        raise NotImplementedError

    def __call__(self, carry: Carry, inputs: jax.Array) -> tuple[Carry, jax.Array]:
        """Returns (new carry, output [B, H]) of one step from inputs [B, E]: Flax's protocol.

        >>> import jax, jax.numpy as jnp
        >>> from rnn_jax.layers import GRUCell
        >>> cell, h, x = GRUCell(features=4), jnp.zeros((2, 4)), jnp.ones((2, 3))
        >>> (new_h, output), variables = cell.init_with_output(jax.random.key(0), h, x)
        >>> new_h.shape, bool((new_h == output).all())
        ((2, 4), True)
        """
        weights = self.weights(inputs.shape[-1])
        return self.step(weights, carry, project_inputs(weights, inputs))

    @nn.nowrap
    def join_gates(
        self,
        kernels: Sequence[jax.Array],
        recurrent: Sequence[jax.Array],
        biases: Sequence[jax.Array],
        norms: Norms | None = None,
        extras: Tree = None,
    ) -> Weights:
        """Returns the gates side by side, from kernels [E, H], recurrent kernels [H, H] and biases [H].

        Operands of products get the compute type; what is added to the products keeps its own.
        """
        kernel, joined = promote_dtype(
            jnp.concatenate(kernels, axis=-1), jnp.concatenate(recurrent, axis=-1), dtype=self.dtype
        )
        return Weights(kernel, joined, jnp.concatenate(biases), norms, extras)


class SimpleCell(Cell):
    """Elman's recurrent unit (Elman 1990). Carry: h [B, H].

    h' = tanh(W x + U h + b).

    Parameters of `flax.linen.SimpleCell`: i {kernel, bias}, h {kernel}. Attributes are those of `Cell`.

    >>> import jax, jax.numpy as jnp
    >>> from rnn_jax.layers import RNN, SimpleCell
    >>> layer, x = RNN(SimpleCell(features=4)), jnp.ones((2, 5, 3))
    >>> (h, outputs), variables = layer.init_with_output(jax.random.key(0), x)
    >>> h.shape, outputs.shape
    ((2, 4), (2, 5, 4))
    """

    fused_step: ClassVar[FusedStep | None] = SIMPLE

    @nn.compact
    def weights(self, input_size: int) -> Weights:
        """Returns W, U and b; see `Cell.weights`."""
        units = self.features
        kernel, bias = self.parameters(
            "i", kernel=(self.kernel_init, (input_size, units)), bias=(self.bias_init, (units,))
        )
        recurrent = self.parameters("h", kernel=(self.recurrent_kernel_init, (units, units)))
        return self.join_gates([kernel], recurrent, [bias])

    def step(
        self, weights: Weights, carry: jax.Array, z: jax.Array, hidden_mask: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array]:
        """Returns (h', output [B, H]); see `Cell.step`."""
        h = simple_step(weights, carry, z, hidden_mask)
        return h, h.astype(weights.recurrent.dtype)


class GRUCell(Cell):
    """Gated recurrent unit (Cho et al. 2014), reset after the product. Carry: h [B, H].

    r = sigmoid(W_r x + b_r + U_r h), z = sigmoid(W_z x + b_z + U_z h),
    n = tanh(W_n x + b_n + r * (U_n h + b_hn)), h' = (1-z)*n + z*h.

    Parameters of `flax.linen.GRUCell`: ir, iz, in {kernel, bias}, hr, hz {kernel}, hn {kernel, bias}.
    Attributes are those of `Cell`.

    >>> import jax, jax.numpy as jnp
    >>> from rnn_jax.layers import RNN, GRUCell
    >>> layer, x = RNN(GRUCell(features=4)), jnp.ones((2, 5, 3))
    >>> (h, outputs), variables = layer.init_with_output(jax.random.key(0), x)
    >>> h.shape, outputs.shape
    ((2, 4), (2, 5, 4))
    """

    fused_step: ClassVar[FusedStep | None] = GRU

    @nn.compact
    def weights(self, input_size: int) -> Weights:
        """Returns the arrays of r, z and n, and b_hn as `extras`; see `Cell.weights`."""
        input_kernel = self.kernel_init, (input_size, self.features)
        recurrent_kernel = self.recurrent_kernel_init, (self.features, self.features)
        bias = self.bias_init, (self.features,)
        inputs = [self.parameters(f"i{gate}", kernel=input_kernel, bias=bias) for gate in "rzn"]
        kernels, biases = zip(*inputs, strict=True)
        n, n_bias = self.parameters("hn", kernel=recurrent_kernel, bias=bias)
        r, z = (self.parameters(f"h{gate}", kernel=recurrent_kernel)[0] for gate in "rz")
        return self.join_gates(kernels, [r, z, n], biases, extras=n_bias)

    def step(
        self, weights: Weights, carry: jax.Array, z: jax.Array, hidden_mask: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array]:
        """Returns (h', output [B, H]); see `Cell.step`."""
        h = gru_step(weights, carry, z, hidden_mask)
        return h, h.astype(weights.recurrent.dtype)


class LSTMCell(Cell):
    """Long short-term memory (Hochreiter & Schmidhuber 1997). Carry: LSTMCarry(c, h), each [B, H].

    i, f, o = sigmoid(.), g = tanh(.), each of W x + U h + b; c' = f*c + i*g; h' = o*tanh(c').

    Parameters of `flax.linen.LSTMCell` and `OptimizedLSTMCell`: ii, if, ig, io {kernel}, hi, hf, hg, ho
    {kernel, bias}; with layer_norm also input_norm, recurrent_norm {scale [4H]}, cell_norm {scale, bias [H]}.

    Attributes:
      forget_bias: where the forget gate's bias starts (Gers et al. 2000; 1 in Keras, 0 in Flax).
      layer_norm: normalises W x and U h over their 4H values, with the bias as their shift, and c before the
        last tanh (Ba et al. 2016). Such a cell is scanned. The other attributes are those of `Cell`.

    >>> import jax, jax.numpy as jnp
    >>> from rnn_jax.layers import RNN, LSTMCell
    >>> layer, x = RNN(LSTMCell(features=4)), jnp.ones((2, 5, 3))
    >>> (carry, outputs), variables = layer.init_with_output(jax.random.key(0), x)
    >>> carry.c.shape, carry.h.shape, outputs.shape
    ((2, 4), (2, 4), (2, 5, 4))
    """

    forget_bias: float = 1.0
    layer_norm: bool = False

    fused_step: ClassVar[FusedStep | None] = LSTM

    @nn.compact
    def weights(self, input_size: int) -> Weights:
        """Returns the arrays of i, f, g and o, and `norms` with layer_norm; see `Cell.weights`."""
        units = self.features
        input_kernel, recurrent_kernel = (
            (self.kernel_init, (input_size, units)),
            (self.recurrent_kernel_init, (units, units)),
        )
        inits = dict.fromkeys("igo", self.bias_init) | {"f": nn.initializers.constant(self.forget_bias)}
        kernels = [self.parameters(f"i{gate}", kernel=input_kernel)[0] for gate in "ifgo"]
        hidden = [
            self.parameters(f"h{gate}", kernel=recurrent_kernel, bias=(inits[gate], (units,)))
            for gate in "ifgo"
        ]
        recurrent, biases = zip(*hidden, strict=True)
        return self.join_gates(kernels, recurrent, biases, norms=self._norms() if self.layer_norm else None)

    def _norms(self) -> Norms:
        gates, units = (4 * self.features,), (self.features,)
        ones, zeros = nn.initializers.ones_init(), nn.initializers.zeros_init()
        return Norms(
            *self.parameters("input_norm", scale=(ones, gates)),
            *self.parameters("recurrent_norm", scale=(ones, gates)),
            *self.parameters("cell_norm", scale=(ones, units), bias=(zeros, units)),
        )

    def step(
        self, weights: Weights, carry: LSTMCarry, z: jax.Array, hidden_mask: jax.Array | None = None
    ) -> tuple[LSTMCarry, jax.Array]:
        """Returns (LSTMCarry(c', h'), output [B, H]); see `Cell.step`."""
        carry = lstm_step(weights, LSTMCarry(*carry), z, hidden_mask)
        return carry, carry.h.astype(weights.recurrent.dtype)

    @nn.nowrap
    def initialize_carry(self, rng: jax.Array, input_shape: tuple[int, ...]) -> LSTMCarry:
        """Returns zeros [..., H] twice, float32 or wider, for inputs [..., E]; `rng` is unused."""
        zeros = super().initialize_carry(rng, input_shape)
        return LSTMCarry(zeros, jnp.zeros_like(zeros))  # a jitted step may take over the memory of both


def check_cell(cell: object) -> None:
    """Raises InputError unless the cell is one of Flax linen's protocol, has units, and reads [B, E]."""
    if isinstance(cell, nn.RNNCellBase):
        check_feature_axes(cell)
        units = cell.features if isinstance(cell, BareCell) else 1
        require(units > 0, f"features of {type(cell).__name__} is {units}; give at least 1 unit")
        return
    if isinstance(cell, type):
        raise InputError(
            f"cell is the class {cell.__name__}; give a cell, such as {cell.__name__}(features=32)"
        )
    nnx = type(cell).__module__.startswith("flax.nnx")
    ours = {"LSTMCell": "LSTMCell", "OptimizedLSTMCell": "LSTMCell", "GRUCell": "GRUCell"}
    linen = ours.get(type(cell).__name__, "SimpleCell" if nnx else "LSTMCell")
    raise InputError(
        f"cell is {'an nnx' if nnx else 'a'} {type(cell).__name__}, but RNN runs cells of flax.linen "
        f"(nn.RNNCellBase); give rnn_jax.{linen}(features=...)"
        + (", and to use the layer in nnx wrap it: nnx.bridge.ToNNX(RNN(...))" if nnx else "")
    )


def check_feature_axes(cell: nn.RNNCellBase) -> None:
    """Raises InputError for a cell that says that it reads more than one axis of features."""
    silent = type(cell).num_feature_axes is nn.RNNCellBase.num_feature_axes
    axes = 1 if silent else cell.num_feature_axes
    require(
        axes == 1,
        f"cell is a {type(cell).__name__}, which reads {axes} axes of features, but RNN reads x [..., T, E], "
        "which has one; run it in flax.linen.RNN",
    )


@contextmanager
def check_width(cell: nn.RNNCellBase, size: int) -> Iterator[None]:
    """Raises InputError where the parameters of the cell are for inputs of another size, or other units."""
    try:
        yield
    except ScopeParamShapeError as error:
        kernels = leaves_by_path(nn.meta.unbox(cell.variables["params"]))
        widths = {leaf.shape[0] for path, leaf in kernels.items() if INPUT_KERNEL.search(path)}
        name = type(cell).__name__
        if len(widths) == 1 and size not in widths:
            fault = f"the parameters of {name} were made for {widths.pop()}; give x that width"
        else:
            fault = f"the parameters of {name} do not fit: {error}"
        raise InputError(f"x has {size} features, but {fault}") from error


def is_stepped(cell: nn.RNNCellBase) -> bool:
    """Returns whether layers run the cell by its `weights` and `step`, so that masks can reach inside.

    They call any other cell, as Flax's protocol has it: also a subclass of ours that has its own `__call__`.
    """
    return isinstance(cell, Cell) and type(cell).__call__ is Cell.__call__


def check_masked(cell: nn.RNNCellBase, rate: float) -> None:
    """Raises InputError where recurrent dropout of a rate cannot reach inside the cell."""
    require(
        rate == 0 or is_stepped(cell),
        f"recurrent_dropout is {rate}, but it reaches inside the cell, and {type(cell).__name__} "
        + why_not_masked(cell)
        + "; set it to 0, or use rnn_jax's cell, or a subclass that overrides its step alone",
    )


def why_not_masked(cell: nn.RNNCellBase) -> str:
    """Returns why no mask reaches the product of a cell's state, of a cell that is not stepped."""
    if isinstance(cell, Cell):
        return "has a __call__ of its own"
    return "has no product of its state" if isinstance(cell, BareCell) else "is not one of rnn_jax's"


def why_scanned(cell: nn.RNNCellBase) -> str:
    """Returns why the fused backend does not take the cell, or "" where it does."""
    name = type(cell).__name__
    if not isinstance(cell, Cell):
        return f"{name} has a step of its own"
    if not is_stepped(cell):
        return f"{name} has a __call__ of its own"
    if isinstance(cell, LSTMCell) and cell.layer_norm:
        return f"{name} with layer_norm=True normalises inside every step"
    if cell.fused_step is None or depth(type(cell), "step") < depth(type(cell), "fused_step"):
        return f"{name} has a step of its own and no fused_step that describes it"
    return ""


def depth(kind: type, attribute: str) -> int:
    """Returns how many classes of the inheritance lie before the one that defines the attribute."""
    return next(depth for depth, each in enumerate(kind.__mro__) if attribute in vars(each))
