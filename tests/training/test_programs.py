"""Compiled programs: found again where they are the same, and only there."""

import jax
import jax.numpy as jnp
import numpy as np

from rnn_jax.distributed.data_parallel import batch_mesh
from rnn_jax.training import programs
from rnn_jax.training.programs import Programs

MESH = batch_mesh(1)


def lowered(weights, x=None, tree=tuple):
    weights = np.array(weights, np.float32)
    return jax.jit(lambda x: tree((x * weights, x))).lower(jnp.ones(3) if x is None else x)


def test_equal_functions_share_a_program_and_unequal_ones_do_not():
    kept = Programs()
    first = kept.compile(lowered([1, 2, 3]), MESH)
    assert kept.compile(lowered([1, 2, 3]), MESH) is first
    others = [
        lowered([1, 2, 4]),  # another constant
        lowered([1, 2, 3], jnp.ones(1)),  # another shape
        lowered([1, 2, 3], tree=list),  # another tree
    ]
    found = [kept.compile(other, MESH) for other in others]
    assert len({id(program) for program in [first, *found]}) == kept.compiled == 4
    assert found[0](jnp.ones(3))[0].tolist() == [1, 2, 4]
    assert isinstance(found[2](jnp.ones(3)), list)


def test_a_constant_of_any_size_tells_programs_apart():
    kept = Programs()
    for last in (0, 1):
        weights = np.zeros(100_000)
        weights[-1] = last
        program = kept.compile(lowered(weights, jnp.ones(100_000)), MESH)
        assert float(program(jnp.ones(100_000))[0][-1]) == last


def test_the_program_that_was_not_used_for_longest_goes_first(monkeypatch):
    monkeypatch.setattr(programs, "MOST_KEPT", 2)
    kept = Programs()
    for number in (1, 2, 1, 3):  # 2 goes for 3
        kept.compile(lowered([number] * 3), MESH)
    assert kept.compiled == 3
    kept.compile(lowered([1] * 3), MESH)
    assert kept.compiled == 3
    kept.compile(lowered([2] * 3), MESH)
    assert kept.compiled == 4
