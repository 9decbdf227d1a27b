"""Weight drop of classifiers: the language model's function, once a step, and nothing at 0."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnn_jax import RNN, LSTMCell, TextClassifier
from rnn_jax.data import Batches
from rnn_jax.errors import InputError
from rnn_jax.models import build_classifier, make_classifier_loss
from rnn_jax.models.weight_drop import drop_weights
from rnn_jax.settings import ADDED, classifier_settings, completed
from tests.helpers.oracle import assert_trees_close, random_like

MODEL, KEY = TextClassifier(9, 3, 2, RNN(LSTMCell(4)), dropout=0.5), jax.random.key(3)
TEXTS = [np.array([5, 2, 7]), np.array([4, 8])]
BATCH = Batches(TEXTS, np.array([1, 0]), buckets=(4,), batch_size=2)(seed=0, step=0)


def parameters():
    return random_like(jax.eval_shape(MODEL.init, KEY, jnp.ones((1, 1), int))["params"])


def gradient(rate):
    loss = make_classifier_loss(MODEL.apply, weight_drop=rate)
    run = jax.jit(jax.value_and_grad(lambda params: loss(params, (), BATCH, KEY)[0]))
    return run(parameters())


@pytest.mark.slow
def test_the_loss_is_that_of_parameters_dropped_once():
    rest, weights = jax.random.split(KEY)
    dropped = drop_weights(parameters(), weights, 0.5)
    value, gradients = gradient(0.5)
    plain = make_classifier_loss(MODEL.apply)
    np.testing.assert_allclose(value, plain(dropped, (), BATCH, rest)[0], rtol=1e-5)
    kernel = dropped["encoder"]["cell"]["hi"]["kernel"]
    assert 0 < (kernel == 0).sum() < kernel.size
    assert not np.asarray(gradients["encoder"]["cell"]["hi"]["kernel"])[np.asarray(kernel == 0)].any()


def test_without_weight_drop_the_loss_is_the_plain_one_bit_for_bit():
    loss = make_classifier_loss(MODEL.apply)
    expected = jax.jit(jax.value_and_grad(lambda params: loss(params, (), BATCH, KEY)[0]))(parameters())
    assert_trees_close(gradient(0.0), expected, rtol=0, atol=0)


def test_the_setting_is_checked_and_an_old_config_has_none_of_it():
    config = classifier_settings()
    config.model.weight_drop = 1.0
    with pytest.raises(InputError, match=r"model.weight_drop is 1.0"):
        build_classifier(9, 2, **config.model)
    assert ADDED["classify"]["model.weight_drop"] == classifier_settings().model.weight_drop == 0.0
    old = classifier_settings().to_dict()
    del old["model"]["weight_drop"]
    assert completed(old) == classifier_settings().to_dict()
