"""A saved run in use: what is loaded is what was saved, and predictions are the model's."""

import itertools
import json
import pickle
import shutil
import subprocess
import sys

import jax
import numpy as np
import pandas as pd
import pytest

import rnn_jax
from rnn_jax.errors import InputError
from rnn_jax.models.classifier import build_classifier
from tests.helpers.predictors import make_predictor
from tests.helpers.runs import TEXTS, make_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run") / "w"
    return workdir, make_run(workdir)


@pytest.fixture(scope="module")
def predictor(run):
    return rnn_jax.load(run[0])


@pytest.fixture
def copy(run, tmp_path):
    """A copy of the run that a test may damage."""
    shutil.copytree(run[0], tmp_path / "w")
    return tmp_path / "w"


def same(ours, theirs):
    pairs = zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True)
    return all(np.asarray(a).tobytes() == np.asarray(b).tobytes() for a, b in pairs)


@pytest.mark.parametrize(("which", "step"), [("best", 2), ("last", 3), (1, 1), (3, 3)])
def test_loaded_parameters_are_those_saved(run, which, step):
    predictor = rnn_jax.load(run[0], which=which)
    assert predictor.step == step
    assert same(predictor.params, run[1][step])
    assert predictor.config.model.hidden == 4
    assert predictor.label_names == ("negative", "positive")


def probability_alone(predictor, text):
    """Probability of the second class from one text by itself, unpadded."""
    ids = predictor.tokenizer.encode([text])[0][-12:]
    padded, lengths = np.zeros((1, max(1, len(ids))), np.int32), np.array([len(ids)])
    padded[0, : len(ids)] = ids
    logit = float(predictor.apply_fn({"params": predictor.params}, padded, lengths)[0, 0])
    return 1 / (1 + np.exp(-logit))


@pytest.mark.parametrize(
    ("pooling", "size"), [("last", 16), ("last", 4), ("max", 16), ("mean", 16), ("attention", 16)]
)
def test_a_text_has_the_same_bits_alone_as_in_any_batch(pooling, size):
    predictor = make_predictor(pooling=pooling, hidden=16, bidirectional=True)
    predictor.config.batch.size = size
    predictor = pickle.loads(pickle.dumps(predictor))
    texts = [
        " ".join(("great", "film", "dull", "a")[index % 4] for index in range(n % 13)) for n in range(40)
    ]
    together = predictor.predict(texts).probabilities
    for count in (1, 3, 11):
        parts = [texts[start : start + count] for start in range(0, len(texts), count)]
        apart = np.concatenate([predictor.predict(part).probabilities for part in parts])
        assert apart.tobytes() == together.tobytes()
    if pooling in ("last", "max"):  # and those of the network in batches of the run's size
        batches = list(whole_batches(predictor, texts, size))
        whole = np.concatenate([predictor.answers_of(*part) for part in batches])[: len(texts)]
        assert together.tobytes() == whole.tobytes()
        logits = np.concatenate([predictor.apply_fn({"params": predictor.params}, *part) for part in batches])
        np.testing.assert_allclose(together, predictor.head.answer(logits)[: len(texts)], rtol=1e-5)


def whole_batches(predictor, texts, size):
    rows = [row[:12] for row in predictor.tokenizer.encode([*texts, *[""] * (-len(texts) % size)])]
    for start in range(0, len(rows), size):
        part = rows[start : start + size]
        ids = np.zeros((size, predictor.buckets[-1]), np.int32)
        for line, row in zip(ids, part, strict=True):
            line[: len(row)] = row
        yield ids, np.array([len(row) for row in part])


HOSTILE = {
    "empty": "",
    "spaces": " \n\t ",
    "emoji": "great 😀 film 👩‍👩‍👧",
    "NUL": "a\x00great\x00film",
    "lone surrogate": "a \ud800 film",
    "long": "great film " * 50_000,
    "markup": "[bold]great[/bold] <br /> film",
    "unknown": "zyzzyva",
}


@pytest.mark.slow
def test_predictions_are_those_of_each_text_alone_in_the_order_given(predictor):
    texts = [*TEXTS, *HOSTILE.values(), *reversed(TEXTS), "a great film " * 3]
    labels, probabilities = predictor.predict(texts)
    expected = np.array([probability_alone(predictor, text) for text in texts])
    np.testing.assert_allclose(probabilities[:, 1], expected, atol=1e-6)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)
    assert labels == [("negative", "positive")[int(p > 0.5)] for p in expected]
    assert len(set(np.round(expected, 5))) > 5


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text_gets_an_answer(predictor, name):
    labels, probabilities = predictor.predict([HOSTILE[name]])
    assert labels[0] in ("negative", "positive")
    assert np.all(np.isfinite(probabilities))


def test_no_texts_give_no_predictions(predictor):
    labels, probabilities = predictor.predict([])
    assert labels == []
    assert probabilities.shape == (0, 2)


@pytest.mark.parametrize(
    ("texts", "message"), [("great", "one string"), ([1], "text 0 is 1"), (["a", b"b"], "text 1 is b'b'")]
)
def test_what_is_no_list_of_strings_is_a_type_error(predictor, texts, message):
    with pytest.raises(TypeError, match=message):
        predictor.predict(texts)


@pytest.mark.slow
def test_apply_fn_is_compiled_and_runs_the_model_as_trained(run, predictor):
    ids, lengths = predictor.tokenizer.encode(TEXTS[:1])[0][None], np.array([4])
    model = build_classifier(predictor.tokenizer.vocab_size, 2, **predictor.config.model)
    expected = model.apply({"params": run[1][2]}, ids[:, :4], lengths)
    actual = predictor.apply_fn({"params": predictor.params}, ids[:, :4], lengths)
    np.testing.assert_allclose(actual, expected, atol=1e-6)
    assert "stablehlo" in predictor.apply_fn.lower({"params": predictor.params}, ids, lengths).as_text()
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(predictor.params))


@pytest.mark.slow
def test_more_classes_than_two(tmp_path):
    make_run(tmp_path / "w", names=("bad", "good", "meh"), values=("b", "g", "m"))
    predictor = rnn_jax.load(tmp_path / "w")
    labels, probabilities = predictor.predict(TEXTS)
    assert probabilities.shape == (5, 3)
    assert labels == [("bad", "good", "meh")[index] for index in probabilities.argmax(axis=1)]
    np.testing.assert_array_equal(predictor.label_positions(["m", "b"]), [2, 0])
    with pytest.raises(InputError, match="'x'"):
        predictor.label_positions(["x"])
    with pytest.raises(InputError, match=r"label column holds \[\['b'\]\]"):
        predictor.label_positions([["b"]])
    assert predictor.evaluate(TEXTS, [0, 1, 2, 0, 1]).confusion.sum() == 5


def test_evaluation_counts_predictions_against_labels(predictor):
    labels = [1, 0, 1, 0, 1]
    metrics = predictor.evaluate(TEXTS, labels)
    _, probabilities = predictor.predict(TEXTS)
    expected = np.zeros((2, 2))
    np.add.at(expected, (labels, probabilities.argmax(axis=1)), 1)
    np.testing.assert_array_equal(metrics.confusion, expected)
    loss = -np.log(probabilities[np.arange(5), labels]).mean()
    assert metrics.summary()["loss"] == pytest.approx(loss, rel=1e-4)


def test_evaluation_needs_texts_and_a_label_for_each(predictor):
    with pytest.raises(InputError, match="no texts to evaluate"):
        predictor.evaluate([], [])
    with pytest.raises(InputError, match="5 texts and 1 labels"):
        predictor.evaluate(TEXTS, [1])


@pytest.mark.parametrize("labels", [[0, 1, 2, 0, 1], [0, 1, -1, 0, 1], [0.5] * 5, ["good"] * 5, [[0]] * 5])
def test_labels_that_the_model_does_not_know_are_refused(predictor, labels):
    with pytest.raises(InputError, match=r"none of those that the model knows: 'negative', 'positive', 0, 1"):
        predictor.evaluate(TEXTS, labels)


def test_labels_may_be_names(predictor):
    by_name = predictor.evaluate(TEXTS, ["positive", "negative", "negative", "positive", "negative"])
    assert by_name.scores == predictor.evaluate(TEXTS, [1, 0, 0, 1, 0]).scores


def params_folder(workdir, step):
    return workdir / "checkpoints" / str(step) / "params"


def test_checkpoint_with_a_part_missing_is_an_error_or_the_previous_good_one_if_asked(copy, run):
    shutil.rmtree(params_folder(copy, 3))
    with pytest.raises(InputError, match=r"checkpoints/3 cannot be read.*--fallback"):
        rnn_jax.load(copy, which="last")
    predictor = rnn_jax.load(copy, which="last", fallback=True)
    assert predictor.step == 2
    assert same(predictor.params, run[1][2])
    shutil.rmtree(params_folder(copy, 2))
    shutil.rmtree(params_folder(copy, 1))
    with pytest.raises(InputError, match=r"checkpoints/3.*checkpoints/2.*checkpoints/1"):
        rnn_jax.load(copy, which="last", fallback=True)


@pytest.mark.slow
def test_checkpoint_cut_short_is_an_error_or_the_previous_good_one_if_asked(copy):
    # In a process of its own: Orbax leaves tasks of the failed read behind, which complain when collected.
    data = [path for path in params_folder(copy, 3).rglob("d/*") if path.is_file()]
    assert data, "the layout of Orbax changed"
    for path in data:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    program = (
        "import sys, rnn_jax; print(rnn_jax.load(sys.argv[1], 'last', fallback=sys.argv[2] == 'yes').step)"
    )
    refused, fallen_back = (
        subprocess.run(
            [sys.executable, "-c", program, copy, ask], capture_output=True, text=True, check=False
        )
        for ask in ("no", "yes")
    )
    assert refused.returncode != 0
    assert "checkpoints/3 cannot be read" in refused.stderr
    assert fallen_back.stdout == "2\n", fallen_back.stderr


def test_folder_that_is_no_run_is_refused(tmp_path, copy):
    for workdir in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(
            InputError, match=r"is not the folder of a run: it needs config\.json and checkpoints/"
        ):
            rnn_jax.load(workdir)
    shutil.rmtree(copy / "checkpoints")
    (copy / "checkpoints").mkdir()
    with pytest.raises(InputError, match="holds no complete checkpoint"):
        rnn_jax.load(copy)
    with pytest.raises(InputError, match="workdir is None; give the folder of a run, or several"):
        rnn_jax.load(None)


@pytest.mark.parametrize("file", ["config.json", "task.json", "tokenizer.json"])
def test_broken_file_of_a_run_is_named(copy, file):
    (copy / file).write_text((copy / file).read_text()[:20])
    with pytest.raises(InputError, match=file):
        rnn_jax.load(copy)


def test_checkpoint_of_another_network_is_refused_by_path(copy):
    config = json.loads((copy / "config.json").read_text())
    config["model"]["hidden"] = 8
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=r"of another network than its config.*'encoder/cell/h"):
        rnn_jax.load(copy)


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("config.json", lambda config: config | {"model": {"units": 4}}),
        ("config.json", lambda config: config | {"model": config["model"] | {"units": 4}}),
        ("config.json", lambda config: config | {"model": None}),
        ("config.json", lambda config: config | {"batch": {}}),
        ("config.json", lambda config: {}),
        ("config.json", lambda config: []),
        ("task.json", lambda task: {"label_names": task["label_names"]}),
        ("task.json", lambda task: None),
    ],
)
def test_files_of_another_program_are_refused_by_name(copy, file, change):
    (copy / file).write_text(json.dumps(change(json.loads((copy / file).read_text()))))
    with pytest.raises(InputError, match=rf"{file} is not of this version of rnn_jax: "):
        rnn_jax.load(copy)


@pytest.mark.parametrize("which", [7, "latest", 0])
def test_unknown_checkpoint_is_refused_with_those_there_are(run, which):
    with pytest.raises(InputError, match=rf"which is {which!r}; give .* saved step: \[1, 2, 3\]"):
        rnn_jax.load(run[0], which=which)


@pytest.mark.slow
def test_use_needs_no_training_code(run):
    check = (
        "import sys, rnn_jax; model = rnn_jax.load(sys.argv[1]); model.predict(['a great film']);"
        "loaded = {'train_loop', 'rnn_jax.training', 'datasets'} & set(sys.modules);"
        "assert not loaded, loaded"
    )
    done = subprocess.run([sys.executable, "-c", check, run[0]], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == done.stderr == ""


ITERABLES = {
    "a generator": lambda: (text for text in TEXTS),
    "numpy": lambda: np.array(TEXTS),
    "pandas": lambda: pd.Series(TEXTS, index=range(7, 12)),
    "a tuple": lambda: tuple(TEXTS),
    "the keys of a dict": lambda: dict.fromkeys(TEXTS).keys(),
}


@pytest.mark.parametrize("kind", ITERABLES)
def test_any_iterable_is_predicted_as_a_list_is(predictor, kind):
    expected = predictor.predict(TEXTS)
    prediction = predictor.predict(ITERABLES[kind]())
    assert prediction.labels == expected.labels
    np.testing.assert_array_equal(predictor.predict_proba(ITERABLES[kind]()), expected.probabilities)


def test_a_stream_without_an_end_is_predicted_part_by_part(predictor, monkeypatch):
    monkeypatch.setattr("rnn_jax.inference.parts.PART", 3)
    read = []
    endless = (read.append(text) or text for text in itertools.cycle(TEXTS))
    parts = predictor.predict_parts(endless)
    found = [next(parts), next(parts)]
    assert len(read) == 6, "only what was asked for is read"
    expected = predictor.predict([*TEXTS, TEXTS[0]])
    np.testing.assert_allclose(
        np.concatenate([part.probabilities for part in found]), expected.probabilities, atol=1e-6
    )
    assert found[0].labels + found[1].labels == expected.labels


@pytest.mark.parametrize("nothing", [None, float("nan"), pd.NA])
def test_a_missing_text_is_a_text_without_words(predictor, nothing):
    np.testing.assert_array_equal(
        predictor.predict_proba(["a film", nothing]), predictor.predict_proba(["a film", ""])
    )


def test_labels_to_evaluate_on_are_names_or_what_the_data_had(tmp_path, predictor):
    expected = predictor.evaluate(TEXTS, [1, 0, 1, 0, 1])
    for labels in (
        ["positive", "negative"] * 2 + ["positive"],
        pd.Series([True, False, True, False, True]),
        (number for number in (1, 0, 1, 0, 1)),
        predictor.label_positions([1, 0, 1, 0, 1]),
    ):
        assert same(predictor.evaluate(TEXTS, labels), expected)
    make_run(tmp_path / "stars", names=("1", "2"), values=(1, 2))
    stars = rnn_jax.load(tmp_path / "stars")
    expected = stars.evaluate(TEXTS, ["2", "1", "2", "1", "2"])
    assert expected.confusion.sum(axis=1).tolist() == [2, 3]
    assert same(stars.evaluate(TEXTS, [2, 1, 2, 1, 2]), expected)
    assert same(stars.evaluate(TEXTS, stars.label_positions([2, 1, 2, 1, 2])), expected)
    with pytest.raises(InputError, match=r"labels \[0, 0\] are none of those"):
        stars.evaluate(TEXTS, [1, 0, 1, 0, 1])


def test_a_copy_predicts_the_same_and_equal_networks_share_their_program(run, predictor):
    copy = pickle.loads(pickle.dumps(predictor))
    np.testing.assert_array_equal(copy.predict_proba(TEXTS), predictor.predict_proba(TEXTS))
    assert rnn_jax.load(run[0], "last").apply_fn is predictor.apply_fn


def test_long_work_shows_how_far_it_is_and_short_work_does_not(predictor, capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich then takes any output for a terminal
    predictor.predict(TEXTS)
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr("rnn_jax.inference.parts.PATIENCE", 0.0)
    predictor.predict(TEXTS)
    assert capsys.readouterr() == ("", "")  # a few texts have no bar
    monkeypatch.setattr("rnn_jax.inference.parts.FEW", 0)
    predictor.predict(TEXTS)
    out, err = capsys.readouterr()
    assert out == ""
    assert "5/5" in err
    predictor.predict(TEXTS, progress=False)
    assert capsys.readouterr() == ("", "")
