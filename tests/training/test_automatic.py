"""recipe="auto": the best method that can be used, its settings in config.json, and why in the log."""

import argparse
import itertools
import json

import pytest

import rnn_jax
from rnn_jax.errors import InputError
from rnn_jax.settings import recipe
from rnn_jax.training import automatic
from rnn_jax.training.automatic import (
    METHODS,
    RANKED,
    Given,
    automatic_settings,
    chosen_method,
    measured_size,
    method_settings,
)
from rnn_jax.training.command import chosen_config
from rnn_jax.training.loop import check_config
from tests.helpers.jobs import write_reviews

TINY = {"model.hidden": 8, "model.embedding_dim": 8, "text.max_length": 32, "train.epochs": 1}


def reviews(path, count):
    rows = [json.loads(line) for line in write_reviews(path, count).read_text().splitlines()]
    return [row["text"] for row in rows], [("bad", "good")[row["label"]] for row in rows]


@pytest.mark.parametrize("size", RANKED)
def test_the_best_method_that_can_be_used_is_taken(size):
    assert set(RANKED[size]) == set(METHODS)
    for unlabelled, gensim, counts in itertools.product(("", "texts.csv"), (False, True), (False, True)):
        chosen = chosen_method(Given(size, unlabelled, gensim, counts))
        needs = METHODS[chosen]
        assert gensim or not needs.vectors
        assert unlabelled or not needs.unlabelled
        assert counts or not needs.evidence
        better = [METHODS[name] for name in RANKED[size][: RANKED[size].index(chosen)]]
        for method in better:
            missing = (method.vectors and not gensim, method.unlabelled and not unlabelled)
            assert any(missing) or (method.evidence and not counts)


def test_with_everything_there_the_first_of_the_ranking_is_taken():
    for size, names in RANKED.items():
        assert chosen_method(Given(size, "texts.csv", gensim=True, counts=True)) == names[0]


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("labels", [30, 1_000, 50_000])
def test_the_settings_of_every_method_can_be_used(name, labels):
    config = method_settings(name, labels)
    assert check_config(config)
    assert bool(config.embedding.evidence.orders) == METHODS[name].evidence
    assert bool(config.embedding.vectors) == METHODS[name].vectors
    assert ("embedding" in config.train.freeze) == METHODS[name].vectors


def test_more_labels_have_larger_batches_and_fewer_epochs():
    found = [method_settings("plain", size) for size in RANKED]
    sizes, epochs = (
        [config[part][key] for config in found] for part, key in (("batch", "size"), ("train", "epochs"))
    )
    assert sizes == sorted(sizes)
    assert epochs == sorted(epochs, reverse=True)
    assert [measured_size(labels) for labels in (1, 223, 224, 6_000, 7_000)] == [100, 100, 500, 2_000, 20_000]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return str(write_reviews(tmp_path_factory.mktemp("data") / "reviews.jsonl", 40))


def a_config(source, **data):
    config = recipe("bilstm")
    config.data.source = source
    config.data.update(data)
    return config


def test_numbers_and_pairs_have_no_evidence(source):
    for data in ({"target": "number"}, {"pair_column": "text"}):
        config, why = automatic_settings(a_config(source, **data))
        assert config.embedding.evidence.orders == ()
        assert "numbers and pairs have no n-grams of a class" in why
        assert check_config(config)
        assert {key: config.data[key] for key in data} == data


def test_without_gensim_no_word_vectors_are_trained_and_that_is_said(source, monkeypatch):
    config = a_config(source)
    config.text.vocabulary_source = source
    monkeypatch.setattr(automatic, "find_spec", lambda name: None)
    found, why = automatic_settings(config)
    assert found.embedding.vectors == ""
    assert "gensim is not installed" in why
    assert found.text.vocabulary_source == source  # the words are still chosen from it
    monkeypatch.setattr(automatic, "find_spec", lambda name: object())
    found, why = automatic_settings(config)
    assert found.embedding.vectors == "word2vec"
    assert f"texts without labels: {source}" in why


def test_unlabelled_texts_beside_the_labelled_ones_are_found_unless_some_are_to_test_on(tmp_path):
    for name in ("train", "unsupervised"):
        write_reviews(tmp_path / f"{name}.jsonl", 40)
    taken = {
        share: automatic.unlabelled_source(a_config(str(tmp_path), test_share=share), None)
        for share in (0.0, 0.1)
    }
    assert taken == {0.0: str(tmp_path), 0.1: ""}
    write_reviews(tmp_path / "test.jsonl", 20, seed=1)
    assert automatic.unlabelled_source(a_config(str(tmp_path)), None) == str(tmp_path)


def test_the_command_line_chooses_too_and_its_settings_win(source):
    flags = [f"--config.data.source={source}", "--config.model.hidden=7", "--config.train.epochs=2"]
    options = argparse.Namespace(recipe="auto", config=None, start=None, overrides=flags)
    name, config, why = chosen_config(options)
    assert (name, config.model.hidden, config.train.epochs) == ("auto", 7, 2)
    assert config.batch.size == method_settings("plain", 40).batch.size
    assert why.startswith("recipe auto: ")
    assert "36 labelled texts" in why  # a tenth is to test on
    with pytest.raises(InputError, match="a run to start from is given too"):
        chosen_config(argparse.Namespace(recipe="auto", config=None, start="runs/a", overrides=[]))


@pytest.mark.slow
def test_fit_keeps_what_it_chose_in_its_folder_and_says_why(tmp_path, capsys):
    data = reviews(tmp_path / "reviews.jsonl", 40)
    model = rnn_jax.fit(*data, recipe="auto", workdir=tmp_path / "run", **TINY)
    kept = json.loads((tmp_path / "run" / "config.json").read_text())
    expected = method_settings(
        chosen_method(Given(40, "", automatic.find_spec("gensim") is not None, True)), 40
    )
    assert kept["batch"] == expected.batch.to_dict()
    assert kept["embedding"]["evidence"]["orders"] == list(expected.embedding.evidence.orders)
    assert (kept["model"]["hidden"], kept["train"]["epochs"]) == (8, 1)
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("recipe auto"))
    assert "40 labelled texts; texts without labels: none (text.vocabulary_source)" in line
    assert model.config.to_dict()["batch"] == kept["batch"]
    rnn_jax.fit(*data, recipe="auto", workdir=tmp_path / "run", **TINY)
    assert "finished already" in capsys.readouterr().out  # the choice is the same when a run goes on


@pytest.mark.parametrize(
    ("count", "given", "message"),
    [
        (10, {}, "10 texts have labels; label more, or name a recipe"),
        (40, {"start": "runs/none"}, "start is|a run to start from is given too"),
        (40, {"model.hiden": 3}, "'model.hiden' is no setting"),
    ],
)
def test_what_it_cannot_choose_for_is_refused_before_training(tmp_path, count, given, message):
    with pytest.raises(InputError, match=message):
        rnn_jax.fit(*reviews(tmp_path / "r.jsonl", count), recipe="auto", progress=False, **given)


def test_words_and_tags_are_refused():
    with pytest.raises(InputError, match="lists of words, which a tagger takes"):
        rnn_jax.fit([["Dogs", "bark"]] * 30, [["NOUN", "VERB"]] * 30, recipe="auto", progress=False)


@pytest.mark.parametrize("wanted", [{}, {"train.patience": 2}, {"train.monitor": "loss"}])
def test_what_looks_at_several_evaluations_has_them(tmp_path, wanted):
    config = recipe("bilstm")
    config.data.source = str(write_reviews(tmp_path / "reviews.jsonl", 60))
    for name, value in wanted.items():
        section, key = name.split(".")
        config[section][key] = value
    chosen, _ = automatic_settings(config)
    assert chosen.train.evaluate_every == (1.0 if wanted else chosen.train.epochs)
