"""Decisions and data that all processes share: process 0 decides or reads, and the others receive it.

If there is one process, these functions do their work without any communication. Long waits go through
JAX's coordination service, because a reduction would keep a device waiting.
"""

import itertools
import json
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import numpy as np
from jax._src.distributed import global_state  # the coordination service's client, which JAX does not export
from jax.experimental import multihost_utils

from rnn_jax.errors import InputError, require
from rnn_jax.progress import tell

Value = TypeVar("Value")
Note = TypeVar("Note")  # a JSON value
ArrayTree = TypeVar("ArrayTree")  # a tree of arrays
DAYS = 7 * 86_400_000  # milliseconds; a watch ends processes that wait for a lost one much earlier
_numbers = itertools.count()  # the same on all processes, which come to each agreement in the same order


def _client() -> Any:
    return global_state.client


def leads() -> bool:
    """Returns whether this is process 0, which decides and writes."""
    return jax.process_index() == 0


def say(message: str) -> None:
    """Prints a line, on process 0 alone."""
    if leads():
        tell(message)


def on_process_zero(function: Callable[[], Value]) -> Value:
    """Runs `function` on process 0 alone, and returns its result, a JSON value, on every process.

    Raises:
      InputError, OSError: on every process, if `function` raises one. Other errors are raised on process 0
        alone.
    """
    return function() if jax.process_count() == 1 else _told(function, lambda value: value)[1]


def in_turn(function: Callable[[], Value]) -> Value:
    """Runs `function` on process 0 first and then on the others; each process returns its own result.

    So processes that share a disk find the caches that process 0 has written.
    """
    if jax.process_count() == 1:
        return function()
    value, _ = _told(function, lambda value: None)
    return value if leads() else function()


def broadcast_arrays(
    read: Callable[[], tuple[ArrayTree, Note]], like: Callable[[Note], ArrayTree]
) -> tuple[ArrayTree, Note]:
    """Runs `read` on process 0 alone, and returns its arrays and its JSON value on every process.

    The other processes call `like` with that value; it returns arrays of the same structure, shapes and
    types. If there are several processes, the result has numpy arrays with the same bits.

    Raises:
      InputError, OSError: on every process, if `read` raises one.
    """
    if jax.process_count() == 1:
        return read()
    found, note = _told(read, lambda found: found[1])
    leaves, structure = jax.tree.flatten(found[0] if leads() else like(note))
    if not leaves:  # nothing was read, on any process
        return jax.tree.unflatten(structure, []), note
    arrays = [np.asarray(leaf) for leaf in leaves]
    on_process_zero(lambda: None)  # so that the wait for process 0 is here, and not in the reduction
    sent = np.frombuffer(b"".join(array.tobytes() for array in arrays), np.uint8)
    shared = multihost_utils.broadcast_one_to_all(sent)
    parts = np.split(shared, np.cumsum([array.nbytes for array in arrays])[:-1])
    received = [
        np.frombuffer(part.tobytes(), array.dtype).reshape(array.shape)
        for part, array in zip(parts, arrays, strict=True)
    ]
    return jax.tree.unflatten(structure, received), note


def _told(function: Callable[[], Value], tell: Callable[[Value], Note]) -> tuple[Value, Note]:
    """Returns the result of `function`, None on other processes than 0, and on all of them `tell` of it."""
    key, client = f"rnn_jax/told/{next(_numbers)}", _client()
    if not leads():
        answer = json.loads(client.blocking_key_value_get(key, DAYS))
        if "error" in answer:
            raise (InputError if answer["input"] else OSError)(answer["error"])
        return None, answer["value"]  # type: ignore[return-value]  # the value is process 0's
    try:
        value = function()
    except (InputError, OSError) as error:
        answer = {"error": str(error), "input": isinstance(error, InputError)}
        client.key_value_set(key, json.dumps(answer))
        raise
    note = tell(value)
    client.key_value_set(key, json.dumps({"value": note}))
    return value, note


def require_same(what: str, value: Callable[[], str]) -> None:
    """Raises InputError, on every process, unless the value is the same on all of them."""
    if jax.process_count() == 1:
        return
    folder, client = f"rnn_jax/same/{next(_numbers)}", _client()
    client.key_value_set(f"{folder}/{jax.process_index()}", value())
    client.wait_at_barrier(folder, DAYS)

    def check() -> None:
        found = {int(key.rpartition("/")[2]): value for key, value in client.key_value_dir_get(folder)}
        others = sorted(index for index, value in found.items() if value != found[0])
        require(
            not others, f"{what} of process {others} is not that of process 0; give the same to all processes"
        )

    on_process_zero(check)


def added(tree: ArrayTree) -> ArrayTree:
    """Returns the tree with each float64 array summed over all processes."""
    if jax.process_count() == 1:
        return tree
    leaves, structure = jax.tree.flatten(tree)
    flat = np.concatenate([np.asarray(leaf, np.float64).reshape(-1) for leaf in leaves])
    total = multihost_utils.process_allgather(flat.view(np.uint8)).view(np.float64).sum(axis=0)
    parts = np.split(total, np.cumsum([np.size(leaf) for leaf in leaves])[:-1])
    found = [part.reshape(np.shape(leaf)) for part, leaf in zip(parts, leaves, strict=True)]
    return jax.tree.unflatten(structure, found)


def gathered(tree: ArrayTree) -> ArrayTree:
    """Returns the tree with the rows of each numpy array of all processes, which give equal shapes."""
    if jax.process_count() == 1:
        return tree
    return jax.tree.map(lambda leaf: multihost_utils.process_allgather(leaf, tiled=True), tree)


def on_host(tree: ArrayTree) -> ArrayTree:
    """Returns the tree with numpy copies of arrays that are split over processes; all have to call it."""

    def whole(leaf):
        split = isinstance(leaf, jax.Array) and not (leaf.is_fully_addressable or leaf.is_fully_replicated)
        return multihost_utils.process_allgather(leaf, tiled=True) if split else leaf

    return jax.tree.map(whole, tree)
