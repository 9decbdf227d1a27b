"""Data parallelism: each device has all parameters and a part of the batch; gradients are added once."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jax.sharding import AxisType, Mesh, NamedSharding, Sharding
from jax.sharding import PartitionSpec as P

from rnn_jax.errors import require
from rnn_jax.layers.dropout import BATCH_AXIS
from rnn_jax.trees import Tree

PartFn = Callable[..., tuple[Tree, Tree]]  # sums, rows = function(*whole, batch)


def batch_mesh(devices: int = 0) -> Mesh:
    """Returns a mesh of one axis, over which a batch is split.

    Args:
      devices: how many of its devices each process gives, the first ones; 0 takes all.

    Raises:
      InputError: a process has fewer devices, or the processes have different numbers of them.

    >>> from rnn_jax.distributed import batch_mesh
    >>> batch_mesh(devices=1).size
    1
    """
    processes = [
        [device for device in jax.devices() if device.process_index == index]
        for index in range(jax.process_count())
    ]
    counts = sorted({len(own) for own in processes})
    require(
        0 <= devices <= counts[0],
        f"devices is {devices}, but JAX has {counts[0]} ({jax.devices()[0].platform}); give 0 for all. "
        "On a CPU their number is fixed when JAX starts: train_loop.py sets it, else set "
        f"XLA_FLAGS=--xla_force_host_platform_device_count={devices}",
    )
    require(
        len(counts) == 1,
        f"the processes have {counts} devices, but need equal numbers of them; set XLA_FLAGS or "
        "JAX_LOCAL_DEVICE_IDS so that they do",
    )
    chosen = [device for own in processes for device in own[: devices or None]]
    if len(processes) > 1:  # ordered by process, so that the rows of a process lie side by side
        return Mesh(np.array(chosen), (BATCH_AXIS,), (AxisType.Auto,))
    return jax.make_mesh((len(chosen),), (BATCH_AXIS,), (AxisType.Auto,), devices=chosen)


def on_every_device(tree: Tree, mesh: Mesh) -> Tree:
    """Returns the tree with a copy of each array on every device of the mesh.

    Args:
      tree: arrays of any shape, the same on all processes, such as parameters or a `TrainState`.
      mesh: as `batch_mesh` makes it.

    >>> import jax.numpy as jnp
    >>> from rnn_jax.distributed import batch_mesh, on_every_device
    >>> on_every_device({"w": jnp.ones(3)}, batch_mesh(1))["w"].is_fully_replicated
    True
    """
    return placed(tree, jax.tree.map(lambda _: NamedSharding(mesh, P()), tree))


def split_rows(tree: Tree, mesh: Mesh) -> Tree:
    """Returns the tree with the rows of each array split over the mesh, as the rows of a batch are."""
    return placed(tree, jax.tree.map(lambda _: NamedSharding(mesh, P(BATCH_AXIS)), tree))


def placed(tree: Tree, shardings: Tree) -> Tree:
    """Returns the tree with its arrays laid out as `shardings` says.

    Every process gives whole arrays, the same as the others give. Under `jax.eval_shape` there are no arrays
    yet, and the tree is returned as it is.
    """

    def place(leaf: Tree, sharding: Sharding | None) -> jax.Array:
        if isinstance(leaf, jax.core.Tracer):
            return leaf
        spread = isinstance(leaf, jax.Array) and not leaf.is_fully_addressable
        if sharding is None or sharding.is_fully_addressable or spread:
            return jax.device_put(leaf, sharding)
        whole = np.asarray(leaf)
        return jax.make_array_from_callback(whole.shape, sharding, lambda index: whole[index])

    return jax.tree.map(place, tree, shardings)


def own_rows(count: int) -> slice:
    """Returns which rows of a batch of `count` rows this process reads."""
    index, processes = jax.process_index(), jax.process_count()
    return slice(index * count // processes, (index + 1) * count // processes)


def joined_rows(batch: Tree, mesh: Mesh) -> Tree:
    """Returns the batch of all rows, split over the mesh; each process gives its own rows."""
    if jax.process_count() == 1:
        return batch
    sharding = NamedSharding(mesh, P(BATCH_AXIS))
    return jax.tree.map(lambda leaf: jax.make_array_from_process_local_data(sharding, leaf), batch)


def rows_here(array: jax.Array) -> np.ndarray:
    """Returns the rows that this process has of an array whose rows are split over a mesh."""
    if array.is_fully_addressable:
        return np.asarray(array)
    shards = sorted(array.addressable_shards, key=lambda shard: shard.index[0].start or 0)
    return np.concatenate([np.asarray(shard.data) for shard in shards])


def check_rows(argument: str, rows: int, mesh: Mesh) -> None:
    """Raises InputError unless the devices can share this number of rows equally."""
    processes = jax.process_count()
    whose = f"{mesh.size} devices{f' of {processes} processes' if processes > 1 else ''}"
    require(
        rows % mesh.size == 0,
        f"{argument} is {rows}, which {whose} cannot share equally; give a multiple of {mesh.size}, or set "
        "devices to 1",
    )


def sum_over_batch(function: PartFn, mesh: Mesh) -> PartFn:
    """Returns `sums, rows = function(*whole, batch)` computed on the parts of the batch.

    `function` returns sums over the rows that it gets. These are added up over all devices in one reduction.
    Its `rows`, such as a carry, stay on the device that has those rows of the batch. If the devices cannot
    share a batch equally, rows of zeros are added to it, which have weight 0 and length 0. All arrays of the
    batch have its rows as their first axis; what every device reads whole, such as a key, stands before it.

    A loop that calls it over several CPU devices without reading the results can hang. Jit the function that
    you call, and wrap it in `paced`: `step = paced(jax.jit(step), mesh)`. `make_train_step` does so.

    Raises:
      InputError: when the result is called, if there are `rows` and the devices cannot share them equally; if
        the batch holds a value without rows; or if several devices share arrays of different numbers of rows.

    >>> import jax.numpy as jnp
    >>> from rnn_jax.distributed import batch_mesh, sum_over_batch
    >>> def loss(w, rows):
    ...     return (w * rows).sum(), ()  # no results by row
    >>> total, _ = sum_over_batch(loss, batch_mesh())(jnp.float32(2), jnp.ones(4))
    >>> float(total)
    8.0
    """

    def on_one_device(whole, batch):
        sums, rows = function(*whole, batch)
        flat, restore = ravel_pytree(sums)
        return restore(jax.lax.psum(flat, BATCH_AXIS)), rows

    return _split(on_one_device, mesh, P())


def measure_parts(function: PartFn, mesh: Mesh) -> PartFn:
    """Returns `sums, rows = function(*whole, batch)` with the sums of each part, [devices, ...].

    It makes no reduction over the devices. Everything else is as in `sum_over_batch`.
    """

    def on_one_device(whole, batch):
        sums, rows = function(*whole, batch)
        return jax.tree.map(lambda leaf: leaf[None], sums), rows

    return _split(on_one_device, mesh, P(BATCH_AXIS))


def _split(on_one_device: PartFn, mesh: Mesh, sums: P) -> PartFn:
    split = jax.shard_map(
        on_one_device,
        mesh=mesh,
        in_specs=(P(), P(BATCH_AXIS)),
        out_specs=(sums, P(BATCH_AXIS)),
        check_vma=False,
    )

    def on_all_devices(*arguments):
        *whole, batch = arguments
        _check_batch(batch, mesh)
        found = split(tuple(whole), jax.tree.map(lambda leaf: pad_rows(leaf, mesh.size), batch))
        if jax.tree.leaves(found[1]):
            for leaf in jax.tree.leaves(batch):
                check_rows("the number of rows", len(leaf), mesh)
        return found

    return on_all_devices


def _check_batch(batch: Tree, mesh: Mesh) -> None:
    """Raises InputError unless the rows of a batch can be split."""
    shapes: list[tuple[int, ...]] = [getattr(leaf, "shape", ()) for leaf in jax.tree.leaves(batch)]
    require(
        all(shapes),
        "the batch holds a value without rows, such as a number or a key; give arrays [rows, ...], and what "
        "every device reads whole before the batch",
    )
    counts = sorted({shape[0] for shape in shapes})
    require(
        len(counts) < 2 or mesh.size == 1,
        f"the batch has arrays of {counts} rows, whose parts on {mesh.size} devices would not belong "
        "together; give all of them the same number",
    )


def pad_rows(array: jax.Array, multiple: int) -> jax.Array:
    """Returns the array with rows of zeros added up to a multiple of `multiple` rows."""
    return jnp.pad(array, [(0, -len(array) % multiple), *[(0, 0)] * (array.ndim - 1)])
