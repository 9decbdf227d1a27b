"""The blocks of docs/extend.md run as printed; the cell that they add is its equations, on both backends."""

import re
from functools import cache
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rnn_jax import RNN, Bidirectional, GRUCell, Stacked
from tests.helpers import oracle
from tests.helpers.oracle import assert_trees_close, random_like

PAGE = Path(__file__).parents[2] / "docs" / "extend.md"
TEXT = PAGE.read_text()
CELL_SECTION = TEXT[TEXT.index("## Add a cell") :].split("\n## ")[0]
BLOCKS = re.findall(r"```python\n(.*?)```", CELL_SECTION, re.DOTALL)
GATES = "ifgo"
LENGTHS = np.array([30, 0, 15, 17])


@cache
def names():
    """Returns what the blocks define, after all of them have run."""
    found: dict = {}
    for block in BLOCKS:
        exec(block, found)
    return found


def peephole_lstm(p, state, x, mask=1):
    """One step of one row in numpy, from the equations of Gers & Schmidhuber 2000."""
    c, h = state
    i, f, g, o = (oracle.affine(p[f"i{gate}"], x) + oracle.affine(p[f"h{gate}"], h * mask) for gate in GATES)
    peepholes = p["peepholes"]
    c_new = oracle.sigmoid(f + peepholes["f"] * c) * c + oracle.sigmoid(i + peepholes["i"] * c) * np.tanh(g)
    return c_new, oracle.sigmoid(o + peepholes["o"] * c_new) * np.tanh(c_new)


def a_case(seed=0):
    """Returns random (parameters, x, initial carry) of a layer of 4 units on 3 features."""
    cell, x = names()["PeepholeLSTMCell"](4), np.zeros((4, 30, 3), np.float32)
    shapes = jax.eval_shape(RNN(cell).init, jax.random.key(0), x)["params"]
    carry = cell.initialize_carry(jax.random.key(0), (4, 3))
    return tuple(random_like(tree, seed + at) for at, tree in enumerate((shapes, x, carry)))


def weighted(values):
    return sum((random_like(leaf, seed) * leaf).sum() for seed, leaf in enumerate(jax.tree.leaves(values)))


@pytest.mark.slow
def test_the_page_checks_both_directions_and_every_gradient():
    assert len(BLOCKS) == 5
    assert names()["refusal"].startswith('backend is "native", but native kernels ')
    assert set(names()["results"]) == {False, True}
    for gradients, _ in names()["results"].values():
        assert all(np.abs(leaf).max() > 1e-3 for leaf in jax.tree.leaves(gradients))


@pytest.mark.slow
def test_the_check_of_the_page_finds_a_wrong_description(monkeypatch):
    cell = names()["PeepholeLSTMCell"]

    def without_peepholes(jacobian, z_dot, q_dot, peepholes_dot):
        return jnp.split(z_dot + q_dot, 4, axis=-1)

    monkeypatch.setattr(cell, "fused_step", cell.fused_step._replace(input_tangent=without_peepholes))
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        exec(BLOCKS[1], dict(names()))


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["fused", "scan"])
@pytest.mark.parametrize("reverse", [False, True])
def test_values_are_the_equations(reverse, backend):
    layer = RNN(names()["PeepholeLSTMCell"](4), reverse=reverse, backend=backend)
    params, x, initial = a_case()
    found = jax.jit(layer.apply)({"params": params}, x, LENGTHS, initial)
    assert_trees_close(found, oracle.over_time(peephole_lstm, params["cell"], x, LENGTHS, initial, reverse))


@pytest.mark.slow
@pytest.mark.parametrize("remat", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
def test_gradients_are_differences_of_the_equations(reverse, remat):
    """Along random directions, of which each moves one kind of array: also the peepholes alone."""
    with jax.enable_x64(True):
        layer = RNN(names()["PeepholeLSTMCell"](4), reverse=reverse, backend="fused", remat=remat)
        case = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), a_case())

        def loss(params, x, initial):
            return weighted(layer.apply({"params": params}, x, LENGTHS, initial))

        def loss_by_equations(params, x, initial):
            return weighted(oracle.over_time(peephole_lstm, params["cell"], x, LENGTHS, initial, reverse))

        gradients = jax.jit(jax.grad(loss, (0, 1, 2)))(*case)
        leaves, structure = jax.tree.flatten(case)
        for at, leaf in enumerate(leaves):
            way = 1e-5 * random_like(np.asarray(leaf, np.float64), seed=at)
            ahead, behind = (
                loss_by_equations(*structure.unflatten([*leaves[:at], leaf + sign * way, *leaves[at + 1 :]]))
                for sign in (1, -1)
            )
            slope = (jax.tree.leaves(gradients)[at] * way).sum()
            np.testing.assert_allclose(slope, (ahead - behind) / 2, rtol=1e-6, atol=1e-12)


@pytest.mark.slow
def test_it_is_fused_in_every_layer_and_trains_there():
    def both():
        return RNN(names()["PeepholeLSTMCell"](4), recurrent_dropout=0.1)

    network = Stacked([Bidirectional(both(), both()), RNN(GRUCell(4)), both()])
    x = random_like(np.zeros((8, 12, 3), np.float32))
    lengths, targets = np.arange(5, 13), np.sign(x[:, 0, 0])
    params = network.init(jax.random.key(0), x, lengths)["params"]
    assert str(jax.make_jaxpr(network.apply)({"params": params}, x, lengths)).count("custom_jvp_call") == 4
    optimizer = optax.adam(0.05)

    def loss(params, key):
        options = {"deterministic": False, "rngs": {"dropout": key}}
        carry, _ = network.apply({"params": params}, x, lengths, **options)
        return ((network.final_hidden(carry)[:, 0] - 0.5 * targets) ** 2).mean()

    @jax.jit
    def train_step(params, moments, key):
        value, gradients = jax.value_and_grad(loss)(params, key)
        updates, moments = optimizer.update(gradients, moments)
        return optax.apply_updates(params, updates), moments, value

    moments, losses, start = optimizer.init(params), [], params
    for step in range(60):
        params, moments, value = train_step(params, moments, jax.random.key(step))
        losses.append(float(value))
    assert losses[-1] < losses[0] / 4
    moved = jax.tree.map(lambda one, other: jnp.abs(one - other).max(), start, params)
    assert min(jax.tree.leaves(moved["layers_0"]["forward_rnn"]["cell"]["peepholes"])) > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
def test_gradients_of_the_peepholes_have_the_type_of_the_parameters(dtype):
    layer = RNN(names()["PeepholeLSTMCell"](4, dtype=dtype), backend="fused")
    params, x, initial = a_case()

    def loss(params):
        return weighted(layer.apply({"params": params}, x, LENGTHS, initial)[0])

    gradients = jax.jit(jax.grad(loss))(params)
    exact = jax.jit(
        jax.grad(
            lambda p: weighted(
                RNN(names()["PeepholeLSTMCell"](4)).apply({"params": p}, x, LENGTHS, initial)[0]
            )
        )
    )(params)
    for found, expected in zip(jax.tree.leaves(gradients), jax.tree.leaves(exact), strict=True):
        assert found.dtype == expected.dtype == jnp.float32
        assert np.abs(found - expected).max() < 0.05 * np.abs(expected).max()


@pytest.mark.slow
def test_dropout_forward_mode_second_order_and_vmap_are_those_of_the_scan():
    def curvature_of(backend, params, way, *rows):
        layer = RNN(names()["PeepholeLSTMCell"](4), backend=backend, recurrent_dropout=0.5)

        def loss(params, *row):
            options = {"deterministic": False, "rngs": {"dropout": jax.random.key(5)}}
            return weighted(layer.apply({"params": params}, *row, **options))

        def curvature(*row):
            return jax.jvp(lambda params: jax.grad(loss)(params, *row), (params,), (way,))

        return jax.jit(jax.vmap(curvature))(*rows)

    with jax.enable_x64(True):
        params, x, initial = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), a_case())
        arguments = params, random_like(params, seed=9), x, LENGTHS, initial
        fused, scanned = (curvature_of(backend, *arguments) for backend in ("fused", "scan"))
        assert_trees_close(fused, scanned, rtol=1e-9, atol=1e-9)
        assert min(np.abs(leaf).max() for leaf in jax.tree.leaves(fused)) > 1e-3


def qrnn(p, state, x, mask=1):
    """One step of one row in numpy, from the equations of Bradbury et al. 2017."""
    f, o = oracle.sigmoid(oracle.affine(p["if"], x)), oracle.sigmoid(oracle.affine(p["io"], x))
    c = f * state[0] + (1 - f) * np.tanh(oracle.affine(p["iz"], x))
    return c, o * c


@pytest.mark.slow
@pytest.mark.parametrize("reverse", [False, True])
def test_the_linear_cell_is_its_equations(reverse):
    layer = RNN(names()["QRNNCell"](4), reverse=reverse, backend="linear")
    _, x, _ = a_case()
    params = random_like(jax.eval_shape(layer.init, jax.random.key(0), x)["params"])
    initial = random_like(layer.cell.initialize_carry(jax.random.key(0), (4, 3)), 1)
    found = jax.jit(layer.apply)({"params": params}, x, LENGTHS, initial)
    assert_trees_close(found, oracle.over_time(qrnn, params["cell"], x, LENGTHS, initial, reverse))
