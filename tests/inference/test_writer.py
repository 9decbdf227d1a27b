"""A saved language model in use: what is loaded is what was saved, and what it writes is told by a seed."""

import jax
import numpy as np
import pytest

import rnn_jax
from rnn_jax.errors import InputError
from rnn_jax.inference.writer import _largest, sample, sample_all
from tests.helpers.runs import TEXTS, make_language_run, make_run
from tests.training.test_parameter_groups import same

OPTIONS = {"words": 8, "temperature": 1.0, "top_k": 0}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run") / "w"
    return workdir, make_language_run(workdir)


@pytest.mark.slow
@pytest.mark.parametrize(("which", "step"), [("best", 2), ("last", 3), (1, 1)])
def test_loaded_parameters_are_those_saved_and_the_best_have_the_least_loss(run, which, step):
    writer = rnn_jax.load_language_model(run[0], which=which)
    assert writer.step == step
    assert all(map(same, jax.tree.leaves(writer.params), jax.tree.leaves(run[1][step])))


@pytest.mark.slow
def test_writing_is_sampling_with_the_key_of_the_seed(run):
    writer = rnn_jax.load_language_model(run[0])
    written = writer.write("a great film", seed=3, **OPTIONS)
    key = jax.random.key(3)
    arguments = writer.model.apply, writer.params, writer.tokenizer, "a great film"
    assert (
        written == sample(*arguments, key=key, **OPTIONS) == writer.write("a great film", seed=3, **OPTIONS)
    )
    assert written.startswith("a great film ")
    assert len(written.split()) == 3 + 8
    assert {writer.write("a great film", seed=seed, **OPTIONS) for seed in range(5)} != {written}


def test_the_value_at_a_place_is_that_of_a_sort():
    x = np.random.default_rng(0).normal(size=(4, 101)).astype(np.float32)
    x[0, ::3], x[1, :50], x[2, 0], x[3, 1] = -np.inf, 0.5, -0.0, np.inf
    for place in (1, 2, 40, 100):
        expected = np.sort(x, axis=1)[:, -place]
        np.testing.assert_array_equal(_largest(x, place), expected)


def words_one_by_one(model, params, tokenizer, prompt, words, temperature, top_k, key):
    """The words that are drawn with one call of the network and one of the generator for each."""
    text, carry = tokenizer.encode([prompt])[0].tolist(), None
    prompted = len(text)
    for place in range(prompted - 1 + words):
        carry, outputs = model.apply({"params": params}, np.array([[text[place]]]), None, carry)
        logits = model.apply({"params": params}, outputs, method="logits")[0, 0].at[0].set(-np.inf)
        logits = logits / temperature
        if top_k:
            logits = np.where(logits >= jax.lax.top_k(logits, top_k)[0][-1], logits, -np.inf)
        if place >= prompted - 1:
            text.append(int(jax.random.categorical(jax.random.fold_in(key, place), logits)))
    return [tokenizer.words[word] for word in text[prompted:]]


@pytest.mark.slow
@pytest.mark.parametrize("top_k", [0, 5])
def test_words_are_those_drawn_one_by_one_alone_and_side_by_side(run, top_k):
    writer = rnn_jax.load_language_model(run[0])
    prompts, keys = ["a great film", "dull"], jax.random.split(jax.random.key(7))
    options = {"words": 8, "temperature": 1.3, "top_k": top_k}
    known = writer.model.apply, writer.params, writer.tokenizer
    together = sample_all(*known, prompts, keys=keys, **options)
    for prompt, key, written in zip(prompts, keys, together, strict=True):
        expected = words_one_by_one(writer.model, writer.params, writer.tokenizer, prompt, key=key, **options)
        assert written.split()[len(prompt.split()) :] == expected
        assert sample(*known, prompt, key=key, **options) == written


@pytest.mark.slow
def test_near_no_temperature_the_likeliest_word_comes(run):
    writer = rnn_jax.load_language_model(run[0])
    ids = writer.tokenizer.encode([TEXTS[0]])[0]
    _, outputs = writer.model.apply({"params": writer.params}, ids[None])
    logits = np.array(writer.model.apply({"params": writer.params}, outputs, method="logits"))[0, -1]
    logits[0] = -np.inf
    for temperature in (1e-4, 1e-38, 1e-300):  # the last is 0 in float32
        written = writer.write(TEXTS[0], 1, temperature=temperature, top_k=0, seed=0)
        assert written.split()[-1] == writer.tokenizer.words[logits.argmax()]


@pytest.mark.slow
def test_at_any_temperature_padding_is_not_written(run):
    writer = rnn_jax.load_language_model(run[0])
    assert "[PAD]" not in writer.write(TEXTS[0], 40, temperature=1e300, top_k=0, seed=0)


@pytest.mark.slow
def test_each_kind_of_run_says_how_it_is_used_where_the_other_is_wanted(run, tmp_path):
    with pytest.raises(InputError, match=r"holds a language model, which has no labels: use .*from_workdir"):
        rnn_jax.load(run[0])
    make_run(tmp_path / "classifier")
    with pytest.raises(InputError, match=r"holds a classifier: use rnn_jax.load, rnn-jax predict"):
        rnn_jax.load_language_model(tmp_path / "classifier")
    with pytest.raises(InputError, match="not the folder of a run"):
        rnn_jax.load_language_model(tmp_path)


@pytest.mark.slow
def test_a_backward_model_does_not_write(tmp_path):
    make_language_run(tmp_path / "run", direction="backward")
    writer = rnn_jax.load_language_model(tmp_path / "run")
    with pytest.raises(InputError, match="direction is 'backward': it predicts the word before"):
        writer.write("film", seed=0, **OPTIONS)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["scripts", "characters", "bytes", "bpe", "unigram"])
def test_what_is_written_goes_on_as_the_tokeniser_splits(tmp_path, kind):
    make_language_run(
        tmp_path / "run", losses=(1.0,), texts=["这部电影很好看。", "电影太差了"] * 3, kind=kind
    )
    writer = rnn_jax.load_language_model(tmp_path / "run")
    written = writer.write("这部", seed=1, **OPTIONS)
    assert written.startswith("这部")
    assert len(writer.tokenizer.encode([written.replace("[UNK]", "ж")])[0]) >= 3
    spaced = kind in ("bytes", "bpe", "unigram")  # which say themselves where a word begins
    assert spaced or " " not in written
    assert "\u2581" not in written
