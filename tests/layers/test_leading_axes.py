"""x [T, E] and [..., T, E], as Flax's and torch's layers read: what a loop over the leading axes gives."""

import itertools
from functools import cache

import jax
import numpy as np
import pytest

from rnn_jax.errors import InputError
from tests.helpers.cases import (
    LAYERS,
    SIZE,
    TIME,
    a_batch,
    carry_of,
    padded_with,
    parameters,
    rnn,
    run_of,
    slow_but,
)
from tests.helpers.oracle import assert_trees_close, random_like

LENGTHS = np.array([[4, 0, 6], [1, 5, 2]])
NAMES = ["lstm", "gru_reverse", "norm_lstm", "bidirectional", "stacked", "flax_cells"]


@cache
def calls_of(name):
    """Returns a compiled function of a call and of `method="carries"`, both in one program."""

    @jax.jit
    def calls(params, *arguments):
        variables = {"params": params}
        return [LAYERS[name].apply(variables, *arguments, method=method) for method in (None, "carries")]

    return calls


def flat(tree):
    """Returns a tree with leaves [2, 3, ...] as [6, ...]."""
    return jax.tree.map(lambda leaf: leaf.reshape(6, *leaf.shape[2:]), tree)


def a_grid(name):
    """Returns parameters, x [2, 3, T, E] with NaN at padding, and a carry [2, 3, H]."""
    x = a_batch(batch=6).reshape(2, 3, TIME, SIZE)
    x = padded_with(x.reshape(6, TIME, SIZE), LENGTHS.reshape(6), np.nan).reshape(x.shape)
    carry = jax.tree.map(lambda leaf: np.zeros((2, 3, *leaf.shape[1:]), leaf.dtype), carry_of(LAYERS[name]))
    return parameters(LAYERS[name]), x, random_like(carry, 5)


@pytest.mark.parametrize("name", slow_but(["norm_lstm", "stacked"], NAMES))
def test_two_leading_axes_are_a_loop_over_them(name):
    """Of calls and of carries after every step."""
    call, (params, x, initial) = calls_of(name), a_grid(name)
    whole = call(params, x, LENGTHS, initial)
    assert_trees_close(flat(whole), call(params, *flat((x, LENGTHS, initial))))
    for place in itertools.product(range(2), range(3)):
        here = jax.tree.map(lambda leaf, at=place: leaf[at], (x, LENGTHS, initial))
        alone = call(params, *here)  # [T, E], lengths []: no leading axis
        assert_trees_close(jax.tree.map(lambda leaf, at=place: leaf[at], whole), alone)


@pytest.mark.parametrize("name", slow_but(["bidirectional", "flax_cells"], NAMES))
def test_without_lengths_and_carry_too(name):
    run, (params, x, _) = run_of(LAYERS[name]), a_grid(name)
    x = np.nan_to_num(x)
    carry, outputs = run(params, x)
    flat_carry, flat_outputs = run(params, flat(x))
    assert outputs.shape == (2, 3, *flat_outputs.shape[1:])
    assert_trees_close(outputs.reshape(flat_outputs.shape), flat_outputs, 0, 0)
    assert_trees_close(flat(carry), flat_carry, 0, 0)
    assert_trees_close(LAYERS[name].final_hidden(carry)[1, 2], LAYERS[name].final_hidden(flat_carry)[5], 0, 0)


def test_a_first_call_may_have_any_leading_axes():
    x = a_batch()
    shapes = [
        jax.tree.map(np.shape, jax.eval_shape(LAYERS["stacked"].init, jax.random.key(0), y))
        for y in (x, x[0], x[None], x[:, None])
    ]
    assert all(shape == shapes[0] for shape in shapes)


@pytest.mark.slow
def test_gradients_are_those_of_the_flat_batch():
    layer, (params, x, initial) = LAYERS["stacked"], a_grid("stacked")

    def total(params, x, lengths, carry):
        carry, outputs = layer.apply({"params": params}, x, lengths, carry)
        return (outputs**2).sum() + sum((leaf**3).sum() for leaf in jax.tree.leaves(carry))

    gradient = jax.jit(jax.grad(total, (0, 1)))
    ours = gradient(params, x, LENGTHS, initial)
    theirs = gradient(params, *flat((x, LENGTHS, initial)))
    assert_trees_close(ours[0], theirs[0])
    assert_trees_close(flat(ours[1]), theirs[1])


@pytest.mark.parametrize(
    ("x", "lengths", "message"),
    [
        (np.zeros(SIZE), None, r"x has shape \(3,\)"),
        (np.zeros((2, 3, TIME, SIZE)), np.zeros(2, int), r"lengths has shape \(2,\).*\(2, 3\)"),
        (np.zeros((TIME, SIZE)), np.zeros(1, int), r"lengths has shape \(1,\).*\(\)"),
    ],
)
def test_shapes_that_do_not_fit_are_named(x, lengths, message):
    with pytest.raises(InputError, match=message):
        rnn().apply({"params": parameters(rnn())}, x, lengths)


def test_a_carry_of_other_leading_axes_is_named():
    params, x, _ = a_grid("lstm")
    wrong = tuple(np.zeros((3, 2, 4), np.float32) for _ in range(2))
    with pytest.raises(InputError, match=r"initial_carry has shape.*\(3, 2, 4\).*\(2, 3\)"):
        LAYERS["lstm"].apply({"params": params}, x, None, wrong)
