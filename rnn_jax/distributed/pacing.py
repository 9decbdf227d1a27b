"""A bound on the calls in flight, without which a loop over several CPU devices can hang.

XLA's CPU client lets 32 programs wait on each device. The next one is queued by a task that waits for a free
place, and this task holds a thread of the pool that also runs the programs. The pool has one thread for each
core, or for each device where there are more. So once 32 programs wait, these tasks can hold the threads that
a reduction needs to meet on all devices. Nothing moves then, and XLA ends the process after 40 seconds.
"""

import itertools
from collections.abc import Callable
from typing import Any, Protocol

import jax
from jax.sharding import Mesh

from rnn_jax.trees import Tree

# Up to seven programs between two calls, such as sums of metrics, are within the 32 as well.
MOST_AHEAD = 4
_CALLS = itertools.count(1)  # of all paced functions: they share the 32 places


class Jitted(Protocol):
    """A function that `jax.jit` made."""

    def __call__(self, *arguments: Tree) -> Tree:
        """Runs it, and compiles it where that was not done for these shapes."""

    def lower(self, *arguments: Tree) -> jax.stages.Lowered:
        """Returns it traced for arguments of these shapes, ready to be compiled."""


def paced(function: Jitted, mesh: Mesh) -> Jitted:
    """Returns the jitted function with at most 4 calls in flight: every fourth waits for its results.

    A function with a reduction over several CPU devices needs it, if a loop calls it and reads no results.
    `make_train_step` gives a paced step. With one device in this process, or on another platform, the result
    is `function` itself.

    Args:
      function: as `jax.jit` makes it. The values that it returns do not change.
      mesh: the devices that it runs on, as `batch_mesh` makes it.

    >>> import jax, jax.numpy as jnp
    >>> from rnn_jax.distributed import batch_mesh, paced, sum_over_batch
    >>> mesh = batch_mesh()
    >>> total = paced(jax.jit(sum_over_batch(lambda w, rows: ((w * rows).sum(), ()), mesh)), mesh)
    >>> [float(total(jnp.float32(n), jnp.ones(4))[0]) for n in range(3)]
    [0.0, 4.0, 8.0]
    """
    own = mesh.local_devices
    return _Paced(function) if len(own) > 1 and own[0].platform == "cpu" else function


class _Paced:
    """A jitted function, every fourth call of which waits; else it is as that function."""

    def __init__(self, function: Jitted):
        self._function = function

    def __call__(self, *arguments: Tree, **named: Tree) -> Tree:
        call: Callable[..., Tree] = self._function
        results = call(*arguments, **named)
        if next(_CALLS) % MOST_AHEAD == 0:
            jax.block_until_ready(results)
        return results

    def lower(self, *arguments: Tree, **named: Tree) -> jax.stages.Lowered:
        lower: Callable[..., jax.stages.Lowered] = self._function.lower
        return lower(*arguments, **named)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._function, name)
