"""Integrated gradients: exact where the integral is known, complete, and blind to padding."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnn_jax.errors import InputError
from rnn_jax.inference.attribution import QUANTITIES, attribute_words, integrated_gradients
from tests.helpers.predictors import WORDS, make_predictor


@pytest.fixture(scope="module")
def predictor():
    return make_predictor(pooling="concat", bidirectional=True, cell="simple")


@pytest.fixture(scope="module")
def bent():
    """A smooth network far from linear: its parameters are three times as large."""
    predictor = make_predictor(pooling="attention", layers=2, bidirectional=True)
    predictor.params = jax.tree.map(lambda leaf: np.float32(3) * leaf, predictor.params)
    return predictor


@pytest.fixture(scope="module")
def three_classes():
    return make_predictor(("bad", "fair", "good"), pooling="attention", cell="simple")


def test_on_a_cubic_the_integral_is_exact_and_needs_two_gradients():
    rng = np.random.default_rng(0)
    x, square, cube = (rng.normal(size=(3, 2)).astype(np.float32) for _ in range(3))
    # Of a x^2 + b x^3 each number adds its own terms; of a product of two, each adds a half.
    expected = (square * x**2 + cube * x**3).sum(axis=1)
    expected[:2] += x[0, 0] * x[1, 1] / 2

    def value_fn(x_BTE):
        return (square[None] * x_BTE**2 + cube[None] * x_BTE**3).sum((1, 2)) + x_BTE[:, 0, 0] * x_BTE[:, 1, 1]

    run = jax.jit(partial(integrated_gradients, value_fn), static_argnums=1)
    found = {steps: np.asarray(run(jnp.asarray(x), steps)) for steps in (1, 2, 9)}
    np.testing.assert_allclose(found[2], expected, atol=1e-5)
    np.testing.assert_allclose(found[9], expected, atol=1e-5)
    assert np.abs(found[1] - expected).max() > 0.01


@pytest.mark.slow
@pytest.mark.parametrize("of", QUANTITIES)
def test_scores_sum_to_the_change_from_the_baseline_the_closer_the_more_steps(bent, of):
    errors = []
    for steps in (1, 4, 16, 64):
        found = bent.attribute(WORDS, "positive", of=of, steps=steps)
        errors.append(abs(found.scores.sum() - (found.value - found.baseline)))
    first = errors[0]
    assert first > 1  # one gradient does not do
    for error, bound in zip(errors[1:], (0.5 * first, 0.1 * first, 1e-3 * first), strict=True):
        assert error < bound, errors
    assert abs(found.value - found.baseline) > 0.1


@pytest.mark.slow
def test_values_are_the_models_of_the_text_and_of_zero_vectors(predictor):
    found = predictor.attribute(WORDS, "positive", of="probability")
    assert found.value == pytest.approx(predictor.predict([WORDS]).probabilities[0, 1], abs=1e-6)
    logit = predictor.attribute(WORDS, "positive")
    assert logit.value == pytest.approx(np.log(found.value / (1 - found.value)), abs=1e-4)
    table = predictor.params["embedding"]["embedding"]
    params = {**predictor.params, "embedding": {"embedding": jnp.zeros_like(table)}}
    zero = predictor.apply_fn({"params": params}, np.ones((1, 12), np.int32), np.array([12]))
    assert logit.baseline == pytest.approx(float(zero[0, 0]), abs=1e-5)
    other = predictor.attribute(WORDS, "negative")
    np.testing.assert_allclose(other.scores, -logit.scores, atol=1e-5)


@pytest.mark.slow
def test_words_are_those_that_predict_reads(predictor):
    words = predictor.tokenizer.spell(WORDS)[1]
    found = predictor.attribute(WORDS)
    assert found.words == words[-12:]
    assert found.scores.shape == (12,)
    assert found.label == predictor.predict([WORDS]).labels[0]
    short = predictor.attribute("great film")
    assert short.words == ["great", "film"]
    empty = predictor.attribute(" ")
    assert empty.words == []
    assert empty.scores.shape == (0,)
    assert empty.value == empty.baseline


@pytest.mark.slow
def test_padding_has_no_attribution_and_changes_none(predictor):
    (ids,) = predictor.tokenizer.encode(["what an awful film"])
    scores = []
    for time, junk in ((6, 0), (12, 7)):
        row = np.full(time, junk, np.int32)
        row[: len(ids)] = ids
        found, *_ = attribute_words(
            predictor.model.apply, predictor.params, row, len(ids), 1, of="logit", steps=8
        )
        assert not np.asarray(found[len(ids) :]).any()
        scores.append(np.asarray(found[: len(ids)]))
    np.testing.assert_allclose(*scores, atol=1e-6)
    assert np.abs(scores[0]).min() > 1e-4


@pytest.mark.slow
def test_of_several_classes_each_has_its_log_odds(three_classes):
    (probabilities,) = three_classes.predict([WORDS]).probabilities
    for label, p in zip(three_classes.label_names, probabilities, strict=True):
        found = three_classes.attribute(WORDS, label)
        assert found.value == pytest.approx(np.log(p / (1 - p)), abs=1e-4)
        assert found.scores.sum() == pytest.approx(found.value - found.baseline, abs=1e-4)
    parts = [three_classes.attribute(WORDS, name, of="probability") for name in three_classes.label_names]
    np.testing.assert_allclose(sum(part.scores for part in parts), 0, atol=1e-5)  # they sum to one


@pytest.mark.slow
def test_what_cannot_be_attributed_is_refused(predictor):
    with pytest.raises(InputError, match="label"):
        predictor.attribute(WORDS, "positiv")
    with pytest.raises(InputError, match="of"):
        predictor.attribute(WORDS, of="loss")
    with pytest.raises(InputError, match="steps is 0"):
        predictor.attribute(WORDS, steps=0)
    with pytest.raises(TypeError, match="not a string"):
        predictor.attribute(["great"])
    with pytest.raises(InputError, match=r"label is 'nonsense', but .* numbers, .*; leave it out"):
        make_predictor(target="number").attribute(WORDS, "nonsense")


def test_a_pair_is_read_as_predict_reads_it():
    pairs = make_predictor(pair_column="second")
    for given in ("ab", "abc", ("a film",), ("a film", 7)):
        with pytest.raises(TypeError, match=r"two texts are compared: give \(first, second\)"):
            pairs.attribute(given, "positive")
    found = pairs.attribute(("a film", None), "positive", steps=2)
    assert (found.words, found.first) == (["a", "film"], 2)


@pytest.mark.slow
def test_attribution_of_a_compiled_caller_is_the_same(predictor):
    (ids,) = predictor.tokenizer.encode(["great dull film"])

    def scores(params):
        return attribute_words(predictor.model.apply, params, ids, 3, 1, of="probability", steps=4)[0]

    np.testing.assert_allclose(jax.jit(scores)(predictor.params), scores(predictor.params), atol=1e-6)
