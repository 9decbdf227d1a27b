"""How many calls of a paced function may be in flight, and that nothing else about it changes."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest

from rnn_jax.distributed import batch_mesh, paced
from rnn_jax.distributed.pacing import MOST_AHEAD, _Paced

XLA_LIMIT = 32  # programs that wait on a device; the next one holds a thread


class Queue:
    """Results that are ready only when one waits for them, or for a later one."""

    def __init__(self):
        self.waiting, self.most = [], 0

    def __call__(self, *arguments, **named):
        result = SimpleNamespace(arguments=arguments, named=named)
        result.block_until_ready = lambda: self.waiting.__delitem__(slice(0, self.waiting.index(result) + 1))
        self.waiting.append(result)
        self.most = max(self.most, len(self.waiting))
        return {"metrics": result}


def mesh_of(platform, count):
    return SimpleNamespace(local_devices=[SimpleNamespace(platform=platform)] * count)


def test_few_calls_are_in_flight_however_long_the_loop():
    queue = Queue()
    step = paced(queue, mesh_of("cpu", 2))
    for _ in range(10 * XLA_LIMIT):
        step()
    assert queue.most == MOST_AHEAD
    assert MOST_AHEAD * 8 <= XLA_LIMIT  # a loop has room for seven programs of its own between two calls


def test_functions_that_take_turns_share_the_bound():
    """A training step and a step of an adversary, say: each by itself would have its own four."""
    queue = Queue()
    steps = [paced(queue, mesh_of("cpu", 4)) for _ in range(7)]
    for _ in range(XLA_LIMIT):
        for step in steps:
            step()
    assert queue.most == MOST_AHEAD


def test_arguments_and_results_pass_unchanged():
    result = paced(Queue(), mesh_of("cpu", 2))(1, key=2)["metrics"]
    assert (result.arguments, result.named) == ((1,), {"key": 2})


@pytest.mark.parametrize("mesh", [mesh_of("cpu", 1), mesh_of("gpu", 8), batch_mesh(1)])
def test_one_device_and_other_platforms_keep_the_function_itself(mesh):
    function = jax.jit(jnp.sin)
    assert paced(function, mesh) is function


def test_a_paced_function_is_else_like_the_jitted_one():
    """It can be lowered, shaped and used in other functions, whichever call of the process it is."""
    sine = _Paced(jax.jit(jnp.sin))
    assert sine.lower(1.0).compile()(1.0) == jnp.sin(1.0)
    assert sine.eval_shape(1.0).shape == ()
    for _ in range(MOST_AHEAD):
        assert jax.grad(sine)(0.0) == 1.0
        assert jax.jit(jax.vmap(sine))(jnp.zeros(2)).shape == (2,)
