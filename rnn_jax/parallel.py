"""Data parallelism: parameters are on every device, a batch is split over them, gradients are added once."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from rnn_jax.dropout import BATCH_AXIS
from rnn_jax.errors import require


def batch_mesh(devices: int = 0) -> Mesh:
    """Returns a mesh of the first `devices` of JAX's devices; 0 takes all.

    Raises:
      InputError: JAX has fewer.
    """
    available = jax.devices()
    require(
        0 <= devices <= len(available),
        f"devices is {devices}, but JAX has {len(available)} ({available[0].platform}); give 0 for all. "
        "On a CPU their number is fixed when JAX starts: train_loop.py sets it, else set "
        f"XLA_FLAGS=--xla_force_host_platform_device_count={devices}",
    )
    chosen = available[: devices or len(available)]
    return jax.make_mesh((len(chosen),), (BATCH_AXIS,), (AxisType.Auto,), devices=chosen)


def on_every_device(tree: Any, mesh: Mesh) -> Any:
    """Returns the tree with a copy of each array on every device of the mesh."""
    return jax.device_put(tree, NamedSharding(mesh, P()))


def split_rows(tree: Any, mesh: Mesh) -> Any:
    """Returns the tree with the rows of each array split over the mesh, as those of a batch are."""
    return jax.device_put(tree, NamedSharding(mesh, P(BATCH_AXIS)))


def check_rows(argument: str, rows: int, mesh: Mesh) -> None:
    """Raises InputError unless the devices can share so many rows equally."""
    require(
        rows % mesh.size == 0,
        f"{argument} is {rows}, which {mesh.size} devices cannot share equally; give a multiple of "
        f"{mesh.size}, or set devices to 1",
    )


def sum_over_batch(function: Callable[..., Any], mesh: Mesh) -> Callable[..., Any]:
    """Returns `function(*whole, batch)` computed on the parts of the batch and added up, in one reduction.

    `function` returns sums over the rows it is given. A batch that the devices cannot share equally gets rows
    of zeros: weight 0, length 0.

    Calls that do not depend on each other must not be in flight together: XLA's CPU client has a thread for
    each core, and two reductions that each wait for the other's would wait for ever. Train steps do depend
    on each other. For what does not, use `part_by_part`.
    """

    def on_one_device(whole, batch):
        flat, restore = ravel_pytree(function(*whole, batch))
        return restore(jax.lax.psum(flat, BATCH_AXIS))

    return _split(on_one_device, mesh, P())


def sum_and_rows(function: Callable[..., Any], mesh: Mesh) -> Callable[..., Any]:
    """Returns `sums, rows = function(*whole, batch)` computed on the parts of the batch.

    The sums are added up, in one reduction, as those of `sum_over_batch`; the rows stay on the devices that
    have those rows of the batch. No row is added: what comes back has the rows that went in.

    Raises:
      InputError: the devices cannot share the rows equally.
    """

    def on_one_device(whole, batch):
        sums, rows = function(*whole, batch)
        flat, restore = ravel_pytree(sums)
        return restore(jax.lax.psum(flat, BATCH_AXIS)), rows

    split = _split(on_one_device, mesh, (P(), P(BATCH_AXIS)))

    def on_all_devices(*arguments):
        for leaf in jax.tree.leaves(arguments[-1]):
            check_rows("the number of rows", len(leaf), mesh)
        return split(*arguments)

    return on_all_devices


def part_by_part(function: Callable[..., Any], mesh: Mesh) -> Callable[..., Any]:
    """Returns `function(*whole, batch)` for each part of the batch, [devices, ...], and reduces nothing."""

    def on_one_device(whole, batch):
        return jax.tree.map(lambda leaf: leaf[None], function(*whole, batch))

    return _split(on_one_device, mesh, P(BATCH_AXIS))


def _split(on_one_device: Callable[..., Any], mesh: Mesh, out_specs: Any) -> Callable[..., Any]:
    split = jax.shard_map(
        on_one_device, mesh=mesh, in_specs=(P(), P(BATCH_AXIS)), out_specs=out_specs, check_vma=False
    )

    def on_all_devices(*arguments):
        *whole, batch = arguments
        return split(tuple(whole), jax.tree.map(lambda leaf: pad_rows(leaf, mesh.size), batch))

    return on_all_devices


def pad_rows(array: jax.Array, multiple: int) -> jax.Array:
    """Returns the array with rows of zeros added up to a multiple of `multiple` rows."""
    return jnp.pad(array, [(0, -len(array) % multiple), *[(0, 0)] * (array.ndim - 1)])
