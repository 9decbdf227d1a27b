"""Layers that run cells over time: RNN, Bidirectional and Stacked.

Every layer is called as `carry, outputs = layer(x, lengths=None, initial_carry=None, deterministic=True)`:
x [B, T, E], lengths int[B], outputs [B, T, H], zero at padding. The carry is the state after the last valid
step read, for a row of length 0 the initial one. `layer.final_hidden(carry)` is the [B, H] for a classifier.
"""

from collections.abc import Callable, Sequence
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from rnn_jax.cells import Carry, Cell, project_inputs
from rnn_jax.errors import check_rate, choose, require
from rnn_jax.sequence import check_batch, valid_steps, zero_padding

BACKENDS = {"auto": "scan", "scan": "scan"}
MERGES: dict[str, Callable[[jax.Array, jax.Array], jax.Array]] = {
    "concat": lambda forward, backward: jnp.concatenate([forward, backward], axis=-1),
    "sum": jnp.add,
    "mul": jnp.multiply,
    "ave": lambda forward, backward: (forward + backward) / 2,
}


def keep_valid(valid_B: jax.Array | None, new: jax.Array, old: jax.Array) -> jax.Array:
    """Returns `new` in the valid rows and `old` in the others, in the type of `old`."""
    new = new.astype(old.dtype)
    return new if valid_B is None else jnp.where(valid_B[:, None], new, old)


class RNN(nn.Module):
    """Runs one cell over a padded batch, from the first valid step to the last or, with `reverse`, back.

    Attributes:
      cell: any `nn.RNNCellBase`, ours or Flax's. Parameters are in the scope `cell`, as in `flax.linen.RNN`.
      reverse: read right to left; outputs stay in the original order.
      backend: "scan" is `nn.scan`: any transformation, any cell. "auto" takes the fastest of them.
      recurrent_dropout: rate of variational dropout on the hidden state inside the recurrent product, one mask
        for the whole sequence, from the rng stream "dropout" (Gal & Ghahramani 2016). Our cells only.

    Raises:
      ValueError: x is not [B, T, E], lengths is not int[B], initial_carry has other shapes than the cell's,
        an unknown backend, recurrent_dropout outside [0, 1) or on a cell that is not ours.
    """

    cell: nn.RNNCellBase
    reverse: bool = False
    backend: str = "auto"
    recurrent_dropout: float = 0.0

    def __call__(
        self,
        x: jax.Array,
        lengths: jax.Array | None = None,
        initial_carry: Carry | None = None,
        deterministic: bool = True,
    ) -> tuple[Carry, jax.Array]:
        return self.run(x, lengths, initial_carry, deterministic)

    @nn.compact
    def run(self, x, lengths, initial_carry, deterministic, mirror: bool = False) -> tuple[Carry, jax.Array]:
        """Calls the layer; with `mirror`, in the other direction."""
        choose("backend", self.backend, BACKENDS)
        check_batch(x, lengths)
        batch, time, size = x.shape
        carry = self._initial_carry(initial_carry, (batch, size))
        step = self._step(batch, size, deterministic)
        x_TBE = zero_padding(x, lengths).swapaxes(0, 1)
        valid_TB = None if lengths is None else valid_steps(lengths, time).T

        def masked_step(cell, carry, x_and_valid):
            x_BE, valid_B = x_and_valid
            new_carry, output = step(cell, carry, x_BE)
            return jax.tree.map(partial(keep_valid, valid_B), new_carry, carry), output

        scan = nn.scan(
            masked_step,
            variable_broadcast="params",
            split_rngs={"params": False},
            reverse=self.reverse != mirror,
        )
        carry, outputs_TBH = scan(self.cell, carry, (x_TBE, valid_TB))
        return carry, zero_padding(outputs_TBH.swapaxes(0, 1), lengths)

    def final_hidden(self, carry: Carry) -> jax.Array:
        """Returns h [B, H] of the cell's carry: the carry itself, or the last of (c, h)."""
        return carry[-1] if isinstance(carry, tuple) else carry

    def _step(self, batch: int, size: int, deterministic: bool) -> Callable:
        """Returns one step of the loop, `carry, output = step(cell, carry, x_BE)`."""
        check_rate("recurrent_dropout", self.recurrent_dropout)
        if not isinstance(self.cell, Cell):
            require(
                self.recurrent_dropout == 0,
                f"recurrent_dropout is {self.recurrent_dropout}, but it reaches inside the cell, and "
                f"{type(self.cell).__name__} is not one of rnn_jax's; set it to 0 or use rnn_jax's cell",
            )
            return lambda cell, carry, x_BE: cell(carry, x_BE)
        weights = self.cell.weights(size)
        mask_BH = None
        if self.recurrent_dropout and not deterministic:
            dropout = nn.Dropout(self.recurrent_dropout, deterministic=False)
            mask_BH = dropout(jnp.ones((batch, self.cell.features)))
        # Projecting inside the loop is the faster unless E far exceeds H: see benchmarks/projection.py.
        return lambda cell, carry, x_BE: cell.step(weights, carry, project_inputs(weights, x_BE), mask_BH)

    def _initial_carry(self, given: Carry | None, input_shape: tuple[int, int]) -> Carry:
        zeros = self.cell.initialize_carry(jax.random.key(0), input_shape)
        if given is None:
            return zeros
        leaves, structure = jax.tree.leaves(given), jax.tree.structure(zeros)
        shapes, expected = ([jnp.shape(leaf) for leaf in jax.tree.leaves(carry)] for carry in (given, zeros))
        cell = type(self.cell).__name__
        require(shapes == expected, f"initial_carry has shapes {shapes}, but {cell} carries {expected}")
        return jax.tree.unflatten(structure, [jnp.asarray(leaf) for leaf in leaves])


class Bidirectional(nn.Module):
    """Two independent layers, one reading left to right, one right to left (Schuster & Paliwal 1997).

    The carry is the pair (forward carry, backward carry); its final hidden state is the merge of the two.

    Attributes:
      forward_rnn, backward_rnn: two layers, both built to read left to right; the second is run reversed.
        Parameters are in the scopes `forward_rnn` and `backward_rnn`, as in `flax.linen.Bidirectional`.
      merge: "concat", "sum", "mul", "ave", or a function of the two output arrays.

    Raises:
      ValueError: the two share one layer or cell, one is built with reverse=True, or an unknown merge.
    """

    forward_rnn: nn.Module
    backward_rnn: nn.Module
    merge: str | Callable[[jax.Array, jax.Array], jax.Array] = "concat"

    def __call__(
        self,
        x: jax.Array,
        lengths: jax.Array | None = None,
        initial_carry: tuple[Carry, Carry] | None = None,
        deterministic: bool = True,
    ) -> tuple[tuple[Carry, Carry], jax.Array]:
        return self.run(x, lengths, initial_carry, deterministic)

    def run(self, x, lengths, initial_carry, deterministic, mirror: bool = False):
        """Calls the layer; with `mirror`, both directions are swapped."""
        self._check_layers()
        first, second = (None, None) if initial_carry is None else initial_carry
        forward_carry, forward = self.forward_rnn.run(x, lengths, first, deterministic, mirror)
        backward_carry, backward = self.backward_rnn.run(x, lengths, second, deterministic, not mirror)
        return (forward_carry, backward_carry), self._merge(forward, backward)

    def final_hidden(self, carry: tuple[Carry, Carry]) -> jax.Array:
        """Returns the merge of the two directions' final hidden states."""
        return self._merge(self.forward_rnn.final_hidden(carry[0]), self.backward_rnn.final_hidden(carry[1]))

    def _merge(self, forward: jax.Array, backward: jax.Array) -> jax.Array:
        merge = choose("merge", self.merge, MERGES) if isinstance(self.merge, str) else self.merge
        return merge(forward, backward)

    def _check_layers(self) -> None:
        layers = {"forward_rnn": self.forward_rnn, "backward_rnn": self.backward_rnn}
        owners = [layer.cell if isinstance(layer, RNN) else layer for layer in layers.values()]
        require(
            owners[0] is not owners[1],
            "forward_rnn and backward_rnn are one object or hold one cell, so they would share it; build two",
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
      dropout: rate of dropout between layers, one mask for the whole sequence, from the rng stream "dropout".
      residual: adds a layer's input to its output wherever the two are equally wide (He et al. 2016).

    Raises:
      ValueError: no layers, initial_carry of another length, dropout outside [0, 1), or `residual` where no
        layer is as wide as its input.
    """

    layers: Sequence[nn.Module]
    dropout: float = 0.0
    residual: bool = False

    def __call__(
        self,
        x: jax.Array,
        lengths: jax.Array | None = None,
        initial_carry: Sequence[Carry] | None = None,
        deterministic: bool = True,
    ) -> tuple[tuple[Carry, ...], jax.Array]:
        return self.run(x, lengths, initial_carry, deterministic)

    @nn.compact
    def run(self, x, lengths, initial_carry, deterministic, mirror: bool = False):
        """Calls the layers in turn; with `mirror`, each in its other direction."""
        require(len(self.layers) > 0, "layers is empty; a stack needs at least one")
        check_rate("dropout", self.dropout)
        given = [None] * len(self.layers) if initial_carry is None else list(initial_carry)
        require(
            len(given) == len(self.layers),
            f"initial_carry holds {len(given)} carries for {len(self.layers)} layers; give one for each",
        )
        carries: list[Carry] = []
        widths = []
        for layer, carry in zip(self.layers, given, strict=True):
            if carries:
                x = nn.Dropout(self.dropout, broadcast_dims=(1,), deterministic=deterministic)(x)
            carry, outputs = layer.run(x, lengths, carry, deterministic, mirror)
            carries.append(carry)
            widths.append((x.shape[-1], outputs.shape[-1]))
            if self.residual and x.shape == outputs.shape:
                outputs += zero_padding(x, lengths).astype(outputs.dtype)
            x = outputs
        require(
            not self.residual or any(below == above for below, above in widths),
            f"residual is on, but no layer is as wide as its input: (input, output) widths are {widths}",
        )
        return tuple(carries), x

    def final_hidden(self, carry: Sequence[Carry]) -> jax.Array:
        """Returns the final hidden state of the top layer."""
        return self.layers[-1].final_hidden(carry[-1])
