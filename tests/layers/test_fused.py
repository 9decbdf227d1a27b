"""The fused backend against the scan: values and gradients, on ragged batches of any length."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rnn_jax import RNN, Bidirectional, LSTMCell, Stacked
from rnn_jax.layers import fused as fused_room
from rnn_jax.layers.fused import chunk_length, keeps_activations, scales_products, unrolled
from tests.helpers.cases import (
    CELLS,
    LENGTHS,
    SIZE,
    UNITS,
    a_batch,
    padded_with,
    parameters,
    slow_but,
)
from tests.helpers.oracle import assert_trees_close, random_like

NAMES = ["simple", "gru", "lstm"]
SLOW_CHUNKS = [pytest.param(*sizes, marks=pytest.mark.slow) for sizes in ((1, 1), (6, 4))]
every_cell = pytest.mark.parametrize("name", NAMES)


def a_carry(layer, batch, seed=3):
    return random_like(layer.cell.initialize_carry(jax.random.key(0), (batch, SIZE)), seed)


def loss(layer, params, x, carry, lengths, weigh=random_like, **options):
    """Returns a scalar of all outputs and the whole final carry, each entry with a weight of its own."""
    leaves = jax.tree.leaves(layer.apply({"params": params}, x, lengths, carry, **options))
    return sum((weigh(leaf, seed) * leaf.astype(jnp.float32)).sum() for seed, leaf in enumerate(leaves))


def program_of(layer):
    """Returns a compiled (params, x, carry, lengths) -> (values of a call alone, the gradients of `loss`)."""

    def run(params, x, carry, lengths):
        values = layer.apply({"params": params}, x, lengths, carry)
        return values, jax.grad(partial(loss, layer), (0, 1, 2))(params, x, carry, lengths)

    return jax.jit(run)


def values_and_gradients(layer, *arguments):
    return program_of(layer)(*arguments)


def relative_error(actual, expected):
    """Returns the largest difference, in units of the largest entry of each array."""
    pairs = zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True)
    pairs = [(np.asarray(one, np.float64), np.asarray(other, np.float64)) for one, other in pairs]
    return max(
        np.abs(one - other).max(initial=0) / (np.abs(other).max(initial=0) or 1) for one, other in pairs
    )


def compare(name, reverse, remat, x, lengths):
    fused = RNN(CELLS[name][0](UNITS), reverse, backend="fused", remat=remat)
    scan = RNN(CELLS[name][0](UNITS), reverse, backend="scan")
    arguments = parameters(fused), x, a_carry(fused, len(x)), lengths
    values, gradients = values_and_gradients(fused, *arguments)
    expected, expected_gradients = values_and_gradients(scan, *arguments)
    assert_trees_close(values, expected, rtol=0, atol=1e-6)
    assert relative_error(gradients, expected_gradients) < 1e-5


@pytest.mark.parametrize(
    ("name", "reverse"),
    [
        pytest.param(name, reverse, marks=() if reverse == (name == "gru") else pytest.mark.slow)
        for name in NAMES
        for reverse in (False, True)
    ],
)
def test_fused_is_the_scan(name, reverse):
    """30 steps are two chunks of 16 with two steps added; the lengths end in either, and one row is empty."""
    compare(name, reverse, None, a_batch(time=30), np.array([30, 0, 15, 17]))


@pytest.mark.slow
@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    st.sampled_from(NAMES),
    st.booleans(),
    st.booleans(),
    st.integers(1, 70),
    st.lists(st.floats(0, 1), min_size=1, max_size=5),
    st.booleans(),
)
def test_fused_is_the_scan_at_any_ragged_shape(name, reverse, remat, time, fractions, ragged):
    lengths = np.array([round(time * fraction) for fraction in fractions]) if ragged else None
    compare(name, reverse, remat, a_batch(batch=len(fractions), time=time), lengths)


@pytest.mark.slow
@pytest.mark.parametrize(("chunk", "unroll"), [(4, 1), (7, 7), *SLOW_CHUNKS])
def test_neither_the_length_of_chunks_nor_loops_within_them_change_anything(monkeypatch, chunk, unroll):
    layer = RNN(LSTMCell(UNITS), reverse=True, backend="fused")
    arguments = parameters(layer), a_batch(), a_carry(layer, 4), LENGTHS
    expected = values_and_gradients(layer, *arguments)
    monkeypatch.setattr(fused_room, "chunk_length", lambda steps: chunk)
    monkeypatch.setattr(fused_room, "unrolled", lambda steps, platform: unroll)
    assert_trees_close(values_and_gradients(layer, *arguments), expected, rtol=1e-5)


@pytest.mark.parametrize("name", slow_but(["lstm"], NAMES))
def test_nan_in_padding_reaches_neither_values_nor_gradients(name):
    layer = RNN(CELLS[name][0](UNITS), backend="fused")
    x, rest = a_batch(), (a_carry(layer, 4), LENGTHS)
    run = program_of(layer)
    clean, dirty = (run(parameters(layer), padded_with(x, LENGTHS, value), *rest) for value in (0, np.nan))
    for one, other in zip(jax.tree.leaves(dirty), jax.tree.leaves(clean), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", slow_but(["gru"], NAMES))
def test_bfloat16_is_as_near_to_float32_as_the_scan_is(name):
    x = a_batch(time=40)
    layers = [
        RNN(CELLS[name][0](UNITS, dtype=dtype), backend=backend)
        for dtype, backend in ((jnp.float32, "scan"), (jnp.bfloat16, "scan"), (jnp.bfloat16, "fused"))
    ]
    arguments = parameters(layers[0]), x, a_carry(layers[0], 4), np.array([40, 0, 17, 33])
    exact, scanned, fused = (values_and_gradients(layer, *arguments) for layer in layers)
    assert fused[0][1].dtype == jnp.bfloat16
    assert jax.tree.leaves(fused[0][0])[0].dtype == jnp.float32
    assert relative_error(fused, exact) < 2 * relative_error(scanned, exact) + 2**-8
    assert relative_error(fused, exact) < 0.05


@pytest.mark.slow
def test_bfloat16_gradients_add_up_in_float32():
    """One chunk or twenty give the same gradient up to the rounding of single chunks."""
    layer = RNN(LSTMCell(UNITS, dtype=jnp.bfloat16), backend="fused")
    exact = RNN(LSTMCell(UNITS), backend="scan")
    arguments = parameters(layer), a_batch(time=400), a_carry(layer, 4), None
    gradients = values_and_gradients(layer, *arguments)[1]
    assert relative_error(gradients, values_and_gradients(exact, *arguments)[1]) < 0.03


@every_cell
def test_bfloat16_products_accumulate_in_float32_backward_too(name):
    layer = RNN(CELLS[name][0](UNITS, dtype=jnp.bfloat16), backend="fused")
    arguments = parameters(layer), a_batch(time=40), a_carry(layer, 4), None
    program = jax.jit(jax.grad(partial(loss, layer), (0, 1, 2))).lower(*arguments).as_text()
    types = re.findall(
        r"stablehlo\.dot_general.*: \(tensor<.*x(\w+)>, tensor<.*x(\w+)>\) -> .*x(\w+)>", program
    )
    assert len(types) == program.count("stablehlo.dot_general") >= 6
    assert set(types) == {("bf16", "bf16", "f32")}


@pytest.mark.slow
def test_bfloat16_gradients_batch_and_differentiate():
    layer = RNN(LSTMCell(UNITS, dtype=jnp.bfloat16), backend="fused")
    params, x = parameters(layer), a_batch(time=20)

    def gradient(params, x):
        return jax.grad(lambda params: layer.apply({"params": params}, x[None])[1].astype(jnp.float32).sum())(
            params
        )

    alone = jax.jit(gradient)
    one_by_one = jax.tree.map(lambda *rows: np.stack(rows), *(alone(params, row) for row in x))
    assert relative_error(jax.jit(jax.vmap(gradient, (None, 0)))(params, x), one_by_one) < 0.01
    direction = random_like(params, seed=7)
    curvature = jax.jit(lambda *way: jax.jvp(lambda params: gradient(params, x[0]), *way)[1])(
        (params,), (direction,)
    )
    exact = RNN(LSTMCell(UNITS), backend="scan")
    slope = jax.grad(lambda params: exact.apply({"params": params}, x[:1])[1].sum())
    expected = jax.jit(lambda *way: jax.jvp(slope, *way)[1])((params,), (direction,))
    assert relative_error(curvature, expected) < 0.1


@pytest.mark.slow
def test_the_carry_given_decides_its_type():
    layer = RNN(LSTMCell(UNITS), backend="fused")
    carry = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), a_carry(layer, 4))
    _, gradients = values_and_gradients(layer, parameters(layer), a_batch(), carry, LENGTHS)
    assert {leaf.dtype for leaf in jax.tree.leaves(gradients[2])} == {jnp.dtype(jnp.bfloat16)}


@pytest.mark.parametrize("name", slow_but(["lstm"], NAMES))
def test_recurrent_dropout_draws_the_same_mask(name):
    gradients = []
    for backend in ("fused", "scan"):
        layer = RNN(CELLS[name][0](UNITS), backend=backend, recurrent_dropout=0.5)
        options = {"deterministic": False, "rngs": {"dropout": jax.random.key(5)}}
        arguments = parameters(layer), a_batch(), a_carry(layer, 4), LENGTHS
        gradients.append(jax.jit(jax.grad(partial(loss, layer, **options), (0, 1, 2)))(*arguments))
    assert relative_error(*gradients) < 1e-5


@pytest.mark.slow
@every_cell
def test_forward_mode_higher_orders_and_vmap_are_those_of_the_scan(name):
    results = []
    for backend in ("fused", "scan"):
        layer = RNN(CELLS[name][0](UNITS), backend=backend)
        params, x, carry = parameters(layer), a_batch(), a_carry(layer, 4)
        lengths = jnp.array(LENGTHS)
        direction = random_like((params, x, carry), seed=7)
        along = partial(loss, layer, lengths=lengths)

        def gradient(params, x, carry, along=along):
            return jax.grad(along)(params, x, carry)

        def of_one_row(x, carry, length, layer=layer, params=params):
            row = partial(loss, layer, x=x[None], lengths=length[None])
            return jax.grad(row)(params, carry=jax.tree.map(lambda leaf: leaf[None], carry))

        results.append(
            (
                jax.jit(lambda: jax.jvp(along, (params, x, carry), direction))(),  # noqa: B023
                jax.jit(lambda: jax.jvp(gradient, (params, x, carry), direction))(),  # noqa: B023
                jax.jit(jax.vmap(of_one_row))(x, carry, lengths),
                jax.jit(
                    jax.grad(lambda p: (gradient(p, x, carry)["cell"][HEAD[name]]["kernel"] ** 2).sum())  # noqa: B023
                )(params),
            )
        )
    assert_trees_close(*results, rtol=2e-5, atol=2e-6)


HEAD = {"simple": "h", "gru": "hn", "lstm": "hg"}


def test_auto_is_fused_for_our_cells_inside_every_layer():
    """The fused loop runs in chunks: a loop in a loop."""
    layer = Stacked([Bidirectional(RNN(LSTMCell(2)), RNN(LSTMCell(2))), RNN(LSTMCell(2))])
    program = str(jax.make_jaxpr(layer.apply)({"params": parameters(layer)}, a_batch()))
    assert program.count("custom_jvp_call") == 3


@pytest.mark.slow
def test_a_cell_with_a_step_of_its_own_is_scanned():
    class Doubled(LSTMCell):
        def step(self, weights, carry, z, hidden_mask=None):
            carry, output = super().step(weights, carry, 2 * z, hidden_mask)
            return carry, output

    doubled, plain = RNN(Doubled(UNITS)), RNN(LSTMCell(UNITS))
    params = parameters(plain)
    outputs = [layer.apply({"params": params}, a_batch())[1] for layer in (doubled, plain)]
    assert relative_error(*outputs) > 0.1


@pytest.mark.parametrize("steps", [1, 2, 25, 26, 64, 401, 500, 4096])
def test_chunks_add_few_steps(steps):
    chunk = chunk_length(steps)
    assert 1 <= chunk <= 25
    assert -steps % chunk <= max(2, steps * 0.02) or steps < 50


def test_gates_are_kept_until_they_fill_a_gibibyte():
    assert keeps_activations(400, 128, 4 * 256)
    assert not keeps_activations(4096, 128, 4 * 512)


def test_a_gpu_runs_a_chunk_without_a_loop_and_so_are_few_steps_run():
    assert [unrolled(20, platform) for platform in ("cpu", "gpu", "tpu")] == [1, 20, 1]
    assert [unrolled(steps, "cpu") for steps in (1, 4, 5)] == [1, 4, 1]


@pytest.mark.parametrize("name", slow_but(["gru"], NAMES))
def test_scaled_products_are_those_of_scaled_weights(monkeypatch, name):
    layer = RNN(CELLS[name][0](UNITS), backend="fused")
    arguments = parameters(layer), a_batch(), a_carry(layer, 4), LENGTHS
    assert [scales_products(1, rows, 7) for rows in (3, 4)] == [True, False]
    found = []
    for asked in (True, False):
        monkeypatch.setattr(fused_room, "scales_products", lambda *sizes, asked=asked: asked)
        found.append(values_and_gradients(layer, *arguments))
    jax.tree.map(np.testing.assert_array_equal, found[0][0], found[1][0])  # to the bit
    assert_trees_close(found[0][1], found[1][1], rtol=1e-5)


def test_the_scales_of_a_step_may_be_a_list():
    class Listed(LSTMCell):
        fused_step = LSTMCell.fused_step._replace(scales=list(LSTMCell.fused_step.scales))

    layers = [RNN(cell(UNITS), backend="fused") for cell in (LSTMCell, Listed)]
    params, x = parameters(layers[0]), a_batch(batch=1, time=2)
    assert scales_products(2, 1, SIZE + UNITS)  # the text is short
    plain, listed = (layer.apply({"params": params}, x) for layer in layers)
    assert_trees_close(listed, plain, rtol=0, atol=0)
