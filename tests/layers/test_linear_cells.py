"""Linear cells against their papers' formulas in numpy, and the linear backend against the cells' steps."""

import re
from functools import cache, partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from rnn_jax import (
    RNN,
    Bidirectional,
    LRUCell,
    LSTMCell,
    MinGRUCell,
    MinLSTMCell,
    RGLRUCell,
    SRUCell,
    Stacked,
)
from rnn_jax.errors import InputError
from rnn_jax.layers import LinearCarry, LinearCell, Terms
from rnn_jax.layers.gated import decay, shares
from rnn_jax.native import cores, why_missing
from tests.helpers import oracle
from tests.helpers.cases import LENGTHS, LINEAR, TIME, UNITS, a_batch, padded_with, parameters, rnn, slow_but
from tests.helpers.oracle import assert_trees_close, random_like

LONG = 16_384
every_linear = pytest.mark.parametrize("name", LINEAR)
a_few_linear = pytest.mark.parametrize("name", slow_but(["min_gru", "lru"], LINEAR))


def weighed(layer, params, x, carry, lengths=None):
    """Returns a scalar of all values, each with a weight of its own, and the values."""
    values = layer.apply({"params": params}, x, lengths, carry)
    leaves = jax.tree.leaves(values)
    return sum((random_like(leaf, at) * leaf).sum() for at, leaf in enumerate(leaves)), values


def gradients_of(layer):
    """Returns (params, x, carry, lengths) -> (gradients of the first three, values)."""
    return jax.jit(jax.grad(partial(weighed, layer), (0, 1, 2), has_aux=True))


def case_of(layer, rows=4, time=TIME, seed=0):
    carry = layer.cell.initialize_carry(jax.random.key(0), (rows, 3))
    return parameters(layer, seed + 1), a_batch(seed, rows, time), random_like(carry, seed + 3)


@every_linear
def test_a_step_is_the_papers_equations(name):
    cell, step = LINEAR[name][0](UNITS), LINEAR[name][1]
    params, x, carry = case_of(RNN(cell), time=1)
    new, output = jax.jit(cell.apply)({"params": params["cell"]}, carry, x[:, 0])
    expected = oracle.over_time(step, params["cell"], x, [1] * 4, jax.tree.leaves(carry))
    assert_trees_close((new, output[:, None]), expected)


@pytest.mark.parametrize("reverse", [False, True])
@every_linear
def test_the_backend_is_a_loop_over_the_valid_steps_and_so_are_its_gradients(name, reverse):
    """Padding is NaN. Row 1 is empty."""
    params, x, carry = case_of(rnn(name))
    given = params, padded_with(x, LENGTHS, np.nan), carry, LENGTHS
    layers = (rnn(name, backend=backend, reverse=reverse) for backend in ("linear", "scan"))
    found, expected = (gradients_of(layer)(*given) for layer in layers)
    assert_trees_close(found, expected, rtol=1e-5, atol=2e-6)
    in_numpy = oracle.over_time(LINEAR[name][1], params["cell"], x, LENGTHS, jax.tree.leaves(carry), reverse)
    assert_trees_close(found[1], in_numpy)
    gradient = np.asarray(found[0][1])
    valid = np.arange(TIME) < LENGTHS[:, None]
    assert not gradient[~valid].any()
    assert np.abs(gradient[valid]).max(axis=-1).min() > 1e-6


@cache
def long_case():
    x = np.random.default_rng(0).normal(size=(2, LONG, 3)).astype(np.float32)
    return x, np.array([LONG, LONG - 1000])


@a_few_linear
def test_sixteen_thousand_steps_are_the_steps_of_the_cell(name):
    x, lengths = long_case()
    layers = [rnn(name, backend=backend) for backend in ("linear", "scan")]
    params = layers[0].init(jax.random.key(0), x[:, :2])["params"]
    found, expected = (jax.jit(layer.apply)({"params": params}, x, lengths) for layer in layers)
    assert_trees_close(found, expected, rtol=0, atol=1e-6 * max(1, float(np.abs(expected[1]).max())))
    assert np.abs(np.asarray(found[1])[:, -1001]).max() > 1e-3


@pytest.mark.parametrize("name", slow_but(["sru"], LINEAR))
def test_bfloat16_is_near_float32_with_a_float32_carry(name):
    x, _ = long_case()
    variables, x = rnn(name).init(jax.random.key(0), x[:, :2]), x[:, :2000]
    exact = jax.jit(rnn(name).apply)(variables, x)
    carry, outputs = jax.jit(RNN(LINEAR[name][0](UNITS, dtype=jnp.bfloat16)).apply)(variables, x)
    assert outputs.dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves(carry)} == {jnp.dtype("float32")}
    assert_trees_close((carry, outputs.astype(jnp.float32)), exact, rtol=0, atol=0.05)
    assert not np.array_equal(outputs.astype(jnp.float32), exact[1])


@every_linear
def test_a_stream_of_single_steps_is_the_batch(name):
    params, x, carry = case_of(rnn(name))
    last, outputs = jax.jit(rnn(name).apply)({"params": params}, x, None, carry)
    read = jax.jit(rnn(name).apply)
    for t in range(TIME):
        carry, output = read({"params": params}, x[:, t : t + 1], None, carry)
        np.testing.assert_allclose(output[:, 0], outputs[:, t], atol=1e-6)
    assert_trees_close(carry, last)


@pytest.mark.parametrize("name", ["sru", "lru"])
def test_the_carried_output_is_that_of_the_last_valid_step(name):
    """It reads x_t, so that the state after the padding does not tell it."""
    params, x, carry = case_of(rnn(name))
    for reverse in (False, True):
        layer, padded = rnn(name, reverse=reverse), padded_with(x, LENGTHS, np.nan)
        last, outputs = jax.jit(layer.apply)({"params": params}, padded, LENGTHS, carry)
        at = np.zeros(4, int) if reverse else np.maximum(LENGTHS - 1, 0)
        expected = np.where(LENGTHS[:, None] > 0, np.asarray(outputs)[np.arange(4), at], carry.h)
        np.testing.assert_allclose(layer.final_hidden(last), expected, rtol=1e-6)
        assert isinstance(last, LinearCarry)


@pytest.mark.slow
@every_linear
def test_both_modes_and_the_second_order_are_those_of_the_steps(name):
    with jax.enable_x64(True):
        case = jax.tree.map(partial(np.asarray, dtype=np.float64), case_of(rnn(name), time=4))
        way = random_like(case, 5)

        def derivatives(backend):
            def loss(case):
                return weighed(rnn(name, backend=backend), *case, lengths=np.array([4, 0, 3, 1]))[0] ** 2

            return jax.jit(lambda: jax.jvp(jax.value_and_grad(loss), (case,), (way,)))()

        found, expected = derivatives("linear"), derivatives("scan")
        assert_trees_close(found, expected, rtol=1e-9, atol=1e-9)
        (_, gradient), (slope, _) = found
        along = jax.tree.map(lambda a, b: (a * b).sum(), gradient, way)
        np.testing.assert_allclose(sum(jax.tree.leaves(along)), slope, rtol=1e-9)


@pytest.mark.slow
@every_linear
def test_vmap_over_networks_is_a_loop_of_calls(name):
    layer = rnn(name)
    cases = [case_of(layer, seed=seed) for seed in range(2)]
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *cases)
    mapped = jax.vmap(jax.grad(lambda *case: weighed(layer, *case, lengths=LENGTHS)[0], (0, 1, 2)))
    found = jax.jit(mapped)(*stacked)
    for at, case in enumerate(cases):
        alone = jax.grad(lambda *case: weighed(layer, *case, lengths=LENGTHS)[0], (0, 1, 2))(*case)
        assert_trees_close(jax.tree.map(lambda leaf, at=at: leaf[at], found), alone, rtol=1e-4)


@pytest.mark.slow
def test_linear_cells_stack_and_run_both_ways_beside_others():
    def network(backend):
        below = Bidirectional(rnn("min_gru", backend=backend), rnn("sru", backend=backend))
        return Stacked([below, RNN(LSTMCell(3)), rnn("lru", backend=backend)])

    layers = [network("linear"), network("scan")]
    params, x = parameters(layers[0]), padded_with(a_batch(), LENGTHS, np.nan)
    found, expected = (layer.apply({"params": params}, x, LENGTHS) for layer in layers)
    assert_trees_close(found, expected)
    np.testing.assert_array_equal(layers[0].final_hidden(found[0]), found[0][-1].h)


def program_of(layer, rows, time):
    x = jnp.ones((rows, time, 3))
    return str(jax.make_jaxpr(layer.apply)(layer.init(jax.random.key(0), x), x))


def test_auto_runs_the_recurrence_and_one_step_by_the_cell():
    runs = partial(program_of, rnn("sru"), 2)
    assert "linear_recurrence[" in runs(5)
    assert "linear_recurrence[" not in runs(1)
    assert "linear_recurrence[" not in program_of(rnn("sru", backend="scan"), 2, 5)


@pytest.mark.skipif(bool(why_missing()), reason="the native kernels are not built")
@pytest.mark.parametrize("name", ["min_gru", "min_lstm", "rglru"])
def test_one_kernel_runs_products_gates_and_states_where_each_thread_has_a_row(name):
    assert "gated_forward[" in program_of(rnn(name), cores(), 5)
    assert "linear_recurrence[" not in program_of(rnn(name), cores(), 5)
    if cores() > 1:
        assert "linear_recurrence[" in program_of(rnn(name), 1, 5)


def test_terms_of_ones_own_are_not_run_by_the_kernel_of_the_class():
    class Halved(MinGRUCell):
        def terms(self, weights, x):
            a, b, _ = super().terms(weights, x)
            return Terms(a, b / 2)

    params, x = parameters(rnn("min_gru")), a_batch()
    _, plain = rnn("min_gru").apply({"params": params}, x)
    _, halved = RNN(Halved(UNITS)).apply({"params": params}, x)
    np.testing.assert_allclose(halved, plain / 2, rtol=1e-5, atol=1e-6)


def test_a_subclass_with_its_own_call_is_called():
    class Doubled(MinGRUCell):
        def __call__(self, carry, inputs):
            carry, output = super().__call__(carry, inputs)
            return carry, 2 * output

    params, x = parameters(rnn("min_gru")), a_batch()
    _, plain = rnn("min_gru").apply({"params": params}, x)
    _, doubled = RNN(Doubled(UNITS)).apply({"params": params}, x)
    np.testing.assert_allclose(doubled, 2 * plain, rtol=1e-6, atol=1e-6)


class Negated(MinGRUCell):
    def step(self, weights, carry, x):
        carry, output = super().step(weights, carry, x)
        return carry, -output


@pytest.mark.parametrize("backend", ["auto", "scan"])
def test_a_subclass_with_its_own_step_is_stepped(backend):
    params, x = parameters(rnn("min_gru")), a_batch()
    carry, plain = rnn("min_gru").apply({"params": params}, x, LENGTHS)
    found = RNN(Negated(UNITS), backend=backend).apply({"params": params}, x, LENGTHS)
    assert_trees_close(found, (carry, -plain), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("layer", "says"),
    [
        (
            RNN(MinGRUCell(4), backend="native"),
            re.escape(why_missing()) or "native.*know SimpleCell, LSTMCell and GRUCell",
        ),
        (RNN(MinGRUCell(4), backend="fused"), 'backend is "fused", but it runs cells with a fused_step'),
        (RNN(LSTMCell(4), backend="linear"), 'backend is "linear", but it runs linear cells, such as MinGRU'),
        (RNN(Negated(4), backend="linear"), 'backend is "linear", but Negated has a step of its own'),
        (RNN(MinGRUCell(4), recurrent_dropout=0.2), "MinGRUCell has no product of its state"),
        (RNN(MinGRUCell(4), remat=True), "remat is True.*this layer is linear"),
        (RNN(LRUCell(4, most=1.5)), "most is 1.5.*least < most < 1"),
        (RNN(RGLRUCell(4, least=0.0)), "least is 0.0.*0 < least"),
    ],
)
def test_what_cannot_be_is_refused(layer, says):
    with pytest.raises(InputError, match=says):
        layer.init(jax.random.key(0), jnp.ones((2, 3, 5)))


def drawn(cell, size=100):
    return RNN(cell).init(jax.random.key(0), jnp.zeros((1, 2, size)))["params"]["cell"]


def test_rates_start_where_the_papers_have_them():
    lru, rglru = drawn(LRUCell(200)), drawn(RGLRUCell(200))
    size = np.exp(-np.exp(lru["rates"]["nu"]))
    assert 0.5 <= size.min() < 0.55 < 0.95 < size.max() <= 0.99
    np.testing.assert_allclose(np.exp(lru["scale"]["gamma_log"]), np.sqrt(1 - size**2), rtol=1e-3)
    kept = oracle.sigmoid(np.asarray(rglru["rates"]["logit"], np.float64)) ** 8
    assert 0.9 <= kept.min() < 0.91 < 0.99 < kept.max() <= 0.9991


def test_the_rules_of_gates_are_differences():
    with jax.enable_x64(True):
        f, i = np.random.default_rng(0).normal(size=(2, 5))
        check_grads(shares, (f, i), order=2, rtol=1e-6, atol=1e-6)
        check_grads(decay, (-np.abs(f) - 0.3,), order=2, rtol=1e-6, atol=1e-6)


@every_linear
def test_closed_and_open_gates_have_finite_gradients(name):
    """Gates of 0 and 1 in float32: f / (f + i) of both at 0, and the root of 1 - a^2 at 0."""
    params, x, carry = case_of(rnn(name))
    for scale in (300, -300):
        far = jax.tree_util.tree_map_with_path(
            lambda path, leaf, scale=scale: leaf + scale if "bias" in str(path) else leaf, params
        )
        found = gradients_of(rnn(name))(far, x, carry)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found))


def test_sru_takes_inputs_of_its_own_width_as_they_are():
    assert "is" not in drawn(SRUCell(4), size=4)
    assert "is" in drawn(SRUCell(4), size=5)
    params, x = random_like(drawn(SRUCell(3), size=3)), a_batch()
    found = RNN(SRUCell(3)).apply({"params": {"cell": params}}, x)
    expected = oracle.over_time(oracle.sru, params, x, [TIME] * 4, [np.zeros((4, 3))] * 2)
    assert_trees_close(found, expected)


def test_parameters_have_the_names_of_the_docstrings():
    names = {
        MinGRUCell: {"iz", "in"},
        MinLSTMCell: {"if", "ii", "ig"},
        SRUCell: {"ig", "if", "ir", "is"},
        LRUCell: {"ir", "ii", "id", "or", "oi", "rates", "scale"},
        RGLRUCell: {"ir", "ii", "ig", "rates"},
    }
    for cell, expected in names.items():
        assert drawn(cell(4)).keys() == expected


class Decay(LinearCell):
    """h' = h / 2 + W x, as a user writes it: an a that is equal at all steps."""

    @nn.compact
    def weights(self, input_size):
        return self.join_inputs({"i": None}, input_size)

    def terms(self, weights, x):
        (b,) = self.project(weights, x)
        return Terms(jnp.full((1,) * b.ndim, 0.5), b)


def test_a_cell_of_ones_own_is_masked_turned_and_differentiated():
    layer = RNN(Decay(2), reverse=True)
    params, x, carry = case_of(layer)
    layers = (layer.clone(backend=backend) for backend in ("auto", "scan"))
    assert_trees_close(*(gradients_of(layer)(params, x, carry, LENGTHS) for layer in layers))


def test_empty_batches_give_empty_outputs_and_the_first_carry():
    for shape in ((0, 5, 3), (2, 0, 3)):
        for name in ("min_gru", "lru"):
            layer = rnn(name, backend="linear")
            params, x = parameters(layer), np.zeros(shape, np.float32)
            carry = random_like(layer.cell.initialize_carry(jax.random.key(0), (shape[0], 3)))
            last, outputs = layer.apply({"params": params}, x, None, carry)
            assert outputs.shape == (*shape[:2], UNITS)
            assert_trees_close(last, carry, rtol=0, atol=0)
