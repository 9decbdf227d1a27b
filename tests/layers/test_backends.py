"""The backends of a layer: the rule of "auto" holds what was measured, and layers run what it says."""

import json
from functools import cache, partial
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnn_jax import RNN, LSTMCell
from rnn_jax.errors import InputError
from rnn_jax.layers import Cell, FusedStep, recurrent_product
from rnn_jax.layers.backends import Work, fastest
from rnn_jax.native import why_missing
from tests.helpers.oracle import assert_trees_close, random_like

MEASURED = Path(__file__).parents[2] / "docs" / "backends.json"
SLOWER = 1.05
native = pytest.mark.skipif(bool(why_missing()), reason=why_missing())


@cache
def measured():
    """Returns (name, backends, work, milliseconds by backend) of every layer in the file."""
    found = []
    for name, record in json.loads(MEASURED.read_text()).items():
        case = record["settings"]
        if case["mode"] != "product":
            times = {backend: record[backend]["ms"] for backend in case["backends"]}
            found.append((name, Work(case["B"], case["T"], case["H"], case["mode"] == "train"), times))
    return found


def losers(rule):
    """Returns where what a rule takes was more than a twentieth slower than the fastest backend."""
    return [
        name for name, work, times in measured() if times[rule([*times], work)] > SLOWER * min(times.values())
    ]


def test_auto_is_nowhere_more_than_a_twentieth_slower_than_another_backend():
    assert not losers(fastest)


@pytest.mark.parametrize("name", ["native", "fused", "scan"])
def test_the_measurements_tell_the_rule_from_one_backend_for_all(name):
    assert losers(lambda able, work: name if name in able else able[0])


def test_the_measurements_have_single_steps_one_row_and_wide_layers():
    works = [work for _, work, times in measured() if "native" in times]
    assert {work.rows for work in works} >= {1, 32, 256}
    assert {work.steps for work in works} >= {1, 2, 4, 8, 100}
    assert {work.units for work in works} >= {16, 32, 64, 128, 256, 512, 1024}
    assert {work.gradients for work in works} == {False, True}


def programs(units, rows, steps, remat=None):
    """Returns the jaxprs of a layer's values and of its gradients in the weights, under "auto"."""
    layer, x = RNN(LSTMCell(units), remat=remat), jnp.ones((rows, steps, 3))
    params = jax.eval_shape(layer.init, jax.random.key(0), x)

    def loss(params, x):
        return layer.apply(params, x)[1].sum()

    return str(jax.make_jaxpr(layer.apply)(params, x)), str(jax.make_jaxpr(jax.grad(loss))(params, x))


@native
@pytest.mark.parametrize(
    ("sizes", "values_native", "gradients_native"),
    [((32, 32, 100), True, True), ((128, 4, 100), False, True), ((512, 1, 100), False, False)],
)
def test_a_layer_runs_what_the_rule_says_for_values_and_for_gradients(sizes, values_native, gradients_native):
    values, gradients = programs(*sizes)
    assert ("rnn_forward[" in values) == values_native
    assert ("rnn_backward[" in gradients) == gradients_native
    assert "moves=True" not in gradients  # x has no gradient


def test_one_step_is_not_a_loop_of_chunks_unless_remat_asks_for_it():
    assert "custom_jvp_call" not in programs(4, 64, 1)[0]
    assert "custom_jvp_call" in programs(4, 64, 1, remat=True)[0]


def weighed(layer, params, x, carry, lengths):
    """Returns a scalar of all values, each with a weight of its own, and the values."""
    values = layer.apply({"params": params}, x, lengths, carry)
    leaves = jax.tree.leaves(values)
    return sum((random_like(leaf, seed) * leaf).sum() for seed, leaf in enumerate(leaves)), values


def assert_equal_to_the_scan(layer, x, lengths, backends, seed=0, size=1.0):
    params = random_like(jax.eval_shape(layer.init, jax.random.key(0), x)["params"], seed)
    params = jax.tree.map(lambda leaf: size * leaf, params)  # small: a rounding error does not grow by steps
    carry = random_like(layer.cell.initialize_carry(jax.random.key(0), (len(x), x.shape[-1])), seed + 1)
    (expected_gradients, expected), *others = (
        jax.jit(jax.grad(partial(weighed, layer.clone(backend=backend)), (0, 1, 2), has_aux=True))(
            params, x, carry, lengths
        )
        for backend in ("scan", *backends)
    )
    for backend, (gradients, values) in zip(backends, others, strict=True):
        alone = jax.jit(layer.clone(backend=backend).apply)({"params": params}, x, lengths, carry)
        assert_trees_close(values, expected, rtol=0, atol=1e-5)
        assert_trees_close(alone, expected, rtol=0, atol=1e-5)
        assert_trees_close(gradients, expected_gradients, rtol=1e-4, atol=1e-4)


def test_values_of_one_backend_and_gradients_of_another_are_those_of_the_scan():
    x = np.random.default_rng(0).normal(size=(4, 70, 3)).astype(np.float32)
    layer = RNN(LSTMCell(66))
    assert fastest(["native", "fused"], Work(4, 70, 66, gradients=True)) == "native"
    assert fastest(["native", "fused"], Work(4, 70, 66, gradients=False)) == "fused"
    assert_equal_to_the_scan(layer, x, jnp.array([70, 31, 0, 70]), ["auto"], size=0.1)


def light_activations(h, z, q, extras):
    update, new = jnp.split(z + q, 2, axis=-1)
    return jax.nn.sigmoid(update), new


def light_next(h, activations, extras):
    update, new = activations
    return update * h + (1 - update) * jax.nn.relu(new)


def light_jacobian(h, new_h, activations, extras):
    update, new = activations
    by_update = update * (1 - update) * (h - jax.nn.relu(new))
    return by_update, jnp.where(new > 0, 1 - update, 0), update


def light_input_tangent(jacobian, z_dot, q_dot, extras_dot):
    return z_dot + q_dot


def light_carry_tangent(jacobian, h_dot, input_tangent, q_dot):
    by_update, by_new, by_h = jacobian
    update, new = jnp.split(input_tangent + q_dot, 2, axis=-1)
    return by_h * h_dot + by_update * update + by_new * new


class LightGRUCell(Cell):
    """A GRU without a reset gate, with a rectifier for tanh (Ravanelli et al. 2018), as a user writes it."""

    fused_step = FusedStep(
        light_activations, light_next, light_jacobian, light_input_tangent, light_carry_tangent
    )

    @nn.compact
    def weights(self, input_size):
        units = self.features
        kernel, bias = (self.kernel_init, (input_size, units)), (self.bias_init, (units,))
        recurrent_kernel = self.recurrent_kernel_init, (units, units)
        pairs = [self.parameters(f"i{gate}", kernel=kernel, bias=bias) for gate in "zn"]
        recurrent = [self.parameters(f"h{gate}", kernel=recurrent_kernel)[0] for gate in "zn"]
        kernels, biases = zip(*pairs, strict=True)
        return self.join_gates(kernels, recurrent, biases)

    def step(self, weights, carry, z, hidden_mask=None):
        update, new = jnp.split(z + recurrent_product(weights, carry, hidden_mask), 2, axis=-1)
        update = jax.nn.sigmoid(update)
        h = update * carry + (1 - update) * jax.nn.relu(new)
        return h, h.astype(weights.recurrent.dtype)


def test_a_cell_of_ones_own_runs_under_scan_fused_and_auto():
    x = np.random.default_rng(0).normal(size=(3, 30, 5)).astype(np.float32)
    lengths = jnp.array([30, 0, 17])
    for reverse in (False, True):
        layer = RNN(LightGRUCell(4), reverse=reverse)
        assert_equal_to_the_scan(layer, x / 4, lengths, ["fused", "auto"])


@native
def test_the_kernels_say_why_they_do_not_run_a_cell_of_ones_own():
    layer = RNN(LightGRUCell(4), backend="native")
    with pytest.raises(
        InputError, match=r'backend is "native".*know SimpleCell, LSTMCell and GRUCell.*"auto"'
    ):
        layer.init(jax.random.key(0), jnp.ones((1, 2, 3)))
