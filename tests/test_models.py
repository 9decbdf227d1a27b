"""The text classifier and its builder."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import bilstm, gru, lstm, simple_rnn, smoke, stacked_bilstm, stacked_lstm
from rnn_jax.errors import InputError
from rnn_jax.models import build_classifier

SMALL = {**lstm.get_config().model.to_dict(), "embedding_dim": 6, "hidden": 4}
LENGTHS = np.array([7, 3, 0, 5])
IDS = np.where(np.arange(7) < LENGTHS[:, None], np.random.default_rng(0).integers(1, 20, (4, 7)), 0)


def built(classes=2, **changes):
    model = build_classifier(20, classes, **(SMALL | changes))
    return model, jax.jit(model.init)(jax.random.key(0), IDS, LENGTHS)["params"]


def applied(model, params, ids=IDS, lengths=LENGTHS):
    return jax.jit(model.apply)({"params": params}, ids, lengths)


@pytest.mark.parametrize(
    ("config", "count"),
    [(lstm, 328_353), (stacked_lstm, 344_993), (bilstm, 336_705)],
    ids=lambda x: str(x)[-30:],
)
def test_tutorial_networks_have_the_tutorials_parameter_counts(config, count):
    settings = config.get_config()
    model = build_classifier(settings.text.vocab_size, 2, **settings.model)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 1), jnp.int32))
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == count


@pytest.mark.parametrize("config", [lstm, stacked_lstm, bilstm, stacked_bilstm, gru, simple_rnn, smoke])
def test_every_config_builds(config):
    build_classifier(100, 3, **config.get_config().model)


@pytest.mark.parametrize(
    ("cell", "pooling"),
    [("simple", "last"), ("lstm", "concat"), ("gru", "attention"), ("simple", "mean"), ("simple", "max")],
)
def test_padding_tokens_change_no_logit(cell, pooling):
    model, params = built(cell=cell, pooling=pooling, bidirectional=True, layers=2)
    other = np.where(np.arange(7) < LENGTHS[:, None], IDS, 13)
    longer = np.pad(IDS, ((0, 0), (0, 4)), constant_values=5)
    logits = applied(model, params)
    assert logits.shape == (4, 1)
    for ids in (other, longer):
        np.testing.assert_allclose(applied(model, params, ids), logits, atol=1e-6)


@pytest.mark.parametrize("merge", ["concat", "sum", "mul", "ave"])
def test_rows_do_not_see_each_other(merge):
    model, params = built(classes=5, bidirectional=True, merge=merge)
    logits = applied(model, params)
    assert logits.shape == (4, 5)
    order = np.array([2, 0, 3, 1])
    shuffled = applied(model, params, IDS[order], LENGTHS[order])
    np.testing.assert_allclose(shuffled, logits[order], atol=1e-6)
    alone = applied(model, params, IDS[1:2, :3], None)  # no lengths: all steps are valid
    np.testing.assert_allclose(alone, logits[1:2], atol=1e-6)


@pytest.mark.parametrize("rate", ["embedding_dropout", "recurrent_dropout", "layer_dropout", "dropout"])
def test_each_dropout_acts_in_training_only(rate):
    model, params = built(layers=2, **(dict.fromkeys(SMALL_RATES, 0.0) | {rate: 0.5}))
    plain, _ = built(layers=2, **dict.fromkeys(SMALL_RATES, 0.0))
    expected = applied(plain, params)
    np.testing.assert_array_equal(applied(model, params), expected)
    train = jax.jit(partial(model.apply, deterministic=False))

    def trained(seed):
        return train({"params": params}, IDS, LENGTHS, rngs={"dropout": jax.random.key(seed)})

    assert not np.allclose(trained(0), expected)
    assert not np.allclose(trained(0), trained(1))


SMALL_RATES = ("embedding_dropout", "recurrent_dropout", "layer_dropout", "dropout")


def test_bfloat16_gives_float32_logits_near_those_of_float32():
    model, params = built(bidirectional=True, pooling="concat")
    half, _ = built(bidirectional=True, pooling="concat", dtype="bfloat16")
    logits = applied(half, params)
    assert logits.dtype == jnp.float32
    exact = applied(model, params)
    np.testing.assert_allclose(logits, exact, atol=0.03)
    assert not np.array_equal(logits, exact)


def test_only_words_that_occur_get_a_gradient():
    model, params = built(pooling="concat")
    gradient = jax.jit(jax.grad(lambda p: (model.apply({"params": p}, IDS, LENGTHS) ** 2).sum()))(params)
    touched = np.any(np.asarray(gradient["embedding"]["embedding"]) != 0, axis=1)
    occurring = {int(word) for row, length in zip(IDS, LENGTHS, strict=True) for word in row[:length]}
    assert set(np.flatnonzero(touched)) == occurring


def test_residual_needs_a_layer_as_wide_as_its_input():
    built(layers=2, residual=True)
    with pytest.raises(InputError, match=r"residual is on.*\(6, 4\)"):
        built(layers=1, residual=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cell": "lstmm"}, "model.cell is 'lstmm'.*Did you mean 'lstm'"),
        ({"pooling": "men"}, "model.pooling is 'men'.*Did you mean 'mean'"),
        ({"merge": "cat", "bidirectional": True}, "model.merge is 'cat'"),
        ({"merge": "sum"}, "model.merge is 'sum', but model.bidirectional is False"),
        ({"dtype": "float16"}, "model.dtype is 'float16'.*float32, bfloat16"),
        ({"hidden": 0}, "model.hidden is 0"),
        ({"layers": 0}, "model.layers is 0"),
        ({"embedding_dim": -1}, "model.embedding_dim is -1"),
        ({"cell": "gru", "layer_norm": True}, "model.layer_norm is an option of the lstm"),
        ({"layer_dropout": 0.5}, "model.layer_dropout is 0.5, but there is one layer"),
        *[({rate: 1.0, "layers": 2}, f"model.{rate} is 1.0") for rate in SMALL_RATES],
        *[({rate: -0.1, "layers": 2}, f"model.{rate} is -0.1") for rate in SMALL_RATES],
    ],
)
def test_options_that_make_no_sense_are_refused(change, message):
    with pytest.raises(InputError, match=message):
        build_classifier(20, 2, **(SMALL | change))
