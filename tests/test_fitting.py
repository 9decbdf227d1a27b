"""rnn_jax.fit: from lists to a model, and on from where an earlier one or an interruption ended."""

import gc
import json
import logging
import signal
import tempfile
import threading

import absl.logging
import datasets
import jax
import numpy as np
import pytest

import rnn_jax
from rnn_jax import fitting
from rnn_jax.data.in_memory import splits_of
from rnn_jax.data.splits import load_corpus
from rnn_jax.errors import InputError
from rnn_jax.fitting import _fit_data
from rnn_jax.training import loop
from rnn_jax.training.trainer import Trainer
from tests.helpers.jobs import tiny_config, tiny_language_config, write_reviews

SAME_PROGRAM = {"text.fill_vocabulary": True, "text.vocab_size": 130, "train.epochs": 2}


@pytest.fixture(scope="module")
def reviews(tmp_path_factory):
    path = write_reviews(tmp_path_factory.mktemp("data") / "reviews.jsonl", 60)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [row["text"] for row in rows], [("bad", "good")[row["label"]] for row in rows]


def settings():
    config = tiny_config("")
    config.data.test_share = 0.0
    return config


def fit(*data, **changes):
    given = {"recipe": settings(), "progress": False, **SAME_PROGRAM, **changes}
    return rnn_jax.fit(*data, **{name: value for name, value in given.items() if value is not None})


@pytest.fixture(scope="module")
def model(reviews):
    return fit(*reviews)


def same(ours, theirs):
    pairs = zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


@pytest.mark.slow
def test_lists_become_the_model_that_a_file_of_them_becomes(tmp_path, reviews, model):
    assert model.label_names == ("bad", "good")
    (tmp_path / "r.jsonl").write_text(
        "".join(json.dumps({"text": t, "label": x}) + "\n" for t, x in zip(*reviews, strict=True))
    )
    config = settings()
    config.data.source = str(tmp_path / "r.jsonl")
    for name, value in SAME_PROGRAM.items():
        section, key = name.split(".")
        config[section][key] = value
    rnn_jax.train_and_evaluate(config, tmp_path / "run")
    assert same(model.params, rnn_jax.load(tmp_path / "run").params)
    assert same(model.params, fit(tmp_path / "r.jsonl").params)


def test_a_model_with_a_folder_of_its_own_leaves_nothing(tmp_path, monkeypatch, reviews):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    model = fit(*reviews)
    assert model.workdir.parent == tmp_path
    assert (model.workdir / "results.json").exists()
    del model
    gc.collect()
    assert not list(tmp_path.iterdir())
    with pytest.raises(InputError, match="holds only"):
        fit(reviews[0], ["same"] * 60)
    assert not list(tmp_path.iterdir())


def test_what_was_saved_outlives_an_error(tmp_path, monkeypatch, reviews):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr("rnn_jax.training.loop.write_report", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError) as caught:
        fit(*reviews)
    (folder,) = tmp_path.iterdir()
    assert caught.value.__notes__ == [
        f"what was saved is in {folder}: call rnn_jax.fit again with workdir={str(folder)!r}"
    ]
    monkeypatch.undo()
    assert fit(*reviews, workdir=folder).label_names == ("bad", "good")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("model.hiden", 64, "'model.hiden' is no setting of task 'classify'. Did you mean 'model.hidden'"),
        ("epochs", 3, "'epochs' is no setting"),
        ("model.hidden", "64", "config.model.hidden is '64', a str; give a int"),
        ("recipe", "bilstn", "recipe is 'bilstn', which is not one of: .* Did you mean 'bilstm'"),
        ("recipe", {"model": 1}, "recipe is a dict; give the name of a recipe, or a ConfigDict"),
        ("start", 7, "start is 7; give a model, or the folder of a run"),
        ("start", "runs/none", "start is .*runs/none', which is not the folder of a run"),
        ("validation", 1.5, "validation_share is 1.5"),
        ("validation", np.float32(1.5), "validation_share is 1.5"),
        ("data.label_names", np.array(["x", "y"]), r"config.data.label_names is array\(.*; give a tuple"),
    ],
)
def test_a_wrong_argument_is_refused_at_the_call(reviews, name, value, message):
    with pytest.raises(InputError, match=message):
        fit(*reviews, **{name: value})


def test_an_unknown_setting_is_refused_before_a_text_is_read():
    texts = (pytest.fail("read a text") for _ in range(3))
    with pytest.raises(InputError, match="no setting"):
        rnn_jax.fit(texts, [0, 1, 0], nothing=1)


def test_the_flags_of_xla_are_told_to_whom_asks(reviews, caplog):
    before = absl.logging.get_verbosity()
    absl.logging.set_verbosity(0)
    try:
        fit(*reviews)
    finally:
        absl.logging.set_verbosity(before)
    assert "XLA_FLAGS=" in caplog.text


def test_without_a_test_split_validation_is_measured_and_that_is_said(tmp_path, capsys, reviews):
    model = fit(*reviews, workdir=tmp_path / "run", progress=True)
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["tested_on"] == "validation"
    assert results["accuracy"] == results["validation"]["accuracy"]
    output = capsys.readouterr().out
    assert "48 train, 12 validation, no test, so that validation is measured at the end" in output
    assert f"validation accuracy {results['accuracy']:.2%} on 12 texts" in output
    assert "XLA" not in output
    assert model.workdir == tmp_path / "run"


@pytest.mark.slow
def test_splits_that_are_given_are_used(tmp_path, reviews):
    table = datasets.Dataset.from_dict(dict(zip(("text", "label"), reviews, strict=True)))
    parts = {"train": (0, 40), "validation": (40, 47), "test": (47, 60)}
    whole = datasets.DatasetDict({name: table.select(range(*part)) for name, part in parts.items()})
    fit(whole, workdir=tmp_path / "dict")
    results = json.loads((tmp_path / "dict" / "results.json").read_text())
    assert (results["validation"]["examples"], results["examples"]) == (7, 13)
    assert "tested_on" not in results
    own = [column[40:47] for column in reviews]
    fit(*(column[:40] for column in reviews), validation=tuple(own), workdir=tmp_path / "own")
    results = json.loads((tmp_path / "own" / "results.json").read_text())
    assert (results["examples"], results["tested_on"]) == (7, "validation")
    fit(*reviews, workdir=tmp_path / "share", **{"data.test_share": 0.2})
    assert json.loads((tmp_path / "share" / "results.json").read_text())["examples"] == 12


@pytest.mark.slow
def test_quiet_is_quiet_and_the_lines_go_to_the_log(capfd, caplog, reviews):
    with caplog.at_level(logging.INFO, "rnn_jax"):
        model = fit(*reviews)
        model.predict(reviews[0], progress=False)
    assert capfd.readouterr() == ("", "")
    assert any("step 12/12  validation" in line for line in caplog.messages)


@pytest.fixture
def interrupted_at(monkeypatch):
    """Returns a function of a step, within which Ctrl-C comes."""
    train_until, raised = Trainer.train_until, []

    def set_step(number):
        def cut(self, stop, state, batches, *rest):
            def source(seed, step):
                if step == number and not raised:
                    raised.append(step)
                    signal.raise_signal(signal.SIGINT)
                return batches(seed, step)

            return train_until(self, stop, state, source, *rest)

        monkeypatch.setattr(Trainer, "train_until", cut)

    return set_step


def test_ctrl_c_saves_the_step_says_how_to_go_on_and_going_on_is_as_if_it_had_not_come(
    tmp_path, monkeypatch, reviews, model, interrupted_at
):
    interrupted_at(7)
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(KeyboardInterrupt, match="ended after step 8, which is saved; to go on") as stopped:
        fit(*reviews, workdir=tmp_path / "run")
    assert f"workdir={str(tmp_path / 'run')!r}" in str(stopped.value)
    assert before == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    given, measured = [], loop.measurements
    monkeypatch.setattr(loop, "measurements", lambda *parts: given.extend(parts) or measured(*parts))
    assert same(fit(*reviews, workdir=tmp_path / "run").params, model.params)
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    texts = results["examples_per_second"] * given[3].seconds["train"]
    timed = texts / given[2].train.predictions * given[2].train.steps_per_epoch
    assert timed == pytest.approx(
        12 - (8 - 6), rel=0.01
    )  # the seconds of the two steps after step 6 are lost


@pytest.mark.slow
def test_ctrl_c_keeps_the_temporary_folder(tmp_path, monkeypatch, reviews, interrupted_at):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    interrupted_at(7)
    with pytest.raises(KeyboardInterrupt, match="which is saved"):
        fit(*reviews)
    (kept,) = tmp_path.iterdir()
    assert rnn_jax.load(kept, "last").step == 8


@pytest.mark.slow
def test_it_works_outside_the_main_thread(reviews, model):
    found = []
    thread = threading.Thread(target=lambda: found.append(fit(*reviews)))
    thread.start()
    thread.join()
    assert same(found[0].params, model.params)


@pytest.mark.slow
def test_a_finished_run_is_used_again_for_its_own_texts_alone(tmp_path, capsys, reviews, model):
    fit(*reviews, workdir=tmp_path / "run")
    again = fit(*reviews, workdir=tmp_path / "run", progress=True)
    assert same(again.params, model.params)
    assert "is finished already" in capsys.readouterr().out
    with pytest.raises(InputError, match="began with other data"):
        fit(reviews[0][:50], reviews[1][:50], workdir=tmp_path / "run")
    with pytest.raises(InputError, match=r"another config \(seed: 0 -> 1\).* --from .*start="):
        fit(*reviews, workdir=tmp_path / "run", seed=1)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (("negative", "positive"), ("positive", "negative")),
        (("dull", "fine"), ("dull", "fine")),
        ((0, 1), None),
    ],
)
def test_an_earlier_runs_label_names_are_kept_for_the_same_labels_alone(reviews, labels, expected):
    earlier = settings()
    earlier.data.label_names = ("positive", "negative")  # of the labels 0 and 1
    given = [labels[label == "good"] for label in reviews[1]]
    source = splits_of(reviews[0], given, None, "text", "label", "", words=False)
    _fit_data(earlier, source, keep_share=True, keep_names=False)
    corpus = load_corpus(**dict(earlier.data, source=source))
    assert corpus.label_names == (expected or ("positive", "negative"))
    if expected:  # each label has its own name
        by_text = dict(zip(reviews[0], given, strict=True))
        for text, row in zip(corpus.train.texts, corpus.train.labels, strict=True):
            assert by_text[text] == corpus.label_names[row]


@pytest.mark.parametrize(
    ("labels", "separator", "expected"),
    [
        ([[0], [0, 1], None], "", ("good", "bad")),
        (["bad", "bad|good", ""], "|", ("good", "bad")),
        ([["c"], ["a", "b"], []], "", ("a", "b", "c")),
    ],
)
def test_an_earlier_runs_names_of_several_labels_are_kept_for_the_same_alone(labels, separator, expected):
    earlier = settings()
    earlier.data.update(target="labels", separator=separator, label_names=("good", "bad"))
    source = splits_of([f"film {n}" for n in range(30)], labels * 10, None, "text", "label", "", words=False)
    _fit_data(earlier, source, keep_share=True, keep_names=False)
    assert load_corpus(**dict(earlier.data, source=source)).label_names == expected


def test_label_names_of_settings_that_are_given_are_used_as_they_are(reviews, monkeypatch):
    config = settings()
    config.data.label_names = ("schlecht", "gut")
    trained = []
    monkeypatch.setattr(fitting, "train_and_evaluate", lambda config, *_: trained.append(config) or {})
    with pytest.raises(KeyError):  # there are no results to tell
        fit(*reviews, recipe=config)
    assert trained[0].data.label_names == ("schlecht", "gut")


@pytest.mark.parametrize("changes", [{"target": "labels"}, {"pair_column": "pair"}])
def test_pairs_with_several_labels_are_no_sentences_where_the_settings_say_it(monkeypatch, changes):
    config = settings()
    config.data.update(changes)
    trained = []
    monkeypatch.setattr(fitting, "train_and_evaluate", lambda config, *_: trained.append(config) or {})
    with pytest.raises(KeyError):  # there are no results to tell
        fit([("a film", "a play"), ("a play", "a book")], [["art"], ["art", "ink"]], recipe=config)
    assert (trained[0].data.target, trained[0].data.pair_column) == ("labels", "pair")


def test_a_share_to_validate_on_and_a_split_of_its_own_are_refused_together(reviews):
    table = datasets.Dataset.from_dict({"text": reviews[0], "label": reviews[1]})
    splits = datasets.DatasetDict({"train": table, "validation": table.select(range(9))})
    with pytest.raises(InputError, match=r"validation is 0.5, but the texts have a validation split"):
        fit(splits, validation=0.5)


STILL = {"optimizer.name": "sgd", "optimizer.learning_rate": 1e-12, "recipe": None}


def test_training_on_starts_from_the_other_models_parameters(capsys, reviews, model):
    on = fit(*reviews, start=model, progress=True, **STILL)
    output = capsys.readouterr().out
    assert "taken: head/kernel" in output
    assert "not taken" not in output
    np.testing.assert_allclose(on.predict_proba(reviews[0]), model.predict_proba(reviews[0]), atol=1e-6)
    assert on.config.model == model.config.model  # no recipe: the settings of the model


@pytest.mark.slow
def test_training_on_with_other_labels_draws_the_head_anew_and_says_so(capsys, reviews, model):
    texts, labels = reviews
    for others in ([{"bad": "no", "good": "yes"}[label] for label in labels], [0, 1, 2] * 20):
        on = fit(texts, others, start=model, progress=True, **STILL)
        output = capsys.readouterr().out
        assert "not taken, its labels there are bad, good: head/kernel" in output
        assert not same(on.params["head"], model.params["head"])
        close = jax.tree.map(np.allclose, on.params["encoder"], model.params["encoder"])
        assert all(jax.tree.leaves(close))


def test_another_checkpoint_than_the_best_is_no_start(tmp_path, reviews):
    fit(*reviews, workdir=tmp_path / "run", **{"train.evaluate_every": 0.5})
    best = rnn_jax.load(tmp_path / "run").step
    model = rnn_jax.load(tmp_path / "run", 12 if best != 12 else 9)
    with pytest.raises(InputError, match=f"start is the checkpoint of step {model.step}, .* step {best}"):
        fit(*reviews, start=model, recipe=None)


@pytest.mark.slow
def test_a_language_model_needs_a_folder_and_is_returned_as_it_is_loaded(tmp_path, reviews):
    small = {"batch.lanes": 4, "batch.window": 8, "model.hidden": 8, "model.embedding_dim": 8}
    small |= {"train.epochs": 1, "objective.negatives": 0, "text.vocab_size": 130}
    arguments = {"recipe": "language_model", "progress": False, **small}
    with pytest.raises(InputError, match="workdir is None"):
        rnn_jax.fit(reviews[0], **arguments)
    writer = rnn_jax.fit(reviews[0], workdir=tmp_path / "run", **arguments)
    assert writer.write("the film", words=2, temperature=1.0, top_k=0, seed=0).startswith("the film ")


def test_a_split_that_a_language_model_would_leave_out_is_refused(tmp_path, reviews):
    config = tiny_language_config("")
    with pytest.raises(InputError, match="validation is a list; a language model holds out a share"):
        rnn_jax.fit(reviews[0], recipe=config, validation=["held out"], workdir=tmp_path / "run")


@pytest.mark.slow
def test_vectors_in_memory_start_the_table_and_are_kept_for_a_run_that_goes_on(
    tmp_path, monkeypatch, reviews, caplog
):
    monkeypatch.setenv("RNN_JAX_CACHE", str(tmp_path / "cache"))
    words = ["film", "great", "awful", "zyzzyva"]
    width = settings().model.embedding_dim
    given = {word: np.full(width, place + 1.0) for place, word in enumerate(words)}
    frozen = {"train.freeze": ("embedding",), "embedding.scale": 0.0, "train.epochs": 1}
    with caplog.at_level(logging.INFO, logger="rnn_jax"):
        model = fit(*reviews, workdir=tmp_path / "w", **frozen, **{"embedding.vectors": given})
    table = dict(zip(model.tokenizer.words, np.asarray(model.params["embedding"]["embedding"]), strict=True))
    known = [word for word in words if word in table]
    assert known
    for word in known:
        np.testing.assert_array_equal(table[word], given[word])
    assert model.config.embedding.vectors.startswith(str(tmp_path / "cache"))
    assert "which a run that goes on needs; or give the same ones again" in caplog.text
    table_of_arrays = (words, np.array(list(given.values())))
    fit(*reviews, workdir=tmp_path / "w", **frozen, **{"embedding.vectors": table_of_arrays})  # the same run
    given[words[0]] = np.zeros(width)
    with pytest.raises(InputError, match=r"embedding\.vectors"):
        fit(*reviews, workdir=tmp_path / "w", **frozen, **{"embedding.vectors": given})


def test_vectors_in_memory_that_cannot_be_are_refused_at_the_call(reviews):
    with pytest.raises(InputError, match=r"embedding\.vectors has vectors of several lengths"):
        fit(*reviews, **{"embedding.vectors": {"a": [1, 2], "b": [1]}})
