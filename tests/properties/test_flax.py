"""Interchange with Flax: its cells in our layers, our cells in its layers, one set of parameters for both."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnn_jax import RNN, Bidirectional, GRUCell, LSTMCell, SimpleCell, Stacked
from rnn_jax.errors import InputError
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


class Memory(nn.RNNCellBase):
    """Carries a matrix and a count a row: S' = S + x x^T, n' = n + 1; the output is S' x. No parameters.

    It does not say how many axes of features it reads, which nn.RNN alone asks for.
    """

    features: int

    @nn.compact
    def __call__(self, carry, inputs):
        matrix, count = carry
        matrix += inputs[:, :, None] * inputs[:, None, :]
        return (matrix, count + 1), jnp.einsum("bij,bj->bi", matrix, inputs)

    @nn.nowrap
    def initialize_carry(self, rng, input_shape):
        rows = input_shape[:-1]
        return jnp.zeros((*rows, self.features, self.features)), jnp.zeros(rows, jnp.int32)


class SayingMemory(Memory):
    num_feature_axes = 1


@pytest.mark.parametrize("rows", [3, 5])  # of 5 units
def test_a_carry_of_any_rank_is_masked_by_rows(rows):
    x, lengths = np.random.default_rng(1).normal(size=(rows, 6, 5)), np.array([3, 6, 1, 0, 4])[:rows]
    carry, outputs = RNN(Memory(5)).apply({}, x, lengths)
    for row in np.flatnonzero(lengths):
        length = lengths[row]
        theirs = nn.RNN(SayingMemory(5), return_carry=True).apply({}, x[row : row + 1, :length])
        ours = jax.tree.map(lambda leaf, row=row: leaf[row : row + 1], (carry, outputs[:, :length]))
        assert_trees_close(ours, theirs, rtol=1e-5)
    np.testing.assert_array_equal(carry[1], lengths)


def test_a_convolutional_cell_is_refused():
    layer = RNN(nn.ConvLSTMCell(4, (3, 3)))
    with pytest.raises(InputError, match=r"cell is a ConvLSTMCell, which reads 3 axes .* flax.linen.RNN"):
        layer.init(jax.random.key(0), np.ones((2, 5, 8, 8, 3)))
