"""Which backend runs a layer: what is asked for, what applies, and the rule of "auto"."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import flax.linen as nn
import jax
from jax.custom_derivatives import SymbolicZero

from rnn_jax.errors import choose, require
from rnn_jax.layers.cells import why_scanned
from rnn_jax.layers.fused import run_fused
from rnn_jax.layers.linear import LinearCell, is_linear, run_linear, why_not_linear
from rnn_jax.layers.native import run_native, why_not_native
from rnn_jax.layers.persistent import run_persistent, why_not_persistent
from rnn_jax.layers.recurrence import Carry, FusedStep, hidden_state
from rnn_jax.layers.scanned import PLAIN, Lifting
from rnn_jax.trees import Tree

Run: TypeAlias = Callable[..., tuple[Carry, jax.Array]]  # called as rnn_jax.layers.fused.run_fused is
Step: TypeAlias = FusedStep | LinearCell
MANY = 2**20  # a size that is a symbol of `jax.export`


class Work(NamedTuple):
    """What the rule of "auto" looks at.

    Attributes:
      rows, steps, units: the sizes B, T and H.
      gradients: whether the layer is differentiated; False where its values alone are wanted.
    """

    rows: int
    steps: int
    units: int
    gradients: bool


class Backend(NamedTuple):
    """One way to run a layer.

    Attributes:
      run: runs it; None for the scan, which needs the cell as a module: `rnn_jax.layers.scanned.run_scanned`.
      why_not: (step, weights, x, carry) -> why it cannot run these here, or "". A step is a FusedStep, or a
        LinearCell.
      suits: work -> whether "auto" takes it where it can run.
    """

    run: Run | None
    why_not: Callable[[Step, Tree, jax.Array, Carry], str]
    suits: Callable[[Work], bool]


def suits_native(work: Work) -> bool:
    """Returns whether the kernels earn what a call of them costs: each arranges the weights anew.

    They compute 8 rows at a time. With fewer they are the faster only in narrow layers,
    over many steps; a single row is shared among no threads, and wins over a few steps too.
    """
    if work.rows < 8:
        widest = 256 if work.gradients or work.rows < 4 else 64
        alone = work.rows == 1 and work.units <= 32 and not work.gradients
        return work.steps >= (8 if alone else 64) and work.units <= widest
    least = max(512 if work.gradients else 256, 0.75 * work.units)
    return work.steps > 1 and work.rows * work.steps >= least


def why_not_fused(step: Step, *layer: Tree) -> str:
    """Returns why the fused backend cannot run a step, or "" where it can."""
    return "" if isinstance(step, FusedStep) else "it runs cells with a fused_step"


# "auto" takes the first that can run the layer and suits the work. The rule is measured, and a test holds it
# to what was measured: `python -m benchmarks.machine`, docs/backends.json. One step has nothing to fuse.
BACKENDS = {
    "native": Backend(run_native, why_not_native, suits_native),
    # Never chosen: it has not run on a GPU yet (docs/performance.md).
    "persistent": Backend(run_persistent, why_not_persistent, lambda work: False),
    "fused": Backend(run_fused, why_not_fused, lambda work: work.steps > 1),
    "linear": Backend(run_linear, why_not_linear, lambda work: work.steps > 1),
    "scan": Backend(None, lambda *layer: "", lambda work: True),
}


def fastest(able: Sequence[str], work: Work) -> str:
    """Returns the backend that "auto" takes, of those that can run a layer; the last where none suits.

    >>> fastest(["native", "fused", "scan"], Work(rows=32, steps=100, units=128, gradients=True))
    'native'
    >>> fastest(["fused", "scan"], Work(rows=32, steps=100, units=128, gradients=True))
    'fused'
    """
    return next((name for name in able if BACKENDS[name].suits(work)), able[-1])


def is_scanned(backend: str, cell: nn.RNNCellBase, lifting: Lifting, remat: bool | None, steps: int) -> bool:
    """Returns whether `nn.scan` runs a layer of so many steps, and no backend that `runner` gives.

    Raises:
      InputError: an unknown backend, one that does not take the cell, or `remat` where the layer is scanned.
    """
    choose("backend", backend, dict.fromkeys(["auto", *BACKENDS]))
    reason = "" if is_linear(cell) else why_scanned(cell)
    if not reason and lifting != PLAIN:
        reason = "variable_axes, variable_broadcast, variable_carry and split_rngs are arguments of a scan"
    require(
        not reason or backend in ("auto", "scan"),
        f'backend is "{backend}", but {reason}; use backend "auto" or "scan"',
    )
    scanned = bool(reason) or backend == "scan"
    require(
        remat is None or not (scanned or is_linear(cell)),
        f"remat is {remat}, but only the native, persistent and fused backends have it; this layer is "
        + ("scanned" if scanned else "linear")
        + (f": {reason}" if reason else ""),
    )
    work = Work(MANY, known(steps), MANY, gradients=False)
    return scanned or (backend == "auto" and remat is None and fastest(list(BACKENDS), work) == "scan")


def runner(backend: str, step: Step, weights: Tree, x_TBE: jax.Array, carry: Carry) -> Run:
    """Returns what runs a layer that is not scanned.

    Raises:
      InputError: the backend that is asked for cannot run this layer here.
    """
    runs = {name: each.run for name, each in BACKENDS.items() if each.run}
    layer = step, weights, x_TBE, carry
    if backend != "auto":
        reason = BACKENDS[backend].why_not(*layer)
        require(not reason, f'backend is "{backend}", but {reason}; use backend "auto"')
        return runs[backend]
    able = [name for name in runs if not BACKENDS[name].why_not(*layer)]
    (steps, rows, _), units = map(known, x_TBE.shape), hidden_state(carry).shape[-1]
    values, gradients = (fastest(able, Work(rows, steps, units, taken)) for taken in (False, True))
    return runs[values] if values == gradients else either(runs[values], runs[gradients])


def known(size: Any) -> int:
    """Returns a size, or MANY for a symbol."""
    return size if isinstance(size, int) else MANY


def either(values: Run, gradients: Run) -> Run:
    """Returns what runs a layer by `values`, and by `gradients` where JAX differentiates it."""

    def run(cell: Step, *arrays_and_options: Any) -> tuple[Carry, jax.Array]:
        *of_layer, reverse, remat = arrays_and_options

        @jax.custom_jvp
        def apply(*arrays: Tree) -> tuple[Carry, jax.Array]:
            return values(cell, *arrays, reverse, remat)

        @partial(apply.defjvp, symbolic_zeros=True)
        def apply_jvp(arrays: Tree, tangents: Tree) -> tuple[Tree, Tree]:
            leaves, tree = jax.tree.flatten(arrays)
            changes = jax.tree.leaves(tangents)
            moving = [at for at, change in enumerate(changes) if not isinstance(change, SymbolicZero)]

            def of_moving(*moved: jax.Array) -> tuple[Carry, jax.Array]:
                every = leaves.copy()
                for at, leaf in zip(moving, moved, strict=True):
                    every[at] = leaf
                return gradients(cell, *jax.tree.unflatten(tree, every), reverse, remat)

            return jax.jvp(of_moving, [leaves[at] for at in moving], [changes[at] for at in moving])

        result: tuple[Carry, jax.Array] = apply(*of_layer)
        return result

    return run
