"""JAX's transformations of every layer on both backends, against differences, loops and one long run."""

from functools import partial

import jax
import numpy as np
import pytest

from rnn_jax import RNN, Bidirectional, Stacked
from tests.helpers.cases import CELLS, SIZE, a_batch, parameters, run_of
from tests.helpers.oracle import assert_trees_close, random_like

LENGTHS, TIME = np.array([2, 0, 3]), 3


def rnn(name, backend, units=2):
    return RNN(CELLS[name][0](units), backend=backend)


def both_ways(name, backend):
    return Bidirectional(rnn(name, backend), rnn(name, backend))


MAKERS = {
    "simple": partial(rnn, "simple"),
    "gru": partial(rnn, "gru"),
    "lstm": partial(rnn, "lstm"),
    "bidirectional": partial(both_ways, "lstm"),
    "stacked": lambda backend: Stacked([both_ways("gru", backend), rnn("lstm", backend)]),
    "forward_stack": lambda backend: Stacked([rnn("gru", backend), rnn("lstm", backend)]),
}
CASES = [(name, backend) for backend in ("fused", "scan") for name in MAKERS]
FAST = {("lstm", "fused"), ("gru", "scan")}  # the others are slow to compile
every_layer = pytest.mark.parametrize(
    ("name", "backend"),
    [pytest.param(*case, marks=[] if case in FAST else pytest.mark.slow) for case in CASES],
)


def case_of(layer, seed=0, time=TIME):
    """Returns (params, x, initial carry), random."""
    params, x = parameters(layer, seed), a_batch(seed, len(LENGTHS), time)
    carry, _ = jax.eval_shape(layer.apply, {"params": params}, x)
    return params, x, random_like(carry, seed + 7)


def loss(layer, case):
    """Returns a scalar of all outputs and the whole carry, each entry with a weight of its own."""
    params, x, initial = case
    leaves = jax.tree.leaves(layer.apply({"params": params}, x, LENGTHS, initial))
    return sum((random_like(leaf, seed) * leaf**2).sum() for seed, leaf in enumerate(leaves))


@pytest.mark.slow
@every_layer
def test_grad_jvp_and_hessian_vector_products_are_differences(name, backend):
    with jax.enable_x64(True):
        layer, step = MAKERS[name](backend), 1e-5
        case = jax.tree.map(partial(np.asarray, dtype=np.float64), case_of(layer))
        way = random_like(case, seed=9)
        # One program: the slope along `way` forward, the gradient backward, and the one of the other.
        run = jax.jit(lambda case: jax.jvp(jax.value_and_grad(partial(loss, layer)), (case,), (way,)))
        (_, gradient), (slope, product) = run(case)
        (ahead, gradient_ahead), (behind, gradient_behind) = (
            run(jax.tree.map(lambda leaf, along, sign=sign: leaf + sign * step * along, case, way))[0]
            for sign in (1, -1)
        )
        difference = (ahead - behind) / (2 * step)
        along = jax.tree.map(lambda leaf, along: (leaf * along).sum(), gradient, way)
        np.testing.assert_allclose(slope, difference, rtol=1e-7)
        np.testing.assert_allclose(sum(jax.tree.leaves(along)), difference, rtol=1e-7)
        curved = jax.tree.map(lambda a, b: (a - b) / (2 * step), gradient_ahead, gradient_behind)
        assert_trees_close(product, curved, rtol=1e-6, atol=1e-8)
        assert max(np.abs(leaf).max() for leaf in jax.tree.leaves(product)) > 1e-3


@pytest.mark.slow
@every_layer
def test_vmap_over_networks_and_batches_is_a_loop_of_calls_and_jit_changes_nothing(name, backend):
    layer = MAKERS[name](backend)
    cases = [(*case_of(layer, seed), np.roll(LENGTHS, seed)) for seed in range(2)]

    def run(params, x, initial, lengths):
        return layer.apply({"params": params}, x, lengths, initial)

    mapped = jax.jit(jax.vmap(run))(*jax.tree.map(lambda *leaves: np.stack(leaves), *cases))
    for index, case in enumerate(cases):  # op by op, not compiled
        assert_trees_close(jax.tree.map(lambda leaf, at=index: leaf[at], mapped), run(*case))


@pytest.mark.slow
@every_layer
def test_a_checkpointed_layer_has_the_gradient_of_the_layer(name, backend):
    layer = MAKERS[name](backend)
    kept = jax.checkpoint(partial(loss, layer))
    assert "remat" in str(jax.make_jaxpr(kept)(case_of(layer)))
    again, expected = jax.jit(lambda case: (jax.grad(kept)(case), jax.grad(partial(loss, layer))(case)))(
        case_of(layer)
    )
    assert_trees_close(again, expected)


@pytest.mark.slow
@every_layer
def test_a_scan_over_chunks_is_a_loop_and_for_forward_layers_one_long_run(name, backend):
    layer, chunks, size = MAKERS[name](backend), 2, TIME
    params, x, initial = case_of(layer, time=chunks * size)
    lengths = np.array([5, 0, 2])
    parts = x.reshape(len(x), chunks, size, SIZE).swapaxes(0, 1)
    lengths_of_parts = np.clip(lengths - size * np.arange(chunks)[:, None], 0, size)

    def read(carry, part_and_lengths):
        return layer.apply({"params": params}, *part_and_lengths, carry)

    scanned, outputs = jax.jit(lambda: jax.lax.scan(read, initial, (parts, lengths_of_parts)))()
    read, carry, pieces = jax.jit(read), initial, []
    for part in zip(parts, lengths_of_parts, strict=True):
        carry, piece = read(carry, part)
        pieces.append(piece)
    assert_trees_close((scanned, outputs), (carry, np.stack(pieces)))
    if name not in ("bidirectional", "stacked"):  # their second direction begins anew in every chunk
        whole = run_of(layer)(params, x, lengths, initial)
        assert_trees_close((scanned, np.concatenate(outputs, axis=1)), whole)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["fused", "scan"])
def test_a_scan_over_depth_is_a_stack(backend):
    layers = [rnn("gru", backend, units=SIZE) for _ in range(3)]
    stack, x = Stacked(layers), a_batch(batch=len(LENGTHS), time=TIME)
    params = parameters(stack)
    deep = jax.tree.map(lambda *leaves: np.stack(leaves), *(params[f"layers_{depth}"] for depth in range(3)))

    def read(x, params):
        carry, outputs = layers[0].apply({"params": params}, x, LENGTHS)
        return outputs, carry

    top, carries = jax.jit(lambda: jax.lax.scan(read, x, deep))()
    expected, outputs = run_of(stack)(params, x, LENGTHS)
    assert_trees_close((list(carries), top), (expected, outputs))


@pytest.mark.slow
@every_layer
def test_gradients_by_example_are_those_of_each_row_alone(name, backend):
    layer = MAKERS[name](backend)
    params, x, initial = case_of(layer)

    def row_loss(params, x, length, initial):
        carry, outputs = layer.apply(
            {"params": params}, *jax.tree.map(lambda a: a[None], (x, length, initial))
        )
        return (outputs**2).sum() + sum((leaf**2).sum() for leaf in jax.tree.leaves(carry))

    gradient = jax.grad(row_loss)
    by_example = jax.jit(jax.vmap(gradient, in_axes=(None, 0, 0, 0)))(params, x, LENGTHS, initial)
    alone = jax.jit(gradient)
    for row, length in enumerate(LENGTHS):
        expected = alone(params, x[row], length, jax.tree.map(lambda leaf, row=row: leaf[row], initial))
        assert_trees_close(jax.tree.map(lambda leaf, row=row: leaf[row], by_example), expected)
        assert any(np.abs(leaf).max() > 1e-3 for leaf in jax.tree.leaves(expected)) == (length > 0)
