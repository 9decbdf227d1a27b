"""Padding is never seen: not in values, carries or gradients, whatever it holds and wherever rows end."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers.cases import (
    BATCH,
    EVERY_CELL,
    LAYERS,
    LENGTHS,
    TIME,
    a_batch,
    carry_of,
    every_cell,
    padded_with,
    parameters,
    run_and_gradients,
    run_layer,
    run_of,
)
from tests.helpers.oracle import assert_trees_close

FAST = {"lstm", "gru_reverse", "bidirectional"}  # the others take the same paths again
every_layer = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in FAST else pytest.mark.slow) for name in LAYERS]
)
a_few = settings(max_examples=15, deadline=None, derandomize=True)
some_lengths = st.lists(st.integers(0, TIME), min_size=BATCH, max_size=BATCH).map(np.array)


@pytest.mark.slow
@every_layer
def test_padding_changes_no_value_and_no_gradient(name):
    params, initial = parameters(LAYERS[name]), carry_of(LAYERS[name])

    @a_few
    @given(some_lengths, st.integers(0, 99))
    def holds(lengths, seed):
        x, run = a_batch(seed), run_and_gradients(name)
        (carry, outputs), gradients = run(params, padded_with(x, lengths, 0), lengths, initial)
        padding = np.arange(TIME) >= lengths[:, None]
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((carry, outputs, gradients)))
        assert not np.asarray(outputs)[padding].any()
        assert not np.asarray(gradients[1])[padding].any()
        for value in (np.nan, np.inf, 1e30):
            again = run(params, padded_with(x, lengths, value), lengths, initial)
            assert_trees_close(again, ((carry, outputs), gradients), rtol=0, atol=0)

    holds()


@pytest.mark.parametrize("name", ["norm_lstm_reverse", pytest.param("stacked", marks=pytest.mark.slow)])
def test_more_padding_on_the_right_changes_nothing(name):
    params, initial, x = parameters(LAYERS[name]), carry_of(LAYERS[name]), a_batch()
    carry, outputs = run_layer(name, params, x, LENGTHS, initial)
    more = [(0, 0), (0, 3), (0, 0)]
    longer = run_of(LAYERS[name])(params, np.pad(x, more, constant_values=7), LENGTHS, initial)
    assert_trees_close(longer, (carry, np.pad(outputs, more)))


@pytest.mark.slow
@every_layer
def test_a_row_of_length_zero_returns_its_initial_carry_and_zeros(name):
    params, initial = parameters(LAYERS[name]), carry_of(LAYERS[name])
    carry, outputs = run_layer(name, params, a_batch(), LENGTHS, initial)
    empty = list(LENGTHS).index(0)
    assert not outputs[empty].any()
    for before, after in zip(jax.tree.leaves(initial), jax.tree.leaves(carry), strict=True):
        np.testing.assert_array_equal(after[empty], before[empty])
        assert (after[empty - 1] != before[empty - 1]).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", EVERY_CELL)
def test_reverse_mirrors_forward(name):
    params, initial = parameters(LAYERS[name]), carry_of(LAYERS[name])

    def mirrored(x, lengths):
        rows = zip(x, lengths, strict=True)
        return np.stack([np.concatenate([row[:length][::-1], row[length:]]) for row, length in rows])

    @a_few
    @given(some_lengths, st.integers(0, 99))
    def holds(lengths, seed):
        x = a_batch(seed)
        carry, outputs = run_layer(name, params, mirrored(x, lengths), lengths, initial)
        backward = run_layer(f"{name}_reverse", params, x, lengths, initial)
        assert_trees_close(backward, (carry, mirrored(np.asarray(outputs), lengths)))

    holds()


@pytest.mark.slow
@every_layer
def test_rows_do_not_see_each_other(name):
    params, initial, x = parameters(LAYERS[name]), carry_of(LAYERS[name]), a_batch()
    order = np.array([2, 0, 3, 1])
    expected = jax.tree.map(lambda leaf: leaf[order], run_layer(name, params, x, LENGTHS, initial))
    moved = jax.tree.map(lambda leaf: leaf[order], initial)
    assert_trees_close(run_layer(name, params, x[order], LENGTHS[order], moved), expected)


@pytest.mark.parametrize("way", ["", "_reverse"])
@pytest.mark.parametrize("name", every_cell())
def test_a_sequence_in_two_parts_equals_the_whole(name, way):
    name += way
    params, initial, x, cut = parameters(LAYERS[name]), carry_of(LAYERS[name]), a_batch(), 3
    parts = [(x, np.minimum(LENGTHS, cut)), (np.roll(x, -cut, axis=1), np.maximum(LENGTHS - cut, 0))]
    reverse = name.endswith("reverse")
    carry, outputs = initial, []
    for part, lengths in reversed(parts) if reverse else parts:
        carry, output = run_layer(name, params, part, lengths, carry)
        outputs.append(output[:, :cut])
    joined = np.concatenate(outputs[::-1] if reverse else outputs, axis=1)
    assert_trees_close((carry, joined), run_layer(name, params, x, LENGTHS, initial))
