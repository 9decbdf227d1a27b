"""Dropout in layers: masks are solved for from the outputs, then held to the rules."""

import jax
import numpy as np
import pytest

from rnn_jax import RNN, SimpleCell, Stacked
from tests.helpers import oracle
from tests.helpers.cases import BATCH, CELLS, TIME, UNITS, a_batch, parameters, rnn, run_of
from tests.helpers.oracle import assert_trees_close

RATE = 0.5
KEY = {"dropout": jax.random.key(7)}
NO_LENGTHS = [TIME] * BATCH


def recurrent_masks(key=KEY):
    """Returns float[T-1, B, H], what multiplied h before each product, solved from a SimpleCell's outputs."""
    layer = rnn("simple", recurrent_dropout=RATE)
    params, x = parameters(layer), a_batch()
    _, outputs = run_of(layer, deterministic=False, rngs=key)(params, x)
    cell, h = params["cell"], np.asarray(outputs, np.float64)
    products = np.arctanh(h[:, 1:]) - oracle.affine(cell["i"], x[:, 1:])
    return (products @ np.linalg.inv(cell["h"]["kernel"]) / h[:, :-1]).swapaxes(0, 1)


@pytest.mark.slow
def test_recurrent_dropout_has_one_mask_for_the_whole_sequence():
    masks = recurrent_masks()
    np.testing.assert_allclose(masks, np.broadcast_to(masks[0], masks.shape), atol=0.02)
    values = {round(float(value), 1) + 0.0 for value in masks[0].ravel()}
    assert values == {0.0, 1 / (1 - RATE)}
    assert len({tuple(row) for row in masks[0].round(1).tolist()}) > 1
    other = recurrent_masks({"dropout": jax.random.key(8)})
    assert not np.allclose(other[0], masks[0], atol=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("name", CELLS)
def test_recurrent_dropout_is_on_the_hidden_state_in_the_product_alone(name):
    layer = rnn(name, recurrent_dropout=RATE)
    params, x = parameters(layer), a_batch()
    actual = run_of(layer, deterministic=False, rngs=KEY)(params, x)
    initial = [np.zeros((BATCH, UNITS))] * len(jax.tree.leaves(actual[0]))
    masks = recurrent_masks()[0].round()
    assert_trees_close(
        actual, oracle.over_time(CELLS[name][1], params["cell"], x, NO_LENGTHS, initial, masks=masks)
    )


@pytest.mark.slow
def test_deterministic_layers_drop_nothing_and_need_no_key():
    dropping = Stacked([rnn(recurrent_dropout=RATE), rnn(recurrent_dropout=RATE)], dropout=RATE)
    plain = Stacked([rnn(), rnn()])
    params, x = parameters(plain), a_batch()
    assert_trees_close(run_of(dropping)(params, x), run_of(plain)(params, x), rtol=0, atol=0)


def test_rate_zero_needs_no_key():
    layer = Stacked([rnn(), rnn()])
    params, x = parameters(layer), a_batch()
    training = run_of(layer, deterministic=False)(params, x)
    assert_trees_close(training, run_of(layer)(params, x), rtol=0, atol=0)


@pytest.mark.slow
def test_dropout_is_between_layers_with_one_mask_for_the_whole_sequence():
    layer = Stacked([rnn("gru"), RNN(SimpleCell(UNITS))], dropout=RATE)
    params, x = parameters(layer), a_batch()
    # The top layer is made tanh(x), so that what it read can be solved for.
    reads = {
        "i": {"kernel": np.eye(UNITS), "bias": np.zeros(UNITS)},
        "h": {"kernel": np.zeros((UNITS, UNITS))},
    }
    params["layers_1"]["cell"] = jax.tree.map(np.float32, reads)
    _, outputs = run_of(layer, deterministic=False, rngs=KEY)(params, x)
    _, below = run_of(rnn("gru"))(params["layers_0"], x)
    masks = np.arctanh(np.asarray(outputs, np.float64)) / np.asarray(below)
    np.testing.assert_allclose(masks, np.broadcast_to(masks[:, :1], masks.shape), atol=0.01)
    assert {round(float(value), 1) for value in masks.ravel()} == {0.0, 1 / (1 - RATE)}


@pytest.mark.slow
def test_one_layer_alone_has_nothing_to_drop_between():
    layer = Stacked([rnn()], dropout=RATE)
    params, x = parameters(layer), a_batch()
    training = run_of(layer, deterministic=False)(params, x)
    assert_trees_close(training, run_of(layer)(params, x), rtol=0, atol=0)
