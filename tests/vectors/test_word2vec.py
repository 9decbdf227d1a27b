"""Word vectors of unlabelled texts: like words are near, and one worker gives the same vectors again."""

import importlib.util
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from rnn_jax.data.tokenizer import UNK, Tokenizer
from rnn_jax.errors import InputError
from rnn_jax.vectors.word2vec import train_vectors

ROOT = Path(__file__).parents[2]
SETTINGS = {"dim": 16, "window": 3, "epochs": 5, "min_count": 2, "seed": 1}
GENSIM = pytest.mark.skipif(
    importlib.util.find_spec("gensim") is None, reason="needs gensim (extra: vectors)"
)
TOPICS = [["sea", "ship", "sail", "wave", "port", "crew"], ["cook", "salt", "oven", "dish", "meal", "bake"]]


def sentences_of(seed, count=600, length=12):
    """Returns sentences of words of one topic each."""
    rng = np.random.default_rng(seed)
    return [[TOPICS[number % 2][pick] for pick in rng.integers(0, 6, length)] for number in range(count)]


def nearness(words, table):
    """Returns the mean cosine of words of one topic, and of words of two."""
    unit = table / np.linalg.norm(table, axis=1, keepdims=True)
    row = {word: unit[place] for place, word in enumerate(words)}
    within = [row[a] @ row[b] for topic in TOPICS for a in topic for b in topic if a != b]
    return np.mean(within), np.mean([row[a] @ row[b] for a in TOPICS[0] for b in TOPICS[1]])


@GENSIM
def test_words_of_the_same_contexts_are_nearer_than_others():
    words, table = train_vectors(sentences_of(0), **SETTINGS)
    assert table.shape == (12, 16)
    assert table.dtype == np.float32
    within, across = nearness(words, table)
    assert within > across + 0.3


@GENSIM
def test_a_long_text_is_read_to_its_end():
    rng = np.random.default_rng(0)
    filler = [f"w{number}" for number in rng.integers(0, 50, 60_000)]
    # Blocks of one topic, so that few windows hold words of both.
    blocks = [word for sentence in sentences_of(1, count=600, length=40) for word in sentence]
    within, across = nearness(*train_vectors([filler + blocks], **SETTINGS))
    assert within > across + 0.3


@GENSIM
@pytest.mark.parametrize("min_count", [1, 2, 9])
def test_words_used_often_enough_have_vectors_in_the_order_of_their_frequency(min_count):
    rng = np.random.default_rng(0)
    sentences = [[f"w{number}" for number in rng.geometric(0.1, 20)] for _ in range(30)]
    words, table = train_vectors(sentences, **{**SETTINGS, "min_count": min_count})
    counts = Counter(word for sentence in sentences for word in sentence)
    assert set(words) == {word for word, count in counts.items() if count >= min_count}
    assert [counts[word] for word in words] == sorted((counts[word] for word in words), reverse=True)
    assert len(table) == len(words)


@GENSIM
def test_vectors_are_those_of_gensims_own_continuous_bag_of_words():
    from gensim.models import Word2Vec

    theirs = Word2Vec(
        sentences_of(0), vector_size=16, window=3, epochs=5, min_count=2, seed=1, workers=1, sg=0
    )
    words, table = train_vectors(sentences_of(0), **SETTINGS)
    assert words == theirs.wv.index_to_key
    np.testing.assert_array_equal(table, theirs.wv.vectors)


@pytest.mark.slow
@GENSIM
def test_the_same_seed_gives_the_same_vectors_in_any_process():
    program = (
        "import hashlib; from tests.vectors.test_word2vec import *;"
        "words, table = train_vectors(sentences_of(0), **SETTINGS);"
        "print(words, hashlib.sha256(table.tobytes()).hexdigest())"
    )
    outputs = [
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert outputs[0] == outputs[1] != ""
    other = train_vectors(sentences_of(0), **{**SETTINGS, "seed": 2})
    assert not np.array_equal(train_vectors(sentences_of(0), **SETTINGS)[1], other[1])


@GENSIM
def test_several_workers_train_too():
    within, across = nearness(*train_vectors(sentences_of(0, count=3000), **SETTINGS, workers=2))
    assert within > across + 0.3


@pytest.mark.parametrize("name", ["dim", "window", "epochs", "min_count", "workers"])
def test_a_setting_below_one_is_refused_by_name(name):
    with pytest.raises(InputError, match=f"{name} is 0; give a positive number"):
        train_vectors([["a"]], **{**SETTINGS, name: 0})


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_that_gensim_cannot_take_is_refused(seed):
    with pytest.raises(InputError, match=f"seed is {seed}"):
        train_vectors([["a"]], **{**SETTINGS, "seed": seed})


@GENSIM
@pytest.mark.parametrize("sentences", [[], [[]], [["a", "b", "c"]]])
def test_texts_without_a_word_used_often_enough_are_refused(sentences):
    with pytest.raises(InputError, match="no word is used 2 times; lower min_count"):
        train_vectors(sentences, **SETTINGS)


def test_without_gensim_the_command_that_installs_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "gensim.models", None)
    with pytest.raises(InputError, match=r"pip install -e '\.\[vectors\]'"):
        train_vectors([["a", "a"]], **SETTINGS)


def test_words_of_texts_are_those_whose_ids_the_classifier_gets():
    texts = ["Don't cry.<br />A [UNK] film 😀", "", "a a strange\0 film"]
    tokenizer = Tokenizer.train(texts[:1], vocab_size=100, lowercase=True, strip_html=True)
    split = tokenizer.words_of(texts)
    assert split == [
        ["do", "n't", "cry", ".", "a", "[", "unk", "]", "film", "😀"],
        [],
        ["a", "a", "[UNK]", "[UNK]", "film"],
    ]
    ids = {word: number for number, word in enumerate(tokenizer.words)}
    assert [[ids[word] for word in words] for words in split] == [
        row.tolist() for row in tokenizer.encode(texts)
    ]
    assert ids["[UNK]"] == UNK
