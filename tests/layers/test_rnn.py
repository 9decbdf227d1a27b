"""Every layer against numpy loops on ragged batches, and the rules of rnn_jax.layers.rnn one by one."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnn_jax import RNN, Bidirectional, LSTMCell, Stacked
from tests.helpers.cases import (
    BATCH,
    EVERY_CELL,
    LAYERS,
    LENGTHS,
    SIZE,
    TIME,
    UNITS,
    a_batch,
    bidirectional,
    carry_of,
    every_cell,
    expected_rnn,
    padded_with,
    parameters,
    rnn,
    run_layer,
    run_of,
)
from tests.helpers.oracle import assert_trees_close, random_like

every_name = pytest.mark.parametrize("name", every_cell())


@pytest.mark.slow
@pytest.mark.parametrize("reverse", [False, True])
@every_name
def test_rnn_is_a_loop_over_the_valid_steps(name, reverse):
    layer = f"{name}_reverse" if reverse else name
    params, initial, x = parameters(LAYERS[layer]), carry_of(LAYERS[layer]), a_batch()
    actual = run_layer(layer, params, padded_with(x, LENGTHS, np.nan), LENGTHS, initial)
    assert_trees_close(actual, expected_rnn(name, params, x, LENGTHS, reverse, initial))


@every_name
def test_without_lengths_every_step_is_valid(name):
    layer = rnn(name)
    params, x = parameters(layer), a_batch()
    actual = run_of(layer)(params, x)
    assert_trees_close(actual, expected_rnn(name, params, x, [TIME] * BATCH))


MERGES = {
    "concat": lambda a, b: np.concatenate([a, b], axis=-1),
    "sum": lambda a, b: a + b,
    "mul": lambda a, b: a * b,
    "ave": lambda a, b: (a + b) / 2,
    "function": lambda a, b: a - 2 * b,
}


@pytest.mark.slow
@pytest.mark.parametrize("merge", MERGES)
def test_bidirectional_merges_two_loops(merge):
    layer = bidirectional(merge=MERGES["function"] if merge == "function" else merge)
    params, x = parameters(layer), a_batch()
    carry, outputs = run_of(layer)(params, x, LENGTHS)
    forward, forward_outputs = expected_rnn("lstm", params["forward_rnn"], x, LENGTHS)
    backward, backward_outputs = expected_rnn("lstm", params["backward_rnn"], x, LENGTHS, reverse=True)
    assert_trees_close(carry, (forward, backward))
    assert_trees_close(outputs, MERGES[merge](forward_outputs, backward_outputs))
    assert_trees_close(layer.final_hidden(carry), MERGES[merge](forward[-1], backward[-1]))


@pytest.mark.slow
def test_stacked_is_layer_after_layer_of_any_cells_widths_and_directions():
    layer = Stacked([bidirectional("gru", 2), rnn("lstm", 5), rnn("simple", 3, reverse=True)])
    params, x = parameters(layer), a_batch()
    carry, outputs = run_of(layer)(params, x, LENGTHS)
    below = params["layers_0"]
    one, forward = expected_rnn("gru", below["forward_rnn"], x, LENGTHS, units=2)
    two, backward = expected_rnn("gru", below["backward_rnn"], x, LENGTHS, reverse=True, units=2)
    joined = np.concatenate([forward, backward], axis=-1)
    three, middle = expected_rnn("lstm", params["layers_1"], joined, LENGTHS, units=5)
    four, top = expected_rnn("simple", params["layers_2"], middle, LENGTHS, reverse=True, units=3)
    assert_trees_close((carry, outputs), ((one, two, three, four), top))
    assert_trees_close(layer.final_hidden(carry), four)


def test_residual_adds_the_input_where_widths_are_equal():
    layer = Stacked([rnn("simple", 4), rnn("gru", 4), rnn("gru", 2)], residual=True)
    params, x = parameters(layer), a_batch()
    _, outputs = run_of(layer)(params, padded_with(x, LENGTHS, np.nan), LENGTHS)
    _, first = expected_rnn("simple", params["layers_0"], x, LENGTHS)
    second = first + expected_rnn("gru", params["layers_1"], first, LENGTHS)[1]
    assert_trees_close(outputs, expected_rnn("gru", params["layers_2"], second, LENGTHS, units=2)[1])


def test_residual_on_the_first_layer_adds_no_padding():
    layer = Stacked([rnn("gru", SIZE)], residual=True)
    params, x = parameters(layer), a_batch()
    _, outputs = run_of(layer)(params, padded_with(x, LENGTHS, np.nan), LENGTHS)
    expected = expected_rnn("gru", params["layers_0"], x, LENGTHS, units=SIZE)[1] + padded_with(x, LENGTHS, 0)
    assert_trees_close(outputs, expected)


# Composition


def test_a_bidirectional_layer_turned_round_swaps_its_directions():
    layer = Bidirectional(bidirectional(), bidirectional())
    params, x = parameters(layer), a_batch()
    (_, (forward_carry, backward_carry)), outputs = run_of(layer)(params, x, LENGTHS)
    inner = params["backward_rnn"]
    backward, backward_outputs = expected_rnn("lstm", inner["forward_rnn"], x, LENGTHS, reverse=True)
    forward, forward_outputs = expected_rnn("lstm", inner["backward_rnn"], x, LENGTHS)
    assert_trees_close((forward_carry, backward_carry), (backward, forward))
    joined = np.concatenate([backward_outputs, forward_outputs], axis=-1)
    assert_trees_close(outputs[:, :, 2 * UNITS :], joined)


def test_an_initial_carry_reaches_each_direction_and_each_layer():
    layer = Stacked([bidirectional("gru"), rnn("lstm")])
    params, x = parameters(layer), a_batch()
    initial = carry_of(layer)
    carry, outputs = run_of(layer)(params, x, LENGTHS, initial)
    (first, second), third = initial
    below = params["layers_0"]
    one, forward = expected_rnn("gru", below["forward_rnn"], x, LENGTHS, initial=first)
    two, backward = expected_rnn("gru", below["backward_rnn"], x, LENGTHS, True, initial=second)
    joined = np.concatenate([forward, backward], axis=-1)
    assert_trees_close(
        (carry, outputs),
        ((one, two), expected_rnn("lstm", params["layers_1"], joined, LENGTHS, initial=third)),
    )


# Transformations


def double(tree):
    return jax.tree.map(partial(np.asarray, dtype=np.float64), tree)


def slopes(function, case, way):
    """Returns what `function` gives and its slope along `way` in each mode, then the slope of each of those.

    All in one program: forward, backward, and all four ways to take one after the other.
    """

    def forward(function):
        return lambda case: jax.jvp(function, (case,), (way,))[1]

    def backward(function):
        def slope(case):
            products = jax.tree.map(lambda leaf, along: (leaf * along).sum(), jax.grad(function)(case), way)
            return sum(jax.tree.leaves(products))

        return slope

    modes = (forward, backward)
    first = [mode(function) for mode in modes]
    second = [mode(slope) for mode in modes for slope in first]
    return function(case), [slope(case) for slope in first], [slope(case) for slope in second]


@pytest.mark.slow
@every_name
def test_derivatives_of_both_modes_and_orders_are_finite_differences(name):
    with jax.enable_x64(True):
        layer = RNN(EVERY_CELL[name][0](UNITS, param_dtype=jnp.float64))
        lengths = np.array([2, 0, 3, 1])
        case = double((parameters(layer), a_batch(time=3)))
        way, weight = random_like(case, seed=9), random_like(np.zeros((4, 3, UNITS)), seed=2)

        def function(case):
            return (weight * layer.apply({"params": case[0]}, case[1], lengths)[1]).sum()

        run, step = jax.jit(partial(slopes, function, way=way)), 1e-4
        _, first, second = run(case)
        ahead, behind = (
            run(jax.tree.map(lambda leaf, along, by=by: leaf + by * along, case, way)) for by in (step, -step)
        )
        np.testing.assert_allclose(first, (ahead[0] - behind[0]) / (2 * step), rtol=1e-5, atol=1e-5)
        difference = (ahead[1][0] - behind[1][0]) / (2 * step)
        np.testing.assert_allclose(second, difference, rtol=1e-5, atol=1e-5)
        assert abs(first[0]) > 1e-2 < abs(second[0])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gru", "norm_lstm"])
def test_bfloat16_outputs_are_near_float32_and_the_carry_keeps_its_type(name):
    layer = LAYERS[name]
    params, x, initial = parameters(layer), a_batch(), carry_of(layer)
    run = run_of(RNN(layer.cell.clone(dtype=jnp.bfloat16)))
    carry, outputs = run(params, x, LENGTHS, initial)
    assert outputs.dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves(carry)} == {jnp.dtype(jnp.float32)}
    assert_trees_close((carry, outputs), run_layer(name, params, x, LENGTHS, initial), rtol=0, atol=0.05)
    half, _ = run(params, x, LENGTHS, jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), carry))
    assert {leaf.dtype for leaf in jax.tree.leaves(half)} == {jnp.dtype(jnp.bfloat16)}


# Errors

x_BTE, int_B = jnp.zeros((2, 5, 3)), jnp.array([1, 2])
ONE = rnn()
CELL = LSTMCell(2)
ERRORS = {
    "x has shape": (ONE, {"x": jnp.zeros(3)}),
    "lengths has shape": (ONE, {"lengths": jnp.array([1, 2, 3])}),
    "lengths has dtype": (ONE, {"lengths": jnp.array([1.0, 2.0])}),
    "initial_carry has shapes": (ONE, {"initial_carry": jnp.zeros((2, UNITS))}),
    "backend is 'scna'.*auto, native, .*scan.*Did you mean 'scan'": (
        rnn(backend="scna"),
        {},
    ),
    'backend is "fused", but LSTMCell with layer_norm=True': (rnn("norm_lstm", backend="fused"), {}),
    'backend is "fused", but OptimizedLSTMCell has a step': (
        RNN(nn.OptimizedLSTMCell(2), backend="fused"),
        {},
    ),
    "remat is True, but only .*fused.*scanned": (rnn(backend="scan", remat=True), {}),
    "remat is False, but only .*LSTMCell with layer_norm": (
        rnn("norm_lstm", remat=False),
        {},
    ),
    "recurrent_dropout is 1.0": (rnn(recurrent_dropout=1.0), {}),
    "recurrent_dropout is -0.1": (rnn(recurrent_dropout=-0.1), {}),
    "recurrent_dropout is 0.5.*LSTMCell is not one of": (RNN(nn.LSTMCell(2), recurrent_dropout=0.5), {}),
    "merge is 'cat'.*concat, sum, mul, ave": (bidirectional(merge="cat"), {}),
    "forward_rnn and backward_rnn are one object": (Bidirectional(ONE, ONE), {}),
    "forward_rnn and backward_rnn .* hold one cell": (Bidirectional(RNN(CELL), RNN(CELL)), {}),
    "backward_rnn are one object or .* layer, so they would share it": (
        Bidirectional(Stacked([ONE]), Stacked([rnn(), Bidirectional(rnn(), ONE)])),
        {},
    ),
    "or hold one cell or layer, so they would share it; build two": (
        Bidirectional(RNN(CELL), Stacked([RNN(CELL)])),
        {},
    ),
    "backward_rnn has reverse=True": (Bidirectional(rnn(), rnn(reverse=True)), {}),
    "forward_rnn has reverse=True": (Bidirectional(rnn(reverse=True), rnn()), {}),
    "layers is empty": (Stacked([]), {}),
    r"layers is a RNN; give a list: Stacked\(": (Stacked(rnn()), {}),
    "layers is a generator; give a list": (Stacked(rnn() for _ in range(2)), {}),
    r"layers is a RNN; give a list.*": (Bidirectional(Stacked(rnn()), rnn()), {}),
    "merge is None, which is not one of: concat, sum, mul, ave": (bidirectional(merge=None), {}),
    "merge is 'sum', but .* have 4 and 1 features; give both as many": (
        Bidirectional(rnn(), rnn(units=1), "sum"),
        {},
    ),
    "merge is 'ave', but .* have 4 and 2 features": (Bidirectional(rnn(), rnn(units=2), "ave"), {}),
    "dropout is 1.5": (Stacked([rnn(), rnn()], dropout=1.5), {}),
    "initial_carry holds 1 carries for 2": (Stacked([rnn(), rnn()]), {"initial_carry": [None]}),
    r"residual is on.*\(3, 4\)": (Stacked([rnn(), rnn(units=2)], residual=True), {}),
}


@pytest.mark.parametrize("message", ERRORS)
def test_a_wrong_argument_is_named(message):
    layer, arguments = ERRORS[message]
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(layer.init, jax.random.key(0), **({"x": x_BTE, "lengths": int_B} | arguments))
