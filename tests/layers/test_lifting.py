"""Cells of one's own with Dropout, BatchNorm or `sow` inside, and layers in Flax's own transformations."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from rnn_jax import RNN, LSTMCell, Stacked
from rnn_jax.errors import InputError
from rnn_jax.layers import GRUCell
from tests.helpers.cases import a_batch, parameters
from tests.helpers.oracle import assert_trees_close

X = a_batch(batch=3, time=4)
KEYS = {"params": jax.random.key(0), "dropout": jax.random.key(1)}


class Noisy(nn.RNNCellBase):
    """h' = tanh(a dense layer of x and h), normalised, with dropout; it sows h'."""

    features: int

    @nn.compact
    def __call__(self, carry, inputs):
        h = nn.Dense(self.features)(jnp.concatenate([inputs, carry], axis=-1))
        h = nn.BatchNorm(use_running_average=False, momentum=0.9)(h)
        h = jnp.tanh(nn.Dropout(0.5, deterministic=False)(h))
        self.sow("intermediates", "h", h)
        return h, h

    @nn.nowrap
    def initialize_carry(self, rng, input_shape):
        return jnp.zeros((*input_shape[:-1], self.features))

    @property
    def num_feature_axes(self):
        return 1


OPTIONS = {
    "variable_axes": {"intermediates": 0},
    "variable_carry": "batch_stats",
    "split_rngs": {"params": False, "dropout": True},
}


@pytest.mark.slow
def test_a_cell_with_dropout_batch_norm_and_sow_runs_as_in_flax():
    ours, theirs = RNN(Noisy(4), **OPTIONS), nn.RNN(Noisy(4), return_carry=True, **OPTIONS)
    variables = ours.init(KEYS, X)
    mutable = ["batch_stats", "intermediates"]
    variables = {name: variables[name] for name in ("params", "batch_stats")}
    run, flax = (
        jax.jit(lambda v, layer=layer: layer.apply(v, X, rngs=KEYS, mutable=mutable))
        for layer in (ours, theirs)
    )
    (carry, outputs), state = run(variables)
    assert_trees_close(((carry, outputs), state), flax(variables))
    np.testing.assert_array_equal(state["intermediates"]["cell"]["h"][0], np.swapaxes(outputs, 0, 1))
    assert state["batch_stats"]["cell"]["BatchNorm_0"]["mean"].any()
    zeros = np.asarray(outputs) == 0
    assert (zeros[:, 0] != zeros[:, 1]).any()  # another mask at another step


def test_what_a_cell_sows_is_kept_without_any_option():
    class Sowing(LSTMCell):
        def step(self, weights, carry, z, hidden_mask=None):
            carry, output = super().step(weights, carry, z, hidden_mask)
            self.sow("intermediates", "c", carry.c)
            return carry, output

    layer = Stacked([RNN(Sowing(4))])
    (_, outputs), state = layer.apply({"params": parameters(layer)}, X, mutable="intermediates")
    (c,) = state["intermediates"]["layers_0"]["cell"]["c"]
    assert c.shape == (4, 3, 4)
    assert np.abs(c).max() > np.abs(outputs).max()


def test_a_layer_whose_lifting_is_set_is_scanned_and_the_fused_backend_refuses_it():
    layer = RNN(GRUCell(4), split_rngs={"params": False, "dropout": True})
    params = parameters(layer)
    scanned = RNN(GRUCell(4), backend="scan")
    program, expected = (str(jax.make_jaxpr(each.apply)({"params": params}, X)) for each in (layer, scanned))
    assert program.count("custom_jvp") == expected.count("custom_jvp")
    with pytest.raises(InputError, match=r'backend is "fused", but .*split_rngs'):
        layer.clone(backend="fused").apply({"params": params}, X)


@pytest.mark.slow
def test_remat_of_a_layer_with_dropout_needs_static_argnums_and_the_error_says_so():
    options = {"cell": LSTMCell(4), "recurrent_dropout": 0.5}
    plain = RNN(**options)
    variables, rngs = {"params": parameters(plain)}, {"dropout": KEYS["dropout"]}

    def gradient(layer):
        def total(variables):
            return (layer.apply(variables, X, None, None, False, rngs=rngs)[1] ** 2).sum()

        return jax.jit(jax.grad(total))(variables)

    assert_trees_close(gradient(nn.remat(RNN, static_argnums=(4,))(**options)), gradient(plain))
    with pytest.raises(InputError, match=r"deterministic is traced.*nn.remat\(RNN, static_argnums=\(4,\)\)"):
        gradient(nn.remat(RNN)(**options))


@pytest.mark.slow
def test_a_layer_runs_in_nnx():
    layer = nnx.bridge.ToNNX(RNN(LSTMCell(4)), rngs=nnx.Rngs(0)).lazy_init(X)
    carry, outputs = layer(X)
    assert carry.h.shape == (3, 4)
    np.testing.assert_array_equal(outputs[:, -1], carry.h)
