"""The pure functions on padded batches, against numpy loops over the valid steps; padding holds NaN."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnn_jax.layers.masking import (
    max_over_time,
    mean_over_time,
    softmax_over_time,
    valid_steps,
    zero_padding,
)
from tests.helpers.cases import LENGTHS, TIME, a_batch, padded_with

x_BTF = padded_with(a_batch(), LENGTHS, np.nan)
REDUCTIONS = {"mean": (mean_over_time, np.mean), "max": (max_over_time, np.max)}
every_reduction = pytest.mark.parametrize("name", REDUCTIONS)


def test_valid_steps_counts_from_the_left():
    expected = [[step < length for step in range(TIME)] for length in LENGTHS]
    assert valid_steps(LENGTHS, TIME).tolist() == expected


def test_zero_padding_keeps_valid_steps_and_clears_the_others():
    np.testing.assert_array_equal(zero_padding(x_BTF, LENGTHS), np.nan_to_num(x_BTF))
    assert zero_padding(x_BTF, None) is x_BTF


@every_reduction
def test_a_reduction_reads_the_valid_steps_only(name):
    reduce, numpy_reduce = REDUCTIONS[name]
    expected = [
        numpy_reduce(row[:length], axis=0) if length else np.zeros(3)
        for row, length in zip(x_BTF, LENGTHS, strict=True)
    ]
    np.testing.assert_allclose(reduce(x_BTF, LENGTHS), expected, rtol=1e-6)


@pytest.mark.slow
@every_reduction
def test_the_gradient_of_a_reduction_is_zero_at_padding(name):
    gradient = jax.grad(lambda x: REDUCTIONS[name][0](x, LENGTHS).sum())(x_BTF)
    padding = np.arange(TIME) >= LENGTHS[:, None]
    assert np.isfinite(gradient).all()
    assert not gradient[padding].any()
    sums = np.asarray(gradient).sum(axis=1)
    np.testing.assert_allclose(sums, np.broadcast_to(LENGTHS[:, None] > 0, sums.shape), rtol=1e-6)


def test_the_maximum_of_negative_values_is_not_the_padding():
    x = jnp.full((1, 3, 2), -5.0)
    np.testing.assert_array_equal(max_over_time(x, jnp.array([2])), [[-5, -5]])


@pytest.mark.slow
def test_softmax_weights_sum_to_one_over_the_valid_steps():
    scores = x_BTF[:, :, 0]
    weights = np.asarray(softmax_over_time(scores, LENGTHS))
    for row, length in enumerate(LENGTHS):
        powers = np.exp(scores[row, :length])
        np.testing.assert_allclose(weights[row, :length], powers / powers.sum(), rtol=1e-6)
        assert not weights[row, length:].any()
    np.testing.assert_allclose(weights.sum(axis=1), LENGTHS > 0, rtol=1e-6)
    gradient = jax.grad(lambda scores: (softmax_over_time(scores, LENGTHS) ** 2).sum())(scores)
    assert np.isfinite(gradient).all()
