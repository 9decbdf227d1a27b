"""Each tokeniser in use: predict, stream, attribution, export and save agree on what a word is."""

import numpy as np
import pytest
from jax import export  # noqa: F401  # the documented program deserialises with it

import rnn_jax
from rnn_jax.data.tokenizer import TOKENIZERS, Tokenizer, tokenizer_kind
from rnn_jax.errors import InputError
from rnn_jax.training.initialisation import check_vocabulary
from tests.helpers.predictors import make_predictor
from tests.inference.test_export import load as load_export

TEXTS = ["这部电影很好看。 DVD太差了", "a great film, a dull film", "", "很好看的电影 great 😀"] * 3
PIECES = ("这部电影很好看。 ", "DVD太差了 great ", "films")


@pytest.fixture(scope="module", params=[name for name in TOKENIZERS])
def predictor(request):
    kind = tokenizer_kind(request.param, TEXTS[:1])
    tokenizer = Tokenizer.train(TEXTS, 300, lowercase=True, strip_html=True, kind=kind).filled(300)
    return make_predictor(tokenizer=tokenizer)  # one network for all: vocabularies of one size


def test_a_stream_in_pieces_says_what_predict_says_of_the_whole(predictor):
    stream = predictor.stream()
    words = [word for piece in PIECES for word in stream.feed(piece).words]
    assert words == predictor.tokenizer.spell("".join(PIECES))[1]
    short, stream = PIECES[1][:5], predictor.stream()
    stream.feed(short)
    assert stream.length <= predictor.config.text.max_length
    np.testing.assert_allclose(stream.probabilities, predictor.predict([short]).probabilities[0], atol=1e-6)


def test_attribution_scores_each_word_of_the_tokeniser(predictor):
    found = predictor.attribute(TEXTS[0])
    words = predictor.tokenizer.spell(TEXTS[0])[1]
    assert found.words == words[-len(found.words) :]
    assert len(found.words) == min(len(words), predictor.config.text.max_length)
    np.testing.assert_allclose(found.scores.sum(), found.value - found.baseline, atol=2e-2)


def test_a_saved_model_and_an_export_predict_the_same(predictor, tmp_path):
    expected = predictor.predict(TEXTS)
    predictor.save(tmp_path / "saved")
    again = rnn_jax.load(tmp_path / "saved")
    assert again.tokenizer.kind == predictor.tokenizer.kind
    np.testing.assert_array_equal(again.predict(TEXTS).probabilities, expected.probabilities)
    rnn_jax.export_classifier(predictor, tmp_path / "model.zip")
    labels, probabilities = load_export(tmp_path / "model.zip")(TEXTS)
    assert list(labels) == expected.labels
    np.testing.assert_allclose(probabilities, expected.probabilities, atol=1e-6)


@pytest.mark.parametrize("name", TOKENIZERS)
def test_pieces_of_words_have_no_vectors_in_a_file(name):
    check_vocabulary(name, "")
    check_vocabulary(name, "word2vec")
    if name in ("bpe", "unigram", "bytes"):
        what = "bytes" if name == "bytes" else "pieces"
        with pytest.raises(InputError, match=f"text.tokenizer is '{name}', whose {what} .* 'word2vec'"):
            check_vocabulary(name, "glove-6b-50d")
    else:
        check_vocabulary(name, "glove-6b-50d")
    with pytest.raises(InputError, match=r"text\.tokenizer is 'byte'"):
        check_vocabulary("byte", "")
