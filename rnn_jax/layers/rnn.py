"""Layers over time: `carry, outputs = layer(x, lengths, initial_carry, deterministic)`."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import flax.linen as nn
import jax
import jax.numpy as jnp

from rnn_jax.errors import check_rate, choose, require
from rnn_jax.layers.backends import Step, is_scanned, runner
from rnn_jax.layers.cells import check_cell, check_masked, check_width
from rnn_jax.layers.dropout import Dropout, drops
from rnn_jax.layers.inputs import fit_carry, over_leading_axes, split_carry
from rnn_jax.layers.linear import is_linear
from rnn_jax.layers.masking import mean_of_groups, valid_steps, zero_padding
from rnn_jax.layers.nesting import Merge, Mode, check_layers, equally_wide, run_layer
from rnn_jax.layers.placement import over_rows, place_rows, vary_with
from rnn_jax.layers.recurrence import Carry, hidden_state
from rnn_jax.layers.scanned import PLAIN, Lifting, run_scanned
from rnn_jax.trees import Tree

Layer: TypeAlias = "RNN | Bidirectional | Stacked"
Mask: TypeAlias = jax.Array | None


class RNN(nn.Module):
    """Runs one cell over a padded batch, from the first valid step to the last or, with `reverse`, back.

    Attributes:
      cell: any `nn.RNNCellBase`, ours or Flax's. Parameters are in the scope `cell`, as in `flax.linen.RNN`.
      reverse: read right to left; outputs stay in the original order.
      backend: "scan" is `nn.scan` over any cell. "fused" (rnn_jax.layers.fused) is the same function in
        chunks of steps, several times faster to train and smaller; it takes cells that have a `fused_step`:
        SimpleCell, GRUCell, LSTMCell without layer_norm, and your own. "native" (rnn_jax.layers.native) runs
        these three in C++ on a CPU, where the package was built with a compiler. "persistent"
        (rnn_jax.layers.persistent) runs them on an NVIDIA GPU, up to 128 units, with TF32's 11 bits; it has
        not run on a GPU yet. "linear" (rnn_jax.layers.linear) runs linear cells. "auto" is the fastest of the
        others that apply, by a measured rule (rnn_jax.layers.backends): for a batch of texts "native", for
        few rows or steps "fused", for a linear cell "linear", for a single step or any other cell "scan".
      remat: of all but "linear" and "scan": compute the activations again in the backward pass rather than
        keep them, which takes about a third of the memory and up to 38 % more time. None: chosen by shape,
        so that up to a GiB is kept.
      recurrent_dropout: rate in [0, 1) of variational dropout on the hidden state inside the recurrent
        product, one mask for the whole sequence, from the rng stream "dropout" (Gal & Ghahramani 2016). Our
        cells only.

      variable_axes, variable_broadcast, variable_carry, split_rngs: of the scan, as in `flax.linen.RNN`: what
        becomes of a cell's collections and random streams at each step. By default parameters are shared and
        what a cell sows in "intermediates" is stacked, [T, ...]. Dropout inside a cell needs
        split_rngs={"params": False, "dropout": True}, BatchNorm variable_carry="batch_stats"; padded steps
        run too. A layer with one of them set is scanned.

    Raises:
      InputError: x is not [..., T, E] or not as wide as the parameters, lengths is not int[...],
        initial_carry has other shapes than the cell's, a cell that is not of flax.linen, an unknown backend,
        one that does not take the cell or is not there, `remat` where the backend is "scan",
        recurrent_dropout outside [0, 1) or on a cell that is not ours or has its own `__call__`, a traced
        `deterministic`.

    >>> import jax, jax.numpy as jnp
    >>> from rnn_jax import RNN, LSTMCell
    >>> layer, x, lengths = RNN(LSTMCell(features=4)), jnp.ones((2, 5, 3)), jnp.array([5, 2])
    >>> variables = layer.init(jax.random.key(0), x, lengths)
    >>> carry, outputs = layer.apply(variables, x, lengths)
    >>> outputs.shape, bool(outputs[1, 2:].any())  # steps past a row's length are zero
    ((2, 5, 4), False)
    """

    cell: nn.RNNCellBase
    reverse: bool = False
    backend: str = "auto"
    remat: bool | None = None
    recurrent_dropout: float = 0.0
    variable_axes: Mapping[Any, Any] = PLAIN.variable_axes
    variable_broadcast: Any = PLAIN.variable_broadcast
    variable_carry: Any = PLAIN.variable_carry
    split_rngs: Mapping[Any, bool] = PLAIN.split_rngs

    def __call__(
        self,
        x: jax.Array,
        lengths: jax.Array | None = None,
        initial_carry: Carry | None = None,
        deterministic: bool = True,
    ) -> tuple[Carry, jax.Array]:
        """Returns the carry after the last step that is read, and the outputs of all steps.

        Args:
          x: inputs [B, T, E], or [..., T, E] with any leading axes, which are one batch to the cell.
          lengths: int[B] (or [...]), clamped to 0..T: a row's first `lengths[b]` steps are read, the others
            are padding, which reaches neither values nor gradients. None: all T. A list will do.
          initial_carry: the carry to start from, of the cell's structure, arrays [B, H]. None: zeros.
          deterministic: False turns dropout on; it needs the rng stream "dropout".

        Returns:
          (carry, outputs): arrays [B, H] in the carry's type, and [B, T, H] in the compute type, zero at
          padding. A row of length 0 has its initial carry.

        >>> import jax, jax.numpy as jnp
        >>> from rnn_jax import RNN, GRUCell
        >>> layer, x = RNN(GRUCell(features=4)), jnp.ones((2, 5, 3))
        >>> (carry, outputs), variables = layer.init_with_output(jax.random.key(0), x)
        >>> carry, more = layer.apply(variables, x, initial_carry=carry)  # goes on where the first 5 ended
        >>> bool((more[:, -1] == carry).all()), bool((more == outputs).any())
        (True, False)
        """
        return over_leading_axes(self._apply, x, lengths, initial_carry, Mode(deterministic))

    def carries(
        self,
        x: jax.Array,
        lengths: jax.Array | None = None,
        initial_carry: Carry | None = None,
        deterministic: bool = True,
    ) -> Carry:
        """Returns the carry after every step, each array [B, T, H], from the scan whatever the backend.

        Arguments are those of the call. A padded step passes on the carry that it gets.
        """
        mode = Mode(deterministic, every_step=True)
        return over_leading_axes(self._apply, x, lengths, initial_carry, mode)[0]

    def final_hidden(self, carry: Carry) -> jax.Array:
        """Returns h [B, H] of the cell's carry: the carry itself, or the last of (c, h)."""
        return hidden_state(carry)

    @nn.compact
    def _apply(
        self, x: jax.Array, lengths: jax.Array | None, initial_carry: Carry | None, mode: Mode
    ) -> tuple[Carry, jax.Array]:
        """Returns (carry, outputs) of a batch [B, T, E]: the whole layer."""
        check_cell(self.cell)
        batch, time, size = x.shape
        scanned = is_scanned(self.backend, self.cell, self._lifting(), self.remat, time) or mode.every_step
        zeros = self.cell.initialize_carry(jax.random.key(0), (batch, size))
        carry = zeros if initial_carry is None else fit_carry(initial_carry, zeros, type(self.cell).__name__)
        hidden_mask = self._hidden_mask(x, mode.deterministic)
        x, lengths, carry, hidden_mask = place_rows((x, lengths, carry, hidden_mask), like=x)
        x_TBE = zero_padding(x, lengths).swapaxes(0, 1)
        valid_TB = None if lengths is None else valid_steps(lengths, time).T
        arguments = x_TBE, carry, valid_TB, hidden_mask, self.reverse != mode.mirror
        with check_width(self.cell, size):
            if scanned:
                carry, outputs_TBH = run_scanned(self.cell, *arguments, self._lifting(), mode.every_step)
            else:
                carry, outputs_TBH = self._run(*arguments)
        if mode.every_step:
            carry = jax.tree.map(lambda leaf: leaf.swapaxes(0, 1), carry)
        return carry, zero_padding(outputs_TBH.swapaxes(0, 1), lengths)

    def _run(
        self, x_TBE: jax.Array, carry: Carry, valid_TB: Mask, hidden_mask: Mask, reverse: bool
    ) -> tuple[Carry, jax.Array]:
        step: Step = self.cell if is_linear(self.cell) else self.cell.fused_step
        weights = self.cell.weights(x_TBE.shape[-1])
        run_steps = runner(self.backend, step, weights, x_TBE, carry)

        def run(weights: Tree, x_TBE: jax.Array, of_rows: Any, valid_TB: Mask) -> tuple[Carry, jax.Array]:
            carry, hidden_mask = of_rows
            return run_steps(step, weights, x_TBE, carry, valid_TB, hidden_mask, reverse, self.remat)

        carry, h_TBH = over_rows(run, weights, x_TBE, (carry, hidden_mask), valid_TB)
        return carry, h_TBH.astype(weights.kernel.dtype)

    def _lifting(self) -> Lifting:
        return Lifting(self.variable_axes, self.variable_broadcast, self.variable_carry, self.split_rngs)

    def _hidden_mask(self, x: jax.Array, deterministic: bool) -> jax.Array | None:
        """Returns the dropout mask [B, H] on h inside the recurrent product, or None."""
        check_rate("recurrent_dropout", self.recurrent_dropout)
        check_masked(self.cell, self.recurrent_dropout)
        if not drops(self.recurrent_dropout, deterministic):
            return None
        ones = vary_with(jnp.ones((x.shape[0], self.cell.features)), x)
        return Dropout(self.recurrent_dropout)(ones, deterministic)


MERGES: dict[str, Merge] = {
    "concat": lambda forward, backward: jnp.concatenate([forward, backward], axis=-1),
    "sum": equally_wide("sum", jnp.add),
    "mul": equally_wide("mul", jnp.multiply),
    "ave": equally_wide("ave", lambda forward, backward: (forward + backward) / 2),
}


class Bidirectional(nn.Module):
    """Two independent layers, one reading left to right, one right to left (Schuster & Paliwal 1997).

    The carry is the pair (forward carry, backward carry); its final hidden state is the merge of the two.

    Attributes:
      forward_rnn, backward_rnn: two layers, both built to read left to right; the second is run reversed.
        Parameters are in the scopes `forward_rnn` and `backward_rnn`, as in `flax.linen.Bidirectional`.
      merge: "concat", "sum", "mul", "ave", or a function of the two output arrays [..., H].

    Raises:
      InputError: initial_carry is not a pair, the two share one layer or cell, one is built with
        reverse=True or is no layer, an unknown merge, or other widths with one that is not "concat".

    >>> import jax, jax.numpy as jnp
    >>> from rnn_jax import RNN, Bidirectional, GRUCell
    >>> layer = Bidirectional(RNN(GRUCell(features=4)), RNN(GRUCell(features=4)))
    >>> x, lengths = jnp.ones((2, 5, 3)), jnp.array([5, 2])
    >>> ((forward, backward), outputs), variables = layer.init_with_output(jax.random.key(0), x, lengths)
    >>> forward.shape, backward.shape, outputs.shape
    ((2, 4), (2, 4), (2, 5, 8))
    """

    forward_rnn: Layer
    backward_rnn: Layer
    merge: str | Merge = "concat"

    def __call__(
        self,
        x: jax.Array,
        lengths: jax.Array | None = None,
        initial_carry: tuple[Carry, Carry] | None = None,
        deterministic: bool = True,
    ) -> tuple[tuple[Carry, Carry], jax.Array]:
        """Returns the pair of carries and the merged outputs; arguments are those of `RNN`.

        The backward carry is that after the first step, which it reads last. `initial_carry` is a pair.

        >>> import jax, jax.numpy as jnp
        >>> from rnn_jax import RNN, Bidirectional, GRUCell
        >>> layer, x = Bidirectional(RNN(GRUCell(4)), RNN(GRUCell(4))), jnp.ones((2, 5, 3))
        >>> ((_, backward), outputs), variables = layer.init_with_output(jax.random.key(0), x)
        >>> bool((backward == outputs[:, 0, 4:]).all())
        True
        """
        return over_leading_axes(self._apply, x, lengths, initial_carry, Mode(deterministic))

    def carries(
        self,
        x: jax.Array,
        lengths: jax.Array | None = None,
        initial_carry: tuple[Carry, Carry] | None = None,
        deterministic: bool = True,
    ) -> tuple[Carry, Carry]:
        """Returns the pair of both directions' carries after every step, each array [B, T, ...]."""
        mode = Mode(deterministic, every_step=True)
        return over_leading_axes(self._apply, x, lengths, initial_carry, mode)[0]

    def final_hidden(self, carry: tuple[Carry, Carry]) -> jax.Array:
        """Returns the merge of the two directions' final hidden states."""
        return self._merge(self.forward_rnn.final_hidden(carry[0]), self.backward_rnn.final_hidden(carry[1]))

    def _apply(
        self, x: jax.Array, lengths: jax.Array | None, initial_carry: tuple[Carry, Carry] | None, mode: Mode
    ) -> tuple[tuple[Carry, Carry], jax.Array]:
        self._check_layers()
        first, second = split_carry(initial_carry, 2, "directions")
        other_way = mode._replace(mirror=not mode.mirror)
        forward_carry, forward = run_layer("forward_rnn", self.forward_rnn, x, lengths, first, mode)
        backward_carry, backward = run_layer("backward_rnn", self.backward_rnn, x, lengths, second, other_way)
        return (forward_carry, backward_carry), self._merge(forward, backward)

    def _merge(self, forward: jax.Array, backward: jax.Array) -> jax.Array:
        merge = self.merge if callable(self.merge) else choose("merge", self.merge, MERGES)
        return merge(forward, backward)

    def _check_layers(self) -> None:
        layers = {"forward_rnn": self.forward_rnn, "backward_rnn": self.backward_rnn}
        forward, backward = ({id(part) for part in parts(layer)} for layer in layers.values())
        require(
            not forward & backward,
            "forward_rnn and backward_rnn are one object or hold one cell or layer, so they would share it; "
            "build two",
        )
        for name, layer in layers.items():
            require(
                not (isinstance(layer, RNN) and layer.reverse),
                f"{name} has reverse=True; build it with reverse=False, Bidirectional turns the second one",
            )


class Stacked(nn.Module):
    """Layers one on another: each reads the whole output sequence of the one below.

    The carry is the tuple of the layers' carries; its final hidden state is the top layer's.

    Attributes:
      layers: RNN, Bidirectional or Stacked layers of any cells and widths, in the scopes `layers_0`, ...
      dropout: rate in [0, 1) of dropout between layers, one mask for the whole sequence, from the rng stream
        "dropout".
      residual: adds a layer's input to its output wherever the two are equally wide (He et al. 2016).
      stride: steps of a layer whose mean is one step of the layer above, at least 1 (a pyramid, as in Listen,
        Attend and Spell, Chan et al. 2016). Outputs have all T steps: the top layer's, each repeated.

    Raises:
      InputError: no layers or none of these, initial_carry of another length, dropout outside [0, 1),
        `residual` where no layer is as wide as its input, a stride below 1, or `carries` of a larger one.

    >>> import jax, jax.numpy as jnp
    >>> from rnn_jax import RNN, GRUCell, LSTMCell, Stacked
    >>> layer, x = Stacked([RNN(LSTMCell(features=4)), RNN(GRUCell(features=4))]), jnp.ones((2, 5, 3))
    >>> ((below, top), outputs), variables = layer.init_with_output(jax.random.key(0), x)
    >>> below.h.shape, top.shape, outputs.shape
    ((2, 4), (2, 4), (2, 5, 4))
    """

    layers: Sequence[Layer]
    dropout: float = 0.0
    residual: bool = False
    stride: int = 1

    def __call__(
        self,
        x: jax.Array,
        lengths: jax.Array | None = None,
        initial_carry: Sequence[Carry] | None = None,
        deterministic: bool = True,
    ) -> tuple[tuple[Carry, ...], jax.Array]:
        """Returns the layers' carries and the top layer's outputs; arguments are those of `RNN`.

        `initial_carry` holds one carry a layer.

        >>> import jax, jax.numpy as jnp
        >>> from rnn_jax import RNN, GRUCell, Stacked
        >>> layer, x = Stacked([RNN(GRUCell(4)), RNN(GRUCell(4))], dropout=0.5), jnp.ones((2, 5, 3))
        >>> (carries, outputs), variables = layer.init_with_output(jax.random.key(0), x, deterministic=False)
        >>> len(carries), bool((layer.final_hidden(carries) == outputs[:, -1]).all())
        (2, True)
        """
        return over_leading_axes(self._apply, x, lengths, initial_carry, Mode(deterministic))

    def carries(
        self,
        x: jax.Array,
        lengths: jax.Array | None = None,
        initial_carry: Sequence[Carry] | None = None,
        deterministic: bool = True,
    ) -> tuple[Carry, ...]:
        """Returns the tuple of the layers' carries after every step, each array [B, T, ...]."""
        mode = Mode(deterministic, every_step=True)
        return over_leading_axes(self._apply, x, lengths, initial_carry, mode)[0]

    def final_hidden(self, carry: Sequence[Carry]) -> jax.Array:
        """Returns the final hidden state of the top layer."""
        return self.layers[-1].final_hidden(carry[-1])

    @nn.compact
    def _apply(
        self, x: jax.Array, lengths: jax.Array | None, initial_carry: Sequence[Carry] | None, mode: Mode
    ) -> tuple[tuple[Carry, ...], jax.Array]:
        check_layers(self.layers)
        check_rate("dropout", self.dropout)
        given = split_carry(initial_carry, len(self.layers), "layers")
        check_stride(self.stride, mode.every_step)
        carries: list[Carry] = []
        widths, time, of_all = [], x.shape[1], lengths
        for layer, carry in zip(self.layers, given, strict=True):
            if carries:
                x = Dropout(self.dropout)(x, mode.deterministic)
                x, lengths = (x, lengths) if self.stride == 1 else mean_of_groups(x, lengths, self.stride)
            carry, outputs = run_layer("layers", layer, x, lengths, carry, mode)
            carries.append(carry)
            widths.append((x.shape[-1], outputs.shape[-1]))
            if self.residual and x.shape == outputs.shape:
                outputs += zero_padding(x, lengths).astype(outputs.dtype)
            x = outputs
        require(
            not self.residual or any(below == above for below, above in widths),
            f"residual is on, but no layer is as wide as its input: (input, output) widths are {widths}",
        )
        if self.stride > 1:
            x = jnp.repeat(x, self.stride ** (len(carries) - 1), axis=1)[:, :time]
        return tuple(carries), x if self.stride == 1 else zero_padding(x, of_all)


def check_stride(stride: int, every_step: bool) -> None:
    """Raises InputError for a stride below 1, or one that leaves layers without a carry at every step."""
    require(stride > 0, f"stride is {stride}; give at least 1")
    require(stride == 1 or not every_step, f"stride is {stride}: upper layers have no carry at every step")


def parts(layer: object) -> list[object]:
    """Returns a layer and all layers and cells inside it."""
    inside: Sequence[object] = ()
    if isinstance(layer, RNN):
        inside = [layer.cell]
    elif isinstance(layer, Bidirectional):
        inside = [layer.forward_rnn, layer.backward_rnn]
    elif isinstance(layer, Stacked):
        inside = layer.layers if isinstance(layer.layers, Sequence) else ()  # refused where it runs
    return [layer, *(part for each in inside for part in parts(each))]


def read_from_the_end(layer: object) -> str:
    """Returns what in a layer reads later steps or may, such as "a Bidirectional", or "" for nothing."""
    if isinstance(layer, Stacked):
        check_layers(layer.layers)
        if layer.stride > 1:
            return f"a stride of {layer.stride}"
        return next(filter(None, map(read_from_the_end, layer.layers)), "")
    if not isinstance(layer, RNN):
        return f"a {type(layer).__name__}"
    return "an RNN with reverse=True" if layer.reverse else ""
