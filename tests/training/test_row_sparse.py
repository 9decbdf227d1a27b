"""Row-sparse training of the embedding equals dense Adam."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rnn_jax.data.batches import Batch
from rnn_jax.models.losses import make_classifier_loss
from rnn_jax.training.row_sparse import RowAdam
from rnn_jax.training.steps import init_params, init_state, make_train_step
from tests.helpers.cases import slow_but

WORDS, STEPS = 600, 260


def batch_of(random):
    """Returns frequent and rare words, repeated ones too, and a batch's padding."""
    token_ids = np.minimum(random.geometric(0.02, (3, 5)) + random.integers(0, 2) * 200, WORDS - 1)
    rows = np.arange(3, dtype=np.int32)
    return Batch(token_ids.astype(np.int32), np.full(3, 5, np.int32), rows % 2, np.ones(3, np.float32), rows)


class Reader:
    """A model whose gradient depends on its words alone, so that rounding does not feed back."""

    @staticmethod
    def init(key, token_ids, lengths):
        return {"params": {"embedding": {"embedding": jax.random.normal(key, (WORDS, 4))}}}

    @staticmethod
    def apply(variables, token_ids, lengths, deterministic=True, rngs=None):
        table = variables["params"]["embedding"]["embedding"]
        read = table[token_ids] * jnp.arange(1.0, 5.0)[None, None, :] * (1 + jnp.arange(5.0)[None, :, None])
        logits = read.sum(axis=(1, 2))[:, None]
        return logits - jax.lax.stop_gradient(logits)


@pytest.mark.parametrize("b1", slow_but([0.9], [0.9, 0.0]))
def test_skipped_steps_are_made_good(b1):
    """With a schedule and clipping; words come back after 1 to 200 steps, some never."""
    rate = optax.warmup_cosine_decay_schedule(1e-4, 1e-2, 50, STEPS)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate, b1=b1))
    rows, random, key = RowAdam(rate, b1=b1), np.random.default_rng(0), jax.random.key(0)
    dense_step = make_train_step(make_classifier_loss(Reader.apply), optimizer)
    row_step = make_train_step(make_classifier_loss(Reader.apply), optimizer, rows=rows)
    dense, sparse = (init_state(init_params(Reader, key), optimizer) for _ in range(2))
    sparse = rows.init(sparse)
    for _ in range(STEPS):
        batch = batch_of(random)
        dense, metrics = dense_step(dense, batch, key)
        sparse, others = row_step(sparse, batch, key)
    np.testing.assert_allclose(others.loss, metrics.loss, rtol=1e-6)
    behind = np.abs(sparse.params["embedding"]["embedding"] - dense.params["embedding"]["embedding"]).max()
    settled = rows.settle(sparse)
    assert behind > (1e-4 if b1 else -1)  # so there was something to make good
    inner = settled._replace(opt_state=settled.opt_state.optimizer)
    for ours, theirs in zip(jax.tree.leaves(inner), jax.tree.leaves(dense), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    assert (settled.opt_state.updated == STEPS).all()
