"""Which backend runs a layer: what is asked for, what applies, and the rule of "auto"."""

from collections.abc import Callable

import flax.linen as nn
import jax

from rnn_jax.errors import choose, require
from rnn_jax.layers.cells import why_scanned
from rnn_jax.layers.fused import run_fused
from rnn_jax.layers.native import run_native, why_not_native
from rnn_jax.layers.persistent import run_persistent, why_not_persistent
from rnn_jax.layers.recurrence import Carry, FusedStep, Weights
from rnn_jax.layers.scanned import PLAIN, Lifting

BACKENDS = {
    "auto": "the fastest that applies",
    "native": "three of our cells, on a CPU",
    "persistent": "three of our cells, on an NVIDIA GPU; never chosen by auto",
    "fused": "our cells",
    "scan": "any cell",
}


def is_scanned(backend: str, cell: nn.RNNCellBase, lifting: Lifting, remat: bool | None) -> bool:
    """Returns whether `nn.scan` runs a layer, and neither the native nor the fused backend.

    Raises:
      InputError: an unknown backend, one that does not take the cell, or `remat` where the layer is scanned.
    """
    choose("backend", backend, BACKENDS)
    reason = why_scanned(cell)
    if not reason and lifting != PLAIN:
        reason = "variable_axes, variable_broadcast, variable_carry and split_rngs are arguments of a scan"
    require(
        not reason or backend in ("auto", "scan"),
        f'backend is "{backend}", but {reason}; use backend "auto" or "scan"',
    )
    scanned = bool(reason) or backend == "scan"
    require(
        remat is None or not scanned,
        f"remat is {remat}, but only the native, persistent and fused backends have it; this layer is scanned"
        + (f": {reason}" if reason else ""),
    )
    return scanned


def runner(
    backend: str, step: FusedStep | None, weights: Weights, x: jax.Array, carry: Carry
) -> Callable[..., tuple[Carry, jax.Array]]:
    """Returns what runs a layer that is not scanned: the native backend where it can, else the fused one.

    Raises:
      InputError: backend is "native" or "persistent", and it cannot run this layer here.
    """
    if backend == "persistent":
        reason = why_not_persistent(step, weights, x, carry)
        require(not reason, f'backend is "persistent", but {reason}; use backend "auto"')
        return run_persistent
    reason = "" if backend == "fused" else why_not_native(step, weights, x, carry)
    require(not reason or backend != "native", f'backend is "native", but {reason}; use backend "auto"')
    return run_fused if reason or backend == "fused" else run_native
