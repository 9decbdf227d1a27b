"""Compiled steps: one for each shape of batch, and found again by the next run of this process.

Runs on parts of one data set, such as the folds of a cross-validation, have the same steps. What a step
depends on is many things: the network, the loss, the optimiser and its schedule, the weights of the classes.
So a step is not looked up by a list of these, which would go out of date, but by its lowered program.
"""

import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable

import jax
from jax.sharding import Mesh

from rnn_jax.distributed.data_parallel import joined_rows
from rnn_jax.distributed.pacing import Jitted
from rnn_jax.trees import Tree

MOST_KEPT = 64  # programs; the one that was not used for the longest time goes first


class Programs:
    """Compiled programs by their text. `compiled` counts those that had to be compiled.

    >>> import jax.numpy as jnp
    >>> from rnn_jax.distributed import batch_mesh
    >>> programs, mesh = Programs(), batch_mesh(1)
    >>> for scale in (2, 2, 3):  # three functions, two of which do the same
    ...     lowered = jax.jit(lambda x, scale=scale: x * scale).lower(jnp.ones(4))
    ...     program = programs.compile(lowered, mesh)
    >>> programs.compiled, program(jnp.ones(4)).tolist()
    (2, [3.0, 3.0, 3.0, 3.0])
    """

    def __init__(self) -> None:
        self.compiled = 0
        self._kept: OrderedDict[Hashable, Callable[..., Tree]] = OrderedDict()
        self._lock = threading.Lock()

    def compile(self, lowered: jax.stages.Lowered, mesh: Mesh) -> Callable[..., Tree]:
        """Returns the executable of a lowered function for the devices of `mesh`."""
        key = _key(lowered, mesh)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        program = lowered.compile()
        with self._lock:
            self.compiled += 1
            self._kept[key] = program
            while len(self._kept) > MOST_KEPT:
                self._kept.popitem(last=False)
        return program


PROGRAMS = Programs()


def _key(lowered: jax.stages.Lowered, mesh: Mesh) -> Hashable:
    """Returns what tells programs apart: their text, the trees that go in and out, and the devices.

    The text has the arrays that a function closes over, unless JAX is told to pass them as arguments; then
    no two programs count as equal.
    """
    if jax.config.values.get("jax_use_simplified_jaxpr_constants"):
        return object()
    text = hashlib.sha256(lowered.as_text().encode()).digest()
    devices = tuple((device.platform, device.id) for device in mesh.devices.flat)
    return text, lowered.in_tree, lowered.out_tree, str(lowered.in_avals), devices


class CompiledByShape:
    """A jitted function of (state, batch, ...) compiled ahead, once for each [B, T] of the batch, and timed.

    A batch has the rows of this process, and the function gets those of all. `seconds` maps the shapes of
    whole batches to the time that tracing and compiling took.
    """

    def __init__(self, function: Jitted, mesh: Mesh):
        self.function, self.mesh = function, mesh
        self.executables: dict[tuple[int, ...], Callable[..., Tree]] = {}
        self.seconds: dict[tuple[int, ...], float] = {}

    def __call__(self, state: Tree, batch: Tree, *rest: Tree) -> Tree:
        batch = joined_rows(batch, self.mesh)
        return self._executable(state, batch, *rest)(state, batch, *rest)

    def compile(self, state: Tree, batch: Tree, *rest: Tree) -> None:
        """Compiles the function for the batch's shape."""
        self._executable(state, joined_rows(batch, self.mesh), *rest)

    def _executable(self, state: Tree, batch: Tree, *rest: Tree) -> Callable[..., Tree]:
        shape = batch.token_ids.shape
        if shape not in self.executables:
            began = time.perf_counter()
            self.executables[shape] = PROGRAMS.compile(self.function.lower(state, batch, *rest), self.mesh)
            self.seconds[shape] = time.perf_counter() - began
        return self.executables[shape]
