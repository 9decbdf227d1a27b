"""How a layer runs the layers inside it."""

from typing import Any, NamedTuple, Protocol, runtime_checkable

import flax.linen as nn
import jax

from rnn_jax.errors import require
from rnn_jax.layers.cells import depth
from rnn_jax.layers.recurrence import Carry


class Mode(NamedTuple):
    """How a call runs a layer, and all layers inside it.

    Attributes:
      deterministic: False turns dropout on.
      mirror: run in the other direction.
      every_step: return the carry after every step, arrays [B, T, H], in the place of the last.
    """

    deterministic: bool
    mirror: bool = False
    every_step: bool = False


@runtime_checkable
class Nestable(Protocol):
    """What RNN, Bidirectional and Stacked have beside their call, which is made of it."""

    def _apply(
        self, x: jax.Array, lengths: jax.Array | None, initial_carry: Any, mode: Mode
    ) -> tuple[Any, jax.Array]: ...


def run_layer(
    place: str, layer: Any, x: jax.Array, lengths: jax.Array | None, carry: Carry | None, mode: Mode
) -> tuple[Any, jax.Array]:
    """Returns (carry, outputs) of a layer that stands in another, for a batch [B, T, E].

    A subclass with a `__call__` of its own is called, also one that `nn.remat` or `nn.map_variables` made.

    Raises:
      InputError: the layer at that `place` is none of ours, or its own call cannot run in this mode.
    """
    name = type(layer).__name__
    require(
        isinstance(layer, nn.Module) and isinstance(layer, Nestable),
        f"{place} has a {name} of {type(layer).__module__}, but only rnn_jax's RNN, Bidirectional and "
        "Stacked run inside a layer; give RNN(cell) of a cell, and call another module outside",
    )
    if not has_own_call(layer):
        result: tuple[Any, jax.Array] = layer._apply(x, lengths, carry, mode)
        return result
    require(
        not mode.mirror,
        f"{place} has a {name}, whose own __call__ runs one way only, but here it is to run the other way; "
        "give an RNN, Bidirectional or Stacked there, or a cell with a __call__ of its own",
    )
    require(
        not mode.every_step,
        f"{place} has a {name}, whose own __call__ has no carry at every step; call the layer instead",
    )
    called: tuple[Any, jax.Array] = layer(x, lengths, carry, mode.deterministic)
    return called


def has_own_call(layer: Nestable) -> bool:
    """Returns whether a subclass of a layer overrides `__call__`, which is then not what `_apply` runs."""
    return depth(type(layer), "__call__") < depth(type(layer), "_apply")
