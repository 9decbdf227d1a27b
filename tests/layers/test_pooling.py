"""Every kind of pooling against numpy loops over the valid steps; padding holds NaN."""

import jax
import numpy as np
import pytest

from rnn_jax import Pooling
from rnn_jax.layers.pooling import POOLINGS
from tests.helpers.cases import LENGTHS, TIME, a_batch, padded_with
from tests.helpers.oracle import assert_trees_close, random_like

UNITS = 3
x_BTH = padded_with(a_batch(), LENGTHS, np.nan)
final_BH = np.random.default_rng(1).normal(size=(len(LENGTHS), UNITS)).astype(np.float32)
every_kind = pytest.mark.parametrize("kind", POOLINGS)


def parameters(kind):
    shapes = jax.eval_shape(Pooling(kind).init, jax.random.key(0), final_BH, x_BTH, LENGTHS)
    return random_like(shapes, 2, scale=1.0)


def pooled(kind, params, final=final_BH, outputs=x_BTH):
    return jax.jit(Pooling(kind).apply)(params, final, outputs, LENGTHS)


def attended(params, steps):
    """Returns the sum of one row's valid steps [length, H], weighted by softmax(v . tanh(W h + b))."""
    leaves = params["params"]
    hidden = np.tanh(steps @ leaves["score"]["kernel"] + leaves["score"]["bias"])
    powers = np.exp(hidden @ leaves["query"]["kernel"][:, 0])
    return powers @ steps / powers.sum()


def expected_row(kind, params, final, steps):
    empty = np.zeros(UNITS)
    if kind == "last":
        return final
    if kind == "concat":
        return np.concatenate([expected_row(part, params, final, steps) for part in ("last", "mean", "max")])
    if not len(steps):
        return empty
    return (
        {"mean": steps.mean(0), "max": steps.max(0)}[kind] if kind != "attention" else attended(params, steps)
    )


@every_kind
def test_pooling_reads_the_valid_steps_only(kind):
    params = parameters(kind)
    rows = zip(final_BH, x_BTH, LENGTHS, strict=True)
    expected = [expected_row(kind, params, final, row[:length]) for final, row, length in rows]
    assert_trees_close(pooled(kind, params), np.stack(expected))


@every_kind
def test_gradients_are_finite_and_zero_at_padding(kind):
    def loss(params, final, outputs):
        return (pooled(kind, params, final, outputs) ** 2).sum()

    gradients = jax.jit(jax.grad(loss, argnums=(0, 1, 2)))(parameters(kind), final_BH, x_BTH)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))
    assert not np.asarray(gradients[2])[np.arange(TIME) >= LENGTHS[:, None]].any()
    assert kind == "last" or gradients[2].any()


def test_attention_with_equal_scores_is_the_mean():
    params = jax.tree.map(np.zeros_like, parameters("attention"))
    assert_trees_close(pooled("attention", params), pooled("mean", {}))


@every_kind
def test_bfloat16_outputs_pool_to_bfloat16(kind):
    half = pooled(kind, parameters(kind), final_BH.astype("bfloat16"), x_BTH.astype("bfloat16"))
    assert half.dtype == "bfloat16"
    assert_trees_close(half, pooled(kind, parameters(kind)), rtol=0, atol=0.05)


def test_an_unknown_kind_is_named():
    with pytest.raises(ValueError, match=r"pooling is 'maxx'.*Did you mean 'max'"):
        Pooling("maxx").init(jax.random.key(0), final_BH, x_BTH, LENGTHS)
