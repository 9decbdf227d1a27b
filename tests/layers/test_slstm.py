"""SLSTMCell against the plain exponential equations, where these overflow too, and its derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from rnn_jax import RNN, SLSTMCell
from rnn_jax.layers import SLSTMCarry
from tests.helpers import oracle
from tests.helpers.cases import LENGTHS, TIME, UNITS, a_batch, padded_with, parameters
from tests.helpers.oracle import assert_trees_close, random_like

LAYER = RNN(SLSTMCell(UNITS))


def a_carry():
    drawn = random_like(SLSTMCell(UNITS).initialize_carry(jax.random.key(0), (4, 3)), 3)
    return drawn._replace(n=np.abs(drawn.n) + 0.5)


@pytest.mark.parametrize("given", [False, True])
def test_it_is_the_papers_equations_on_ragged_rows(given):
    params, x, carry = parameters(LAYER), a_batch(), a_carry() if given else None
    found = jax.jit(LAYER.apply)({"params": params}, padded_with(x, LENGTHS, np.nan), LENGTHS, carry)
    first = carry or SLSTMCarry(*[np.zeros((4, UNITS))] * 4)
    assert_trees_close(found, oracle.over_time(oracle.slstm, params["cell"], x, LENGTHS, first))


@pytest.mark.parametrize("bias", [500.0, -500.0])
def test_gates_beyond_what_an_exponential_holds_give_finite_values_and_gradients(bias):
    """exp(500) overflows and exp(-500) is 0. A common factor of all inputs cancels: h is that of no bias."""
    params, x = parameters(LAYER), a_batch()
    far = jax.tree.map(lambda leaf: leaf, params)
    far["cell"]["hi"]["bias"] = params["cell"]["hi"]["bias"] + bias
    plain, outputs = (
        jax.jit(jax.value_and_grad(lambda p: (LAYER.apply({"params": p}, x)[1] ** 2).sum()))(given)
        for given in (params, far)
    )
    assert_trees_close(outputs[0], plain[0], rtol=1e-3)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(outputs))


@pytest.mark.slow
def test_gradients_are_finite_differences():
    with jax.enable_x64(True):
        case = jax.tree.map(
            lambda leaf: jnp.asarray(leaf, jnp.float64), (parameters(LAYER), a_batch(time=3), a_carry())
        )
        run = jax.jit(lambda params, x, carry: LAYER.apply({"params": params}, x, None, carry))
        check_grads(run, case, order=1, modes=["fwd", "rev"], rtol=1e-6, atol=1e-6)


def test_dropout_reaches_its_recurrent_product():
    layer, x = RNN(SLSTMCell(UNITS), recurrent_dropout=0.5), a_batch()
    params = parameters(layer)
    _, kept = layer.apply({"params": params}, x)
    _, dropped = layer.apply({"params": params}, x, deterministic=False, rngs={"dropout": jax.random.key(1)})
    np.testing.assert_array_equal(kept[:, 0], dropped[:, 0])  # the first step's h is zero
    assert np.abs(kept - dropped)[:, TIME - 1].max() > 1e-3
