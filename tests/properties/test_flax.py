"""Interchange with Flax: its cells in our layers, our cells in its layers, one set of parameters for both."""

import flax.linen as nn
import jax
import numpy as np
import pytest

from rnn_jax import RNN, Bidirectional, GRUCell, LSTMCell, SimpleCell, Stacked
from tests.helpers.oracle import assert_trees_close, random_like

UNITS, LENGTHS = 4, np.array([3, 6, 1])
x_BTE = np.random.default_rng(0).normal(size=(3, 6, 5)).astype(np.float32)
valid_BT1 = (np.arange(6) < LENGTHS[:, None])[:, :, None]
OURS = [SimpleCell, GRUCell, LSTMCell]
FLAX = [nn.SimpleCell, nn.GRUCell, nn.LSTMCell, nn.OptimizedLSTMCell]
every_cell = pytest.mark.parametrize(
    "cell", OURS + FLAX, ids=lambda cell: f"{cell.__module__}.{cell.__name__}"
)


def flax_parameters(layer):
    return random_like(jax.eval_shape(layer.init, jax.random.key(0), x_BTE)["params"])


def run_flax(layer, params):
    """Returns Flax's (carry, outputs), the outputs zero at padding, where Flax leaves what it computed."""
    carry, outputs = jax.jit(layer.apply, static_argnames="return_carry")(
        {"params": params}, x_BTE, seq_lengths=LENGTHS, return_carry=True
    )
    return carry, np.where(valid_BT1, outputs, 0)


def run_ours(layer, params):
    return jax.jit(layer.apply)({"params": params}, x_BTE, LENGTHS)


@pytest.mark.parametrize("reverse", [False, True])
def test_parameters_of_flax_rnn_load_unchanged_and_give_its_outputs(reverse):
    theirs = nn.RNN(nn.OptimizedLSTMCell(UNITS), reverse=reverse, keep_order=True)
    params = flax_parameters(theirs)
    assert_trees_close(run_ours(RNN(LSTMCell(UNITS), reverse=reverse), params), run_flax(theirs, params))


@pytest.mark.slow
@every_cell
def test_parameters_of_flax_bidirectional_load_unchanged_and_give_its_outputs(cell):
    theirs = nn.Bidirectional(nn.RNN(cell(UNITS)), nn.RNN(cell(UNITS)))
    params = flax_parameters(theirs)
    ours = Bidirectional(RNN(cell(UNITS)), RNN(cell(UNITS)))
    assert_trees_close(run_ours(ours, params), run_flax(theirs, params))


@pytest.mark.slow
def test_flax_cells_stack_with_ours():
    ours = Stacked([RNN(nn.GRUCell(UNITS)), RNN(LSTMCell(UNITS))])
    params = flax_parameters(ours)
    _, below = run_flax(nn.RNN(nn.GRUCell(UNITS)), params["layers_0"])
    expected = jax.jit(RNN(LSTMCell(UNITS)).apply)({"params": params["layers_1"]}, below, LENGTHS)
    assert_trees_close(run_ours(ours, params)[1], expected[1])
