"""Smoothed labels, adversaries and averages, against numpy and closed forms."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rnn_jax.errors import InputError
from rnn_jax.layers.cells import LSTMCell
from rnn_jax.layers.rnn import RNN
from rnn_jax.models.classifier import TextClassifier
from rnn_jax.models.losses import batch_metrics, make_classifier_loss
from rnn_jax.training.regularisers import Averaged, Regularisers, adversary, exchange, moved_average
from rnn_jax.training.steps import init_params, init_state, make_gradient, make_train_step
from tests.helpers.oracle import assert_trees_close
from tests.training.test_steps import small_batches


def model(**options):
    return TextClassifier(20, 4, 2, RNN(LSTMCell(4)), pooling="mean", **options)


def drawn(network, seed=1):
    return jax.jit(partial(init_params, network))(jax.random.key(seed))


@partial(jax.jit, static_argnums=0)
def loss_of(network, params, batch, change=None):
    logits = network.apply({"params": params}, batch.token_ids, batch.lengths, True, change)
    return batch_metrics(logits, batch).loss


@pytest.mark.parametrize("changes", [{"label_smoothing": 1.0}, {"adversarial": -1.0}, {"average": 1.0}])
def test_numbers_out_of_range_are_refused(changes):
    with pytest.raises(InputError, match=next(iter(changes))):
        Regularisers(**changes).check()


@pytest.mark.parametrize("classes", [2, 3])
def test_smoothed_loss_is_the_cross_entropy_with_smoothed_targets(classes):
    batch = small_batches(classes=classes)(0, 0)
    outputs = 1 if classes == 2 else classes
    logits = np.random.default_rng(0).normal(size=(8, outputs)).astype(np.float32)
    full = np.concatenate([np.zeros((8, 1)), logits], axis=1) if classes == 2 else logits
    log_p = full - np.log(np.exp(full).sum(axis=1, keepdims=True))
    targets = np.full((8, classes), 0.1 / classes)
    targets[np.arange(8), batch.labels] += 0.9
    expected = -((targets * log_p).sum(axis=1) * batch.weights).sum()
    np.testing.assert_allclose(batch_metrics(jnp.array(logits), batch, 0.1).loss, expected, rtol=1e-5)


def test_an_adversary_has_the_same_norm_for_every_text_and_none_without_words():
    slope = (
        np.random.default_rng(0).normal(size=(3, 5, 4)).astype(np.float32)
        * np.array([1e-6, 1e3, 0])[:, None, None]
    )
    change = np.asarray(adversary(jnp.array(slope), jnp.float32(2.5)))
    np.testing.assert_allclose(np.sqrt((change**2).sum(axis=(1, 2))), [2.5, 2.5, 0], rtol=1e-5)


@pytest.mark.slow
def test_an_adversary_raises_the_loss_more_than_chance_and_never_touches_padding():
    network, batch = model(), small_batches()(0, 0)
    params = drawn(network, 3)
    none = jnp.zeros((*batch.token_ids.shape, 4))
    slope = jax.jit(jax.grad(loss_of, argnums=3), static_argnums=0)(network, params, batch, none)
    change = adversary(slope, 0.1)
    padded = np.arange(batch.token_ids.shape[1]) >= batch.lengths[:, None]
    assert not np.asarray(change)[padded].any()
    rise = loss_of(network, params, batch, change) - loss_of(network, params, batch)
    for seed in range(5):
        other = adversary(jax.random.normal(jax.random.key(seed), none.shape), 0.1)
        assert rise > 2 * abs(loss_of(network, params, batch, other) - loss_of(network, params, batch)) > 0


@pytest.mark.slow
def test_the_adversarial_gradient_is_that_of_the_clean_and_the_worst_loss():
    network, batch = model(), small_batches()(0, 0)
    params = drawn(network, 3)
    gradient_fn = make_gradient(make_classifier_loss(network.apply), 0.7)
    empty = jax.tree.map(lambda _: None, params)
    (found, _, _), _ = jax.jit(gradient_fn)(params, empty, jax.random.key(0), ((), batch))
    none = jnp.zeros((*batch.token_ids.shape, 4))
    slope = jax.jit(jax.grad(loss_of, argnums=3), static_argnums=0)(network, params, batch, none)
    radius = 0.7 * np.asarray(params["embedding"]["embedding"]).std()
    change = np.asarray(adversary(slope, radius))
    np.testing.assert_allclose(np.sqrt((change[batch.lengths > 0] ** 2).sum(axis=(1, 2))), radius, rtol=1e-4)
    expected = jax.jit(
        jax.grad(lambda params: loss_of(network, params, batch) + loss_of(network, params, batch, change))
    )(params)
    assert_trees_close(found, expected, rtol=1e-4, atol=1e-6)


def test_the_average_of_weights_has_its_closed_form():
    decay, weights = 0.9, [np.random.default_rng(step).normal(size=3) for step in range(1, 8)]
    average = {"w": jnp.full(3, 100.0)}  # where training began has no share
    for step, weight in enumerate(weights, start=1):
        average = moved_average(average, {"w": jnp.array(weight)}, decay, jnp.int32(step))
    shares = decay ** np.arange(len(weights) - 1, -1, -1)
    expected = (shares[:, None] * np.array(weights)).sum(axis=0) / shares.sum()
    np.testing.assert_allclose(average["w"], expected, rtol=1e-4)


@pytest.mark.slow
def test_training_keeps_the_average_beside_the_weights_and_exchange_gives_it():
    network, optimizer, batches, decay = model(), optax.adam(0.1), small_batches(), 0.8
    options = Regularisers(average=decay)
    step = make_train_step(make_classifier_loss(network.apply), optimizer, regularisers=options)
    state = init_state(drawn(network), optimizer, options)
    seen = []
    for number in range(4):
        state, _ = step(state, batches(0, number), jax.random.key(0))
        seen.append(jax.tree.map(np.array, state.params))
    shares = decay ** np.arange(3, -1, -1) / (decay ** np.arange(4)).sum()
    expected = jax.tree.map(
        lambda *leaves: sum(s * leaf for s, leaf in zip(shares, leaves, strict=True)), *seen
    )
    used = exchange(state)
    assert isinstance(used.opt_state, Averaged)
    assert_trees_close(used.params, expected, rtol=1e-4, atol=1e-6)
    assert_trees_close(exchange(used).params, seen[-1], rtol=0)


@pytest.mark.slow
def test_the_average_leaves_frozen_weights_as_they_are():
    network, optimizer, options = model(), optax.sgd(0.1), Regularisers(average=0.5)
    params = drawn(network)
    table = np.array(params["embedding"]["embedding"])
    chosen = jax.tree.map(lambda _: True, params) | {"embedding": {"embedding": False}}
    step = make_train_step(
        make_classifier_loss(network.apply), optimizer, trained=chosen, regularisers=options
    )
    state = init_state(params, optimizer, options)
    for number in range(3):
        state, _ = step(state, small_batches()(0, number), jax.random.key(0))
    assert np.asarray(exchange(state).params["embedding"]["embedding"]).tobytes() == table.tobytes()


@pytest.mark.slow
def test_word_dropout_leaves_out_whole_words():
    network, batch = model(word_dropout=0.5), small_batches()(0, 0)
    params = drawn(network)
    seen = []

    def spy(next_fun, args, kwargs, context):
        if context.module.name == "encoder" and context.method_name == "__call__":
            seen.append(args[0])
        return next_fun(*args, **kwargs)

    rngs = {"dropout": jax.random.key(7)}
    with nn.intercept_methods(spy):
        network.apply({"params": params}, batch.token_ids, batch.lengths, False, rngs=rngs)
    x = np.asarray(seen[0])
    dropped = (x == 0).all(axis=2)
    assert 0.3 < dropped.mean() < 0.7
    table = np.asarray(params["embedding"]["embedding"])
    np.testing.assert_allclose(x[~dropped], 2 * table[batch.token_ids[~dropped]], rtol=1e-6)
