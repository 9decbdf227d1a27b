"""The training program on a language model: a made-up language, its entropy known, killed and resumed."""

import json

import jax
import numpy as np
import pytest

import rnn_jax
import train_loop
from rnn_jax.data.sources import read_texts
from rnn_jax.data.splits import hold_out
from rnn_jax.errors import InputError
from tests.helpers.cut import assert_same_run, lines_of, train_until_killed
from tests.helpers.jobs import CHAIN, LATER, NEXT, tiny_language_config, write_documents

ENTROPY = -(NEXT * np.log(NEXT) + LATER * np.log(LATER))  # of a word, in nats, but for the first of a text


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write_documents(tmp_path_factory.mktemp("documents") / "texts.jsonl", 300)


@pytest.fixture(scope="module", params=["forward", "backward"])
def run(request, source, tmp_path_factory):
    """Returns the workdir and the results of a model that reads in one direction."""
    workdir = tmp_path_factory.mktemp("run") / request.param
    config = tiny_language_config(source, train__epochs=6, direction=request.param)
    return workdir, train_loop.train_and_evaluate(config, workdir)


def held_out(source):
    return hold_out(read_texts(str(source), "text"), 0.2, 0)[1]


def chain_loss(texts):
    """Returns the mean -log p of all words but the first, under the chain that wrote the texts."""
    places = [[CHAIN.index(word) for word in text.split()] for text in texts]
    steps = np.concatenate([np.diff(row) % len(CHAIN) for row in places])
    return -np.log(np.where(steps == 1, NEXT, LATER)).mean()


def model_loss(writer, texts, reverse):
    """Returns the mean -log p of all words but the first read, each text read at once."""

    @jax.jit
    def logits_of(token_ids, lengths):
        variables = {"params": writer.params}
        _, outputs = writer.model.apply(variables, token_ids, lengths)
        return writer.model.apply(variables, outputs, method="logits")[0]

    losses, rows = [], writer.tokenizer.encode(texts)
    longest = max(map(len, rows))
    for ids in (ids[::-1] if reverse else ids for ids in rows):
        padded = np.pad(ids[:-1], (0, longest - len(ids)))[None]  # all of one length, to compile once
        logits = np.asarray(logits_of(padded, np.array([len(ids) - 1])), np.float64)[: len(ids) - 1]
        losses.extend(np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(ids) - 1), ids[1:]])
    return np.mean(losses)


@pytest.mark.slow
def test_held_out_perplexity_falls_to_the_entropy_of_the_language(run, source):
    """The chain read backward has the same transitions, so both directions have its entropy."""
    workdir, results = run
    perplexities = [line["perplexity"] for line in lines_of(workdir, "validation")]
    assert perplexities[0] > perplexities[-1]
    least = chain_loss(held_out(source))
    assert least == pytest.approx(ENTROPY, rel=0.1)
    assert least - 0.02 < results["loss"] < least + 0.08
    assert results["perplexity"] == pytest.approx(np.exp(results["loss"]))
    assert results["words"] == sum(len(text.split()) - 1 for text in held_out(source))


@pytest.mark.slow
def test_the_held_out_loss_is_that_of_texts_read_at_once_in_the_model_s_direction(run, source):
    workdir, results = run
    writer = rnn_jax.load_language_model(workdir)
    backward = workdir.name == "backward"
    assert results["loss"] == pytest.approx(model_loss(writer, held_out(source), backward), rel=1e-4)
    assert model_loss(writer, held_out(source), not backward) > results["loss"] + 1


@pytest.mark.slow
def test_a_run_leaves_a_workdir_that_explains_itself(run):
    workdir, results = run
    assert {path.name for path in workdir.iterdir()} == {
        "config.json",
        "tokenizer.json",
        "task.json",
        "metrics.jsonl",
        "results.json",
        "checkpoints",
        "lock",
        "learning_curves.png",
    }
    assert results == json.loads((workdir / "results.json").read_text())
    assert results["words_per_second"] > 0
    best = min(lines_of(workdir, "validation"), key=lambda line: line["loss"])
    assert results["best_step"] == best["step"]
    assert results["loss"] == pytest.approx(best["loss"], rel=1e-6)
    train = lines_of(workdir, "train")[-1]
    assert train.keys() >= {"loss", "perplexity", "words_per_second", "learning_rate"}


EVERYTHING = {
    "train__freeze": (("embedding", 1),),
    "train__average": 0.9,
    "optimizer__rates": (("encoder", 0.5),),
    "model__layers": 2,
    "model__layer_dropout": 0.2,
    "model__type_dropout": 0.1,
    "model__recurrent_dropout": 0.1,
    "objective__negatives": 6,
    "objective__weight_drop": 0.1,
    "objective__activation": 0.1,
    "objective__temporal": 0.1,
}


@pytest.mark.slow
@pytest.mark.parametrize(("cuts", "changes"), [((1, 4), {}), ((1, 3), EVERYTHING)])
def test_resumed_run_equals_uninterrupted_one(tmp_path, source, cuts, changes):
    """Cut twice, also inside an epoch, and so inside documents: the state goes on."""
    config = tiny_language_config(source, train__evaluate_every=0.3, **changes)
    whole = train_loop.train_and_evaluate(config, tmp_path / "whole")
    first, second = cuts
    train_until_killed(config, tmp_path / "cut", first)
    train_until_killed(config, tmp_path / "cut", second - first)
    resumed = train_loop.train_and_evaluate(config, tmp_path / "cut")
    assert resumed["resumed_at"] == second * round(0.3 * whole["steps"] / 2) > 0
    assert resumed["loss"] == whole["loss"]
    assert_same_run(tmp_path / "whole", tmp_path / "cut", whole["steps"])


@pytest.mark.slow
def test_frozen_parameters_stay_and_the_words_of_a_vocabulary_are_those_of_training(tmp_path, source):
    first = train_loop.train_and_evaluate(tiny_language_config(source), tmp_path / "first")
    config = tiny_language_config(source, train__freeze=("embedding",), direction="backward")
    config.embedding.from_workdir = str(tmp_path / "first")
    second = train_loop.train_and_evaluate(config, tmp_path / "second")
    old, new = (rnn_jax.load_language_model(tmp_path / name) for name in ("first", "second"))
    table = np.asarray(new.params["embedding"]["embedding"])
    assert table.tobytes() == np.asarray(old.params["embedding"]["embedding"]).tobytes()
    assert second["parameters"] - second["trained_parameters"] == table.size
    assert first["parameters"] == first["trained_parameters"]
    assert sorted(new.tokenizer.words[2:]) == sorted(CHAIN)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"direction": "sideways"}, r"direction is 'sideways', which is not one of: forward, backward"),
        ({"objective__proposal": "zipf"}, r"objective.proposal is 'zipf', which is not one of: unigram"),
        ({"data__split_seed": -1}, r"data.split_seed is -1; give at least 0"),
        ({"objective__negatives": -1}, r"objective.negatives is -1; give at least 0"),
        ({"objective__weight_drop": 0.5, "model__cell": "lru"}, r"weight_drop is 0.5, but the cell 'lru'"),
        ({"objective__weight_drop": 1.0}, r"weight_drop is 1.0"),
        ({"objective__temporal": -1.0}, r"temporal is -1.0"),
        ({"model__output_dropout": 1.5}, r"model.output_dropout is 1.5"),
        ({"model__type_dropout": 1.5}, r"model.type_dropout is 1.5"),
        ({"model__layer_dropout": 0.5}, r"model.layer_dropout is 0.5, but there is one layer"),
        ({"model__embedding_dim": 0}, r"model.embedding_dim is 0; give at least 1"),
        ({"model__cell": "ltsm"}, r"model\.cell is 'ltsm'.*Did you mean 'lstm'"),
        ({"train__average": 1.5}, r"train.average is 1.5"),
        ({"batch__lanes": 0}, r"batch.lanes is 0; give at least 1"),
        ({"batch__window": 0}, r"batch.window is 0; give at least 1"),
        ({"data__validation_share": 1.0}, r"validation_share is 1.0; it must be between 0 and 1"),
        ({"data__validation_share": 1e-6}, r"leaves 300 of 300 texts to train on and 0 held out"),
        ({"task": "translate"}, r"config.task is 'translate', which is not one of: classify, language"),
        ({"task": "classify"}, r"config\..* is not a setting of task .classify."),
    ],
)
def test_what_cannot_be_is_refused_before_any_file_is_written(tmp_path, source, changes, message):
    with pytest.raises(InputError, match=message):
        train_loop.train_and_evaluate(tiny_language_config(source, **changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["row_sparse", "adversarial", "label_smoothing"])
def test_what_only_a_classifier_has_is_no_setting(tmp_path, source, name):
    config = tiny_language_config(source)
    with config.unlocked():
        config.train[name] = 0.1
    with pytest.raises(InputError, match=rf"config.train.{name} is not a setting of task .language."):
        train_loop.train_and_evaluate(config, tmp_path / "run")


def test_a_config_that_does_not_say_what_it_is_of_is_refused(tmp_path, source):
    config = tiny_language_config(source)
    with config.unlocked():
        del config.task
    with pytest.raises(InputError, match=r"config.task is missing; give one of: classify, language"):
        train_loop.train_and_evaluate(config, tmp_path / "run")
