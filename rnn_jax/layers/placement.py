"""Arrays whose type says where they lie on a mesh: a loop's carry gets the type of what its steps read.

JAX types arrays so in two places. Inside `jax.shard_map` an array is one and the same on all devices of an
axis of the mesh, or varies over it. On a mesh with Explicit axes the type has the sharding. Elsewhere nothing
here adds an operation to the program.
"""

from collections.abc import Callable
from functools import partial
from typing import TypeVar

import jax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from rnn_jax.trees import Tree

Arrays = TypeVar("Arrays")


def varying_axes(array: jax.Array) -> frozenset[str]:
    """Returns the mesh axes of a surrounding `shard_map` that an array varies over."""
    kind = jax.typeof(array)
    axes: frozenset[str] = kind.vma if hasattr(kind, "vma") else kind.manual_axis_type.varying
    return axes


def vary_with(arrays: Arrays, *operands: Tree) -> Arrays:
    """Returns `arrays`, varying over every axis that one of them or of the operands varies over."""
    axes = frozenset().union(*map(varying_axes, jax.tree.leaves((arrays, operands))))

    def cast(leaf: jax.Array) -> jax.Array:
        missing = tuple(sorted(axes - varying_axes(leaf)))
        return jax.lax.pcast(leaf, missing, to="varying") if missing else leaf

    cast_all: Arrays = jax.tree.map(cast, arrays)
    return cast_all


def is_typed(array: jax.Array) -> bool:
    """Returns whether the type of an array has the sharding: its mesh has Explicit axes."""
    return AxisType.Explicit in jax.typeof(array).sharding.mesh.axis_types


def place_rows(arrays: Arrays, like: jax.Array) -> Arrays:
    """Returns arrays [B, ...] whose rows lie where those of `like` do, and are whole.

    On a mesh without Explicit axes they are returned as they are.
    """
    if not is_typed(like):
        return arrays
    sharding = jax.typeof(like).sharding

    def place(leaf: jax.Array) -> jax.Array:
        return _reshard(leaf, sharding.mesh, PartitionSpec(sharding.spec[0], *[None] * (leaf.ndim - 1)))

    placed: Arrays = jax.tree.map(place, arrays)
    return placed


def gather(array: jax.Array, like: jax.Array | None = None) -> jax.Array:
    """Returns an array, whole on every device of its mesh, or of that of `like`, if that has Explicit axes.

    Its gradient is split as the array was. So hidden units may be stored split, and are gathered for a call.
    """
    like = array if like is None else like
    if not is_typed(like):
        return array
    return _reshard(array, jax.typeof(like).sharding.mesh, PartitionSpec(*[None] * array.ndim))


def gather_all(weights: Arrays, like: jax.Array) -> Arrays:
    """Returns a tree of arrays, each whole on every device of the mesh of `like`."""
    gathered: Arrays = jax.tree.map(partial(gather, like=like), weights)
    return gathered


def _reshard(array: jax.Array, mesh: jax.sharding.AbstractMesh, spec: PartitionSpec) -> jax.Array:
    kind = jax.typeof(array).sharding
    same = kind.mesh == mesh and tuple(kind.spec) == tuple(spec)
    return array if same else jax.sharding.reshard(array, NamedSharding(mesh, spec))


def over_rows(
    run: Callable[..., tuple[Tree, jax.Array]], weights: Tree, x_TBE: jax.Array, of_rows: Tree, of_steps: Tree
) -> tuple[Tree, jax.Array]:
    """Returns `run(weights, x, of_rows, of_steps)`: arrays [B, ...] and an array [T, B, ...].

    Where the type of x splits its rows over Explicit axes, each device runs its own, and nothing is sent.

    Args:
      run: a function of rows that do not see each other.
      weights: arrays that all rows read.
      x_TBE: the inputs.
      of_rows: arrays [B, ...].
      of_steps: arrays [T, B, ...].
    """
    sharding = jax.typeof(x_TBE).sharding
    if not is_typed(x_TBE) or sharding.spec[1] is None:
        return run(weights, x_TBE, of_rows, of_steps)
    rows, steps = PartitionSpec(sharding.spec[1]), PartitionSpec(None, sharding.spec[1])
    axes = dict(zip(sharding.mesh.axis_names, sharding.mesh.axis_types, strict=True))
    split = jax.shard_map(
        run,
        mesh=sharding.mesh,
        in_specs=(PartitionSpec(), steps, rows, steps),
        out_specs=(rows, steps),
        axis_names={name for name, kind in axes.items() if kind == AxisType.Explicit},
    )
    result: tuple[Tree, jax.Array] = split(gather_all(weights, x_TBE), x_TBE, of_rows, of_steps)
    return result
