"""What several processes decide and have in common: process 0 decides, and what it has is given to all.

With one process each of these is what it says at once. Long waits go through JAX's coordination service, not
through a reduction, for which a device would have to wait.
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

Value = TypeVar("Value")
Note = TypeVar("Note")  # a JSON value
ArrayTree = TypeVar("ArrayTree")  # a tree of arrays
DAYS = 7 * 86_400_000  # milliseconds; who waits for a process that was lost is ended before
_numbers = itertools.count()  # the same on all processes, which come to each agreement in the same order


def _client() -> Any:
    return global_state.client


def leads() -> bool:
    """Returns whether this process is the one that decides and writes."""
    return jax.process_index() == 0


def say(message: str) -> None:
    """Prints a line, on process 0 alone."""
    if leads():
        print(message, flush=True)


def on_process_zero(function: Callable[[], Value]) -> Value:
    """Returns, on every process, what `function` returns on process 0, where alone it runs: a JSON value.

    Raises:
      InputError, OSError: on every process, where it raises one; all else is raised on process 0 alone.
    """
    return function() if jax.process_count() == 1 else _told(function, lambda value: value)[1]


def in_turn(function: Callable[[], Value]) -> Value:
    """Returns what `function` returns here: it runs on process 0, and when that is done on the others.

    So those that share a disk find the caches that process 0 has written.
    """
    if jax.process_count() == 1:
        return function()
    value, _ = _told(function, lambda value: None)
    return value if leads() else function()


def broadcast_arrays(
    read: Callable[[], tuple[ArrayTree, Note]], like: Callable[[Note], ArrayTree]
) -> tuple[ArrayTree, Note]:
    """Returns, on every process, the arrays and the JSON value that `read` returns on process 0 alone.

    `like` gives, of that value, arrays of the same structure, shapes and types; the other processes receive
    into them. With several processes numpy arrays come back, to the bit.

    Raises:
      InputError, OSError: on every process, where `read` raises one.
    """
    if jax.process_count() == 1:
        return read()
    found, note = _told(read, lambda found: found[1])
    leaves, structure = jax.tree.flatten(found[0] if leads() else like(note))
    if not leaves:  # nothing was read, on any process
        return jax.tree.unflatten(structure, []), note
    arrays = [np.asarray(leaf) for leaf in leaves]
    on_process_zero(lambda: None)  # wait here for process 0, and not in the reduction
    sent = np.frombuffer(b"".join(array.tobytes() for array in arrays), np.uint8)
    shared = multihost_utils.broadcast_one_to_all(sent)
    parts = np.split(shared, np.cumsum([array.nbytes for array in arrays])[:-1])
    received = [
        np.frombuffer(part.tobytes(), array.dtype).reshape(array.shape)
        for part, array in zip(parts, arrays, strict=True)
    ]
    return jax.tree.unflatten(structure, received), note


def _told(function: Callable[[], Value], tell: Callable[[Value], Note]) -> tuple[Value, Note]:
    """Returns what `function` returned on process 0, elsewhere None, and on all what `tell` makes of it."""
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
    """Returns the sums over all processes of float64 arrays."""
    if jax.process_count() == 1:
        return tree
    leaves, structure = jax.tree.flatten(tree)
    flat = np.concatenate([np.asarray(leaf, np.float64).reshape(-1) for leaf in leaves])
    total = multihost_utils.process_allgather(flat.view(np.uint8)).view(np.float64).sum(axis=0)
    parts = np.split(total, np.cumsum([np.size(leaf) for leaf in leaves])[:-1])
    found = [part.reshape(np.shape(leaf)) for part, leaf in zip(parts, leaves, strict=True)]
    return jax.tree.unflatten(structure, found)


def on_host(tree: ArrayTree) -> ArrayTree:
    """Returns the tree with numpy copies of what is split over processes; all of them have to call it."""

    def whole(leaf):
        split = isinstance(leaf, jax.Array) and not (leaf.is_fully_addressable or leaf.is_fully_replicated)
        return multihost_utils.process_allgather(leaf, tiled=True) if split else leaf

    return jax.tree.map(whole, tree)
