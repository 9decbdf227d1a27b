"""Weight drop of classifiers: the language model's function, once a step, and nothing at 0."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnn_jax import RNN, LSTMCell, TextClassifier
from rnn_jax.data import Batches
from rnn_jax.errors import InputError
from rnn_jax.models import build_classifier, make_classifier_loss
from rnn_jax.models.weight_drop import drop_weights, is_recurrent_kernel
from rnn_jax.settings import ADDED, classifier_settings, completed
from rnn_jax.trees import leaves_by_path
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


def test_contextual_layers_are_left_whole_and_the_others_draw_what_they_drew():
    contextual = {"cell": "lstm", "hidden": 4, "layers": 1}
    plain = dict(classifier_settings().model) | {"embedding_dim": 3, "hidden": 4}
    model = build_classifier(9, 2, **(plain | {"contextual": contextual}))
    params = random_like(jax.eval_shape(model.init, KEY, jnp.ones((1, 1), int))["params"])
    dropped = drop_weights(params, KEY, 0.5)
    assert_trees_close(dropped["contextual"], params["contextual"], rtol=0, atol=0)
    # A kernel draws by its place among all leaves.
    paths = list(leaves_by_path(params))
    for path, leaf in leaves_by_path(dropped["encoder"]).items():
        before, index = leaves_by_path(params["encoder"])[path], paths.index(f"encoder/{path}")
        if is_recurrent_kernel(path):
            kept = jax.random.bernoulli(jax.random.fold_in(KEY, index), 0.5, leaf.shape)
            before = np.where(kept, before / 0.5, 0)
        np.testing.assert_array_equal(leaf, before)


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


def test_kernels_in_boxes_are_dropped_as_without_and_keep_their_boxes():
    params = parameters()
    boxed = jax.tree.map(lambda leaf: nn.Partitioned(leaf, (None,) * leaf.ndim), params)
    found = drop_weights(boxed, KEY, 0.5)
    assert jax.tree.structure(found) == jax.tree.structure(boxed)
    assert_trees_close(nn.meta.unbox(found), drop_weights(params, KEY, 0.5), rtol=0, atol=0)
