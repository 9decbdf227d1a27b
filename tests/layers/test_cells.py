"""Each cell against its equations in numpy, against finite differences, and against Flax's cells."""

from functools import cache

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from rnn_jax import GRUCell, LSTMCarry, LSTMCell, SimpleCell
from tests.helpers import oracle
from tests.helpers.cases import EVERY_CELL
from tests.helpers.oracle import assert_trees_close, random_like

BATCH, SIZE, UNITS = 3, 5, 4
CELLS = {
    "simple": (SimpleCell(UNITS), oracle.simple),
    "gru": (GRUCell(UNITS), oracle.gru),
    "lstm": (LSTMCell(UNITS), oracle.lstm),
    "norm_lstm": (LSTMCell(UNITS, layer_norm=True), oracle.norm_lstm),
}
FLAX_TWINS = {
    "simple": (SimpleCell, nn.SimpleCell),
    "gru": (GRUCell, nn.GRUCell),
    "lstm": (LSTMCell, nn.LSTMCell),
    "optimized_lstm": (LSTMCell, nn.OptimizedLSTMCell),
}


@cache
def step_of(cell):
    """Returns the cell's step as a compiled function of (params, carry, x)."""
    return jax.jit(lambda params, carry, x: cell.apply({"params": params}, carry, x))


every_cell = pytest.mark.parametrize("name", CELLS)
every_twin = pytest.mark.parametrize("name", FLAX_TWINS)


def a_case(cell, seed=0):
    """Returns (params, carry, x), all random."""
    x = np.random.default_rng(seed).normal(size=(BATCH, SIZE)).astype(np.float32)
    carry = cell.initialize_carry(jax.random.key(0), x.shape)
    params = jax.eval_shape(cell.init, jax.random.key(1), carry, x)["params"]
    return random_like(params, seed + 1), random_like(carry, seed + 2), x


@every_cell
def test_a_step_is_the_equations(name):
    cell, step = CELLS[name]
    params, carry, x = a_case(cell)
    new_carry, output = step_of(cell)(params, carry, x)
    initial = jax.tree.leaves(carry)
    expected, outputs = oracle.over_time(step, params, x[:, None], [1] * BATCH, initial)
    assert_trees_close(new_carry, expected)
    assert_trees_close(output, outputs[:, 0])


@pytest.mark.slow
@every_cell
def test_gradients_are_finite_differences(name):
    with jax.enable_x64(True):
        cell, _ = CELLS[name]
        case = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), a_case(cell))
        check_grads(
            step_of(cell),
            case,
            order=1,
            modes=["fwd", "rev"],
            rtol=1e-6,
            atol=1e-6,
        )


@every_twin
def test_parameters_have_the_names_and_shapes_of_flax(name):
    ours, twin = (cell(UNITS) for cell in FLAX_TWINS[name])
    _, carry, x = a_case(ours)
    trees = [jax.eval_shape(cell.init, jax.random.key(0), carry, x)["params"] for cell in (ours, twin)]
    shapes, twin_shapes = (jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree) for tree in trees)
    assert shapes == twin_shapes


@every_twin
def test_flax_parameters_give_flax_outputs(name):
    ours, twin = (cell(UNITS) for cell in FLAX_TWINS[name])
    params, carry, x = a_case(ours)
    assert_trees_close(step_of(ours)(params, carry, x), step_of(twin)(params, carry, x))


def initialised(cell, size=100):
    x = jnp.zeros((1, size))
    carry = cell.initialize_carry(jax.random.key(0), x.shape)
    return jax.jit(cell.init)(jax.random.key(0), carry, x)["params"]


def starting_biases(cell):
    return {name: set(leaf["bias"].tolist()) for name, leaf in initialised(cell).items() if "bias" in leaf}


@pytest.mark.slow
@pytest.mark.parametrize("cell", [SimpleCell, GRUCell, LSTMCell])
def test_recurrent_kernels_start_orthogonal_and_input_kernels_glorot_uniform(cell):
    size, units = 100, 50
    params = initialised(cell(units), size)
    bound = np.sqrt(6 / (size + units))
    for name, leaf in params.items():
        kernel = np.asarray(leaf["kernel"])
        if name.startswith("h"):
            np.testing.assert_allclose(kernel @ kernel.T, np.eye(units), atol=1e-5)
        else:
            assert 0.99 * bound < np.abs(kernel).max() <= bound
            np.testing.assert_allclose(kernel.std(), bound / np.sqrt(3), rtol=0.05)
    assert len({float(leaf["kernel"][0, 0]) for leaf in params.values()}) == len(params)


@pytest.mark.slow
def test_biases_start_at_zero_and_the_forget_bias_at_one():
    assert starting_biases(LSTMCell(50)) == {"hi": {0}, "hf": {1}, "hg": {0}, "ho": {0}}
    assert starting_biases(LSTMCell(50, forget_bias=2.5))["hf"] == {2.5}
    assert starting_biases(GRUCell(50)) == {"ir": {0}, "iz": {0}, "in": {0}, "hn": {0}}
    assert starting_biases(SimpleCell(50)) == {"i": {0}}


def test_the_carry_of_an_lstm_is_named():
    cell, _ = CELLS["lstm"]
    params, carry, x = a_case(cell)
    assert isinstance(carry, LSTMCarry)
    new_carry, output = step_of(cell)(params, carry, x)
    assert isinstance(new_carry, LSTMCarry)
    np.testing.assert_array_equal(new_carry.h, output)
    from_a_pair, _ = step_of(cell)(params, (carry.c, carry.h), x)
    assert_trees_close(from_a_pair, new_carry, rtol=0, atol=0)


@every_cell
def test_bfloat16_computes_near_float32_and_keeps_a_float32_carry(name):
    cell, _ = CELLS[name]
    params, carry, x = a_case(cell)
    expected, _ = step_of(cell)(params, carry, x)
    new_carry, output = step_of(cell.clone(dtype=jnp.bfloat16))(params, carry, x)
    assert output.dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves(new_carry)} == {jnp.dtype(jnp.float32)}
    assert_trees_close(new_carry, expected, rtol=0, atol=0.03)
    assert not np.array_equal(jax.tree.leaves(new_carry)[-1], jax.tree.leaves(expected)[-1])


@every_cell
def test_a_bfloat16_carry_stays_bfloat16(name):
    cell, _ = CELLS[name]
    params, carry, x = a_case(cell)
    given = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.bfloat16), carry)
    new_carry, _ = step_of(cell.clone(dtype=jnp.bfloat16))(params, given, x)
    assert {leaf.dtype for leaf in jax.tree.leaves(new_carry)} == {jnp.dtype(jnp.bfloat16)}


@pytest.mark.slow
def test_param_dtype_is_the_storage_type_and_the_carry_starts_as_float32():
    cell = LSTMCell(50, param_dtype=jnp.bfloat16)
    assert {leaf.dtype for leaf in jax.tree.leaves(initialised(cell))} == {jnp.dtype(jnp.bfloat16)}
    carry = cell.initialize_carry(jax.random.key(0), (BATCH, SIZE))
    shapes = {(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(carry)}
    assert shapes == {((BATCH, 50), jnp.dtype(jnp.float32))}
    assert not any(leaf.any() for leaf in jax.tree.leaves(carry))


@pytest.mark.parametrize("name", EVERY_CELL)
def test_a_jitted_step_may_take_over_the_memory_of_the_first_carry(name):
    carry = EVERY_CELL[name][0](UNITS).initialize_carry(jax.random.key(0), (BATCH, SIZE))
    step = jax.jit(lambda carry: jax.tree.map(lambda state: state + 1, carry), donate_argnums=0)
    assert all((state == 1).all() for state in jax.tree.leaves(step(carry)))
