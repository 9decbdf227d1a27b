"""How a layer runs the layers inside it."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

import flax.linen as nn
import jax

from rnn_jax.errors import InputError, require
from rnn_jax.layers.cells import depth
from rnn_jax.layers.recurrence import Carry

Merge: TypeAlias = Callable[[jax.Array, jax.Array], jax.Array]


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


def check_layers(layers: object) -> None:
    """Raises InputError unless the layers of a stack are a list or a tuple, and not empty."""
    if not isinstance(layers, Sequence):
        raise InputError(f"layers is a {type(layers).__name__}; give a list: Stacked([RNN(...), RNN(...)])")
    require(len(layers) > 0, "layers is empty; a stack needs at least one")


def check_encoder(argument: str, layer: object) -> None:
    """Raises InputError for a cell where a network needs a layer, which runs one over time."""
    name = type(layer).__name__
    require(
        not isinstance(layer, nn.RNNCellBase),
        f"{argument} is a {name}, one step of a recurrence; give RNN({name}(...)), which runs it over time",
    )


def equally_wide(name: str, merge: Merge) -> Merge:
    """Returns the merge of that name, of two directions of one width: JAX would repeat a single feature."""

    def merged(forward: jax.Array, backward: jax.Array) -> jax.Array:
        widths = forward.shape[-1], backward.shape[-1]
        require(
            widths[0] == widths[1],
            f"merge is {name!r}, but forward_rnn and backward_rnn have {widths[0]} and {widths[1]} features; "
            "give both as many, or merge 'concat'",
        )
        return merge(forward, backward)

    return merged


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
