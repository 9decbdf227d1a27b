"""A text read word by word: after each word, what the model says of all words so far read at once."""

from functools import partial

import jax
import numpy as np
import pytest

from rnn_jax.errors import InputError
from rnn_jax.inference.stream import make_steps
from rnn_jax.layers.pooling import POOLINGS, RUNNING, Pooling
from rnn_jax.layers.rnn import RNN, Stacked
from rnn_jax.models.classifier import TextClassifier
from tests.helpers.cases import CELLS, a_batch, bidirectional, rnn, slow_but
from tests.helpers.predictors import WORDS, make_predictor

CELL_SETTINGS = [{"cell": "lstm", "layer_norm": True}, {"cell": "simple"}, {"cell": "gru"}, {"cell": "lstm"}]
SETTINGS = [{**cell, "layers": layers, "residual": layers > 1} for layers in (1, 2) for cell in CELL_SETTINGS]
CASES = [
    {**settings, "pooling": list(POOLINGS)[index % len(POOLINGS)]} for index, settings in enumerate(SETTINGS)
]
LINEAR = [{"cell": "min_gru", "pooling": "mean"}, {"cell": "sru", "pooling": "last"}]
CASES += [*LINEAR, {"cell": "lru", "pooling": "max"}, {"cell": "slstm", "pooling": "last"}]


def probabilities_of_prefixes(predictor, text):
    """Returns [n + 1, C]: of the first 0, 1, ..., n words, each read at once as a row of one padded batch."""
    (ids,) = predictor.tokenizer.encode([text])
    lengths = np.arange(len(ids) + 1)
    rows = np.where(np.arange(len(ids)) < lengths[:, None], ids, 0).astype(np.int32)
    logits = np.asarray(predictor.apply_fn({"params": predictor.params}, rows, lengths), np.float64)
    logits = np.concatenate([np.zeros_like(logits), logits], axis=1) if logits.shape[1] == 1 else logits
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


@pytest.mark.parametrize(
    "settings",
    slow_but(CASES[::3], CASES),
    ids=lambda case: "-".join(map(str, case.values())),
)
def test_a_stream_says_of_every_prefix_what_the_model_says_of_it_at_once(settings):
    predictor = make_predictor(**settings)
    text = f"{WORDS} {WORDS}"  # twice as long as the longest bucket
    expected = probabilities_of_prefixes(predictor, text)
    assert len(expected) > 2 * predictor.buckets[-1]
    stream = predictor.stream()
    np.testing.assert_allclose(stream.probabilities, expected[0], atol=1e-6)
    reading = stream.feed(text)
    np.testing.assert_allclose(reading.probabilities, expected[1:], atol=1e-6)
    assert np.abs(np.diff(expected[:, 0])).max() > 0.01
    assert stream.length == len(reading.words) == len(reading.probabilities)
    np.testing.assert_array_equal(stream.probabilities, reading.probabilities[-1])


def test_the_cases_have_every_pooling_and_every_pooling_can_be_read_word_by_word():
    assert RUNNING.keys() == POOLINGS.keys() == {case["pooling"] for case in CASES}
    assert len(CELL_SETTINGS) == len(CELLS)


@pytest.mark.slow
@pytest.mark.parametrize("kind", POOLINGS)
def test_a_running_pooling_is_the_pooling_of_each_prefix(kind):
    outputs, pool = 20 * a_batch(time=7), Pooling(kind)  # scores that rise and fall far within a row
    final = outputs[:, 0]
    params = jax.jit(pool.init)(jax.random.key(0), final, outputs, np.full(4, 7))
    advance, read = (jax.jit(partial(pool.apply, params, method=method)) for method in ("advance", "read"))
    apply = jax.jit(partial(pool.apply, params))
    summary = pool.begin(final)
    for step in range(8):
        found = read(summary, final)
        expected = apply(final, outputs, np.full(4, step))
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
        summary = advance(summary, outputs[:, step]) if step < 7 else summary


@pytest.fixture(scope="module")
def predictor():
    return make_predictor(("bad", "fair", "good"), pooling="attention")


@pytest.mark.slow
def test_up_to_max_length_a_stream_says_what_predict_says_of_the_text(predictor):
    words = predictor.stream().feed(WORDS).words[:12]
    texts = [" ".join(words[:count]) for count in range(13)]
    stream = predictor.stream()
    found = [stream.probabilities, *stream.feed(texts[-1]).probabilities]
    np.testing.assert_allclose(found, predictor.predict(texts).probabilities, atol=1e-6)


@pytest.mark.slow
def test_feeding_pieces_is_feeding_words_is_feeding_the_text(predictor):
    whole = predictor.stream().feed(WORDS)
    for pieces in (WORDS.split(), ["", " ", *WORDS.partition(" and ")], whole.words):
        stream = predictor.stream()
        readings = [stream.feed(piece) for piece in pieces]
        assert [word for reading in readings for word in reading.words] == whole.words
        np.testing.assert_array_equal(
            np.concatenate([r.probabilities for r in readings]), whole.probabilities
        )


def test_words_are_those_of_the_text_with_the_ids_of_encode(predictor):
    ids, words = predictor.tokenizer.spell(f"<br />{WORDS} \ud800 İstanbul")
    assert words == [
        *(
            [
                "A",
                "great",
                ",",
                "moving",
                "film",
                "😀",
                "and",
                "an",
                "awful",
                "zyzzyva",
                "do",
                "n't",
                "know",
                ";",
                "WHAT",
                "a",
                "dull",
                "film",
                "!",
                "great",
            ]
        ),
        *("?", "İstanbul"),
    ]
    np.testing.assert_array_equal(ids, predictor.tokenizer.encode([f"<br />{WORDS} \ud800 İstanbul"])[0])


def test_streams_do_not_disturb_each_other_and_compile_once(predictor):
    first, second = predictor.stream(), predictor.stream()
    alone = predictor.stream().feed("great film").probabilities
    first.feed("great")
    second.feed("awful and dull")
    np.testing.assert_array_equal(first.feed("film").probabilities[0], alone[1])
    assert predictor._steps.read._cache_size() == 1
    assert len(first.feed(" \n").words) == 0
    with pytest.raises(TypeError, match="not a string"):
        first.feed(3)


ENCODERS = {
    "a Bidirectional": lambda: bidirectional("gru", 2),
    "an RNN with reverse=True": lambda: Stacked([rnn("gru", 2), RNN(CELLS["gru"][0](2), reverse=True)]),
}


@pytest.mark.parametrize("culprit", ENCODERS)
def test_an_encoder_that_begins_at_the_end_is_refused_with_the_reason(culprit):
    model = TextClassifier(vocab_size=5, embedding_dim=3, num_classes=2, encoder=ENCODERS[culprit]())
    with pytest.raises(InputError, match=f"{culprit}, which reads words that come later"):
        make_steps(model)


def test_contextual_vectors_are_refused_because_they_read_later_words():
    with pytest.raises(InputError, match=r"a Bidirectional in model\.contextual, which reads words"):
        make_predictor(contextual={"hidden": 3}).stream()


@pytest.mark.slow
def test_a_bidirectional_run_refuses_to_stream_but_predicts():
    predictor = make_predictor(bidirectional=True)
    with pytest.raises(InputError, match=r"model\.bidirectional=False"):
        predictor.stream()
    assert len(predictor.predict([WORDS]).labels) == 1


def test_the_memory_of_a_stream_does_not_grow_with_the_text(predictor):
    stream = predictor.stream()
    before = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), stream._state)
    stream.feed(WORDS)
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), stream._state) == before
