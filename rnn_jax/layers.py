"""Layers that run cells over time: RNN, Bidirectional and Stacked.

Every layer is called as `carry, outputs = layer(x, lengths=None, initial_carry=None, deterministic=True)`:
x [B, T, E], lengths int[B], outputs [B, T, H], zero at padding; any axes may stand for B, also none, as long
as lengths and the carry have them too. The carry is the state after the last valid
step read, for a row of length 0 the initial one. `layer.final_hidden(carry)` is the [B, H] for a classifier.

`layer.apply(params, x, lengths, method="carries")` returns the carry after every step, the LSTM's c too, in
the structure of the carry, each array [B, T, ...]. A padded step passes on the carry it gets: in a layer that
reads forward the row's last one, in a layer that reads backward, where padding comes first, the initial one.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from rnn_jax.cells import Carry
from rnn_jax.dropout import Dropout
from rnn_jax.errors import check_rate, choose, require
from rnn_jax.rnn import RNN
from rnn_jax.sequence import over_leading_axes, zero_padding

MERGES: dict[str, Callable[[jax.Array, jax.Array], jax.Array]] = {
    "concat": lambda forward, backward: jnp.concatenate([forward, backward], axis=-1),
    "sum": jnp.add,
    "mul": jnp.multiply,
    "ave": lambda forward, backward: (forward + backward) / 2,
}


class Bidirectional(nn.Module):
    """Two independent layers, one reading left to right, one right to left (Schuster & Paliwal 1997).

    The carry is the pair (forward carry, backward carry); its final hidden state is the merge of the two.

    Attributes:
      forward_rnn, backward_rnn: two layers, both built to read left to right; the second is run reversed.
        Parameters are in the scopes `forward_rnn` and `backward_rnn`, as in `flax.linen.Bidirectional`.
      merge: "concat", "sum", "mul", "ave", or a function of the two output arrays.

    Raises:
      InputError: the two share one layer or cell, one is built with reverse=True, or an unknown merge.
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
        return over_leading_axes(partial(self.run, deterministic=deterministic), x, lengths, initial_carry)

    def carries(
        self,
        x: jax.Array,
        lengths: jax.Array | None = None,
        initial_carry: tuple[Carry, Carry] | None = None,
        deterministic: bool = True,
    ) -> tuple[Carry, Carry]:
        """Returns the pair of both directions' carries after every step, each array [B, T, ...]."""
        return over_leading_axes(partial(self.trace, deterministic=deterministic), x, lengths, initial_carry)[
            0
        ]

    def run(self, x, lengths, initial_carry, deterministic, mirror: bool = False):
        """Calls the layer; with `mirror`, both directions are swapped."""
        return self._both(_run, x, lengths, initial_carry, deterministic, mirror)

    def trace(self, x, lengths, initial_carry, deterministic, mirror: bool = False):
        """Returns what `run` does, but the carries after every step in the place of the last."""
        return self._both(_trace, x, lengths, initial_carry, deterministic, mirror)

    def _both(self, run, x, lengths, initial_carry, deterministic, mirror):
        self._check_layers()
        first, second = (None, None) if initial_carry is None else initial_carry
        forward_carry, forward = run(self.forward_rnn, x, lengths, first, deterministic, mirror)
        backward_carry, backward = run(self.backward_rnn, x, lengths, second, deterministic, not mirror)
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
      InputError: no layers, initial_carry of another length, dropout outside [0, 1), or `residual` where no
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
        return over_leading_axes(partial(self.run, deterministic=deterministic), x, lengths, initial_carry)

    def carries(
        self,
        x: jax.Array,
        lengths: jax.Array | None = None,
        initial_carry: Sequence[Carry] | None = None,
        deterministic: bool = True,
    ) -> tuple[Carry, ...]:
        """Returns the tuple of the layers' carries after every step, each array [B, T, ...]."""
        return over_leading_axes(partial(self.trace, deterministic=deterministic), x, lengths, initial_carry)[
            0
        ]

    def run(self, x, lengths, initial_carry, deterministic, mirror: bool = False):
        """Calls the layers in turn; with `mirror`, each in its other direction."""
        return self._in_turn(_run, x, lengths, initial_carry, deterministic, mirror)

    def trace(self, x, lengths, initial_carry, deterministic, mirror: bool = False):
        """Returns what `run` does, but the carries after every step in the place of the last."""
        return self._in_turn(_trace, x, lengths, initial_carry, deterministic, mirror)

    @nn.compact
    def _in_turn(self, run, x, lengths, initial_carry, deterministic, mirror):
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
                x = Dropout(self.dropout)(x, deterministic)
            carry, outputs = run(layer, x, lengths, carry, deterministic, mirror)
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


def _run(layer: Any, *arguments: Any) -> tuple[Carry, jax.Array]:
    return layer.run(*arguments)


def _trace(layer: Any, *arguments: Any) -> tuple[Carry, jax.Array]:
    return layer.trace(*arguments)


def read_from_the_end(layer: Any) -> str:
    """Returns what in a layer reads from the end or may, such as "a Bidirectional", or "" for nothing."""
    if isinstance(layer, Stacked):
        return next(filter(None, map(read_from_the_end, layer.layers)), "")
    if not isinstance(layer, RNN):
        return f"a {type(layer).__name__}"
    return "an RNN with reverse=True" if layer.reverse else ""
