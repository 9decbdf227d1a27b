"""The carry after every step, against cells stepped by hand in numpy, one row at a time."""

import jax
import numpy as np
import pytest

from rnn_jax import Bidirectional, Stacked
from tests.helpers.cases import (
    EVERY_CELL,
    LAYERS,
    LENGTHS,
    UNITS,
    a_batch,
    bidirectional,
    carry_of,
    every_cell,
    expected_rnn,
    first_state,
    padded_with,
    parameters,
    rnn,
    run_layer,
    run_of,
    slow_but,
)
from tests.helpers.oracle import assert_trees_close


def carries_of(layer, params, x, lengths=None, initial=None, **options):
    return run_of(layer, method="carries", **options)(params, x, lengths, initial)


def stepped(name, params, x, lengths, reverse=False, initial=None, units=UNITS):
    """Returns the state [B, T, H] each after every step; padded steps pass on what they get."""
    step, first = EVERY_CELL[name][1], first_state(name, len(x), units, initial)
    cell = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params["cell"])
    found = [np.zeros((*x.shape[:2], part.shape[-1])) for part in first]
    for row, length in enumerate(lengths):
        state = tuple(np.asarray(part[row], np.float64) for part in first)
        for t in reversed(range(x.shape[1])) if reverse else range(x.shape[1]):
            state = step(cell, state, np.asarray(x[row, t], np.float64)) if t < length else state
            for part, value in zip(found, state, strict=True):
                part[row, t] = value
    return tuple(found)


@pytest.mark.parametrize("backend", slow_but(["auto"], ["auto", "scan"]))
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("name", every_cell())
def test_carries_are_those_of_the_cell_stepped_by_hand(name, reverse, backend):
    layer = rnn(name, reverse=reverse, backend=backend)
    params, x, initial = parameters(layer), a_batch(), carry_of(layer)
    carries = carries_of(layer, params, padded_with(x, LENGTHS, np.nan), LENGTHS, initial)
    assert jax.tree.structure(carries) == jax.tree.structure(initial)
    assert_trees_close(carries, stepped(name, params, x, LENGTHS, reverse, initial))


def test_without_lengths_every_step_is_read():
    layer = rnn("lstm")
    params, x = parameters(layer), a_batch()
    assert_trees_close(
        carries_of(layer, params, x), stepped("lstm", params, x, [x.shape[1]] * len(x), initial=None)
    )


@pytest.mark.slow
def test_carries_nest_as_layers_do_each_reading_the_outputs_below():
    layer = Stacked([bidirectional("lstm", 2), rnn("gru", 4), rnn("lstm", 3)], residual=True)
    params, x, initial = parameters(layer), a_batch(), carry_of(layer)
    found = carries_of(layer, params, padded_with(x, LENGTHS, np.nan), LENGTHS, initial)
    assert jax.tree.structure(found) == jax.tree.structure(initial)
    below = params["layers_0"]
    forward = stepped("lstm", below["forward_rnn"], x, LENGTHS, False, initial[0][0], units=2)
    backward = stepped("lstm", below["backward_rnn"], x, LENGTHS, True, initial[0][1], units=2)
    joined = np.concatenate([forward[1], backward[1]], axis=-1)
    (middle,) = stepped("gru", params["layers_1"], joined, LENGTHS, False, initial[1])
    top = stepped("lstm", params["layers_2"], middle + joined, LENGTHS, False, initial[2], units=3)
    assert_trees_close(found, ((forward, backward), (middle,), top))


def test_a_bidirectional_layer_turned_round_has_its_carries_turned_too():
    layer = Bidirectional(bidirectional("gru", 2), bidirectional("gru", 2))
    params, x = parameters(layer), a_batch()
    _, (outer, inner) = carries_of(layer, params, x, LENGTHS)
    below = params["backward_rnn"]
    assert_trees_close(outer, stepped("gru", below["forward_rnn"], x, LENGTHS, True, units=2))
    assert_trees_close(inner, stepped("gru", below["backward_rnn"], x, LENGTHS, False, units=2))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["norm_lstm_reverse", "flax_cells"])
def test_the_carry_after_the_last_step_read_is_the_carry_of_the_call(name):
    params, initial, x = parameters(LAYERS[name]), carry_of(LAYERS[name]), a_batch()
    carries = carries_of(LAYERS[name], params, x, LENGTHS, initial)
    carry, _ = run_layer(name, params, x, LENGTHS, initial)
    if name == "flax_cells":
        (forward, backward), top = carries
        ends = (forward[:, -1], backward[:, 0]), jax.tree.map(lambda leaf: leaf[:, -1], top)
    else:
        ends = jax.tree.map(lambda leaf: leaf[:, 0], carries)
    assert_trees_close(ends, carry)


@pytest.mark.slow
def test_carries_of_a_dropped_out_layer_are_those_of_the_call_with_the_same_masks():
    layer = Stacked([rnn("gru", recurrent_dropout=0.5), rnn("lstm", recurrent_dropout=0.5)], dropout=0.5)
    params, x = parameters(layer), a_batch()
    options = {"deterministic": False, "rngs": {"dropout": jax.random.key(3)}}
    carries = carries_of(layer, params, x, LENGTHS, **options)
    carry, _ = run_of(layer, **options)(params, x, LENGTHS)
    assert_trees_close(jax.tree.map(lambda leaf: leaf[:, -1], carries), carry)
    plain, _ = expected_rnn("gru", params["layers_0"], x, LENGTHS)
    assert np.abs(np.asarray(carry[0]) - plain[0]).max() > 1e-3


@pytest.mark.slow
def test_gradients_reach_through_carries_and_not_into_padding():
    layer = rnn("lstm")
    params, initial, x = parameters(layer), carry_of(layer), a_batch()

    def loss(x):
        memory, _ = layer.apply({"params": params}, x, LENGTHS, initial, method="carries")
        return (memory**2).sum()

    gradient = np.asarray(jax.jit(jax.grad(loss))(padded_with(x, LENGTHS, np.nan)))
    valid = np.arange(x.shape[1]) < LENGTHS[:, None]
    assert not gradient[~valid].any()
    assert (np.abs(gradient[valid]).max(axis=-1) > 1e-5).all()
