"""Several models as one: the mean of what they say, in Python and on the command line."""

import csv
import json

import numpy as np
import pytest

import rnn_jax
from rnn_jax import Ensemble
from rnn_jax.cli.main import main
from rnn_jax.errors import InputError
from tests.helpers.predictors import make_predictor
from tests.helpers.runs import TEXTS, make_run


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Two runs of other networks, with the same labels."""
    base = tmp_path_factory.mktemp("runs")
    make_run(base / "a")
    make_run(base / "b", cell="gru", bidirectional=True)
    return [base / "a", base / "b"]


def test_an_ensemble_gives_the_mean_probability_of_its_models(folders):
    ensemble, each = rnn_jax.load(folders), [rnn_jax.load(folder) for folder in folders]
    mean = np.mean([model.predict_proba(TEXTS) for model in each], axis=0)
    assert isinstance(ensemble, Ensemble)
    np.testing.assert_allclose(ensemble.predict_proba(TEXTS), mean, atol=1e-7)
    assert ensemble.predict(TEXTS).labels == [each[0].label_names[k] for k in mean.argmax(axis=1)]
    assert ensemble.predict([]).labels == []
    assert len(rnn_jax.load(folder for folder in folders).members) == 2


def test_what_are_no_models_of_texts_is_refused(folders):
    model = rnn_jax.load(folders[0])
    for members in (model, folders, [model, folders[1]], str(folders[0])):
        with pytest.raises(InputError, match=r"no list of models of texts; give what rnn_jax\.load returns"):
            Ensemble(members)


def test_the_order_and_the_parts_of_texts_change_nothing(folders, monkeypatch):
    ensemble = rnn_jax.load(folders)
    whole = ensemble.predict_proba(TEXTS)
    monkeypatch.setattr("rnn_jax.inference.parts.PART", 2)
    np.testing.assert_array_equal(ensemble.predict_proba(TEXTS), whole)
    np.testing.assert_array_equal(ensemble.predict_proba(TEXTS[::-1])[::-1], whole)


def test_an_ensemble_of_one_is_that_model(folders):
    alone, model = Ensemble([rnn_jax.load(folders[0])]), rnn_jax.load(folders[0])
    labels = [0, 1, 0, 1, 1]
    np.testing.assert_array_equal(alone.predict_proba(TEXTS), model.predict_proba(TEXTS))
    ours, theirs = alone.evaluate(TEXTS, labels), model.evaluate(TEXTS, labels)
    assert ours.confusion.tolist() == theirs.confusion.tolist()
    assert ours.summary()["loss"] == pytest.approx(theirs.summary()["loss"], rel=1e-5)
    assert ours.scores["log_loss"] == pytest.approx(theirs.scores["log_loss"], rel=1e-5)


@pytest.mark.parametrize("target", ["labels", "number"])
def test_other_heads_are_averaged_too(target):
    labels = {"labels": [["0"], [], ["0", "1"]], "number": [1.0, -2.5, 4.0]}[target]
    members, texts = [make_predictor(("0", "1"), target=target, seed=seed) for seed in (0, 1)], TEXTS[:3]
    ensemble = Ensemble(members)
    answers = [model.predict(texts)[-1] for model in members]
    np.testing.assert_allclose(ensemble.predict(texts)[-1], np.mean(answers, axis=0), rtol=1e-5)
    alone = Ensemble(members[:1]).evaluate(texts, labels).summary()
    for name, value in members[0].evaluate(texts, labels).summary().items():
        assert alone[name] == pytest.approx(value, rel=1e-4), name


def test_numbers_are_averaged_in_the_unit_of_the_data_whatever_each_model_was_trained_on():
    scales = (10.0, 2.0), (-300.0, 0.5), (4.0, 70.0)
    members = [make_predictor(target="number", seed=seed, scale=scale) for seed, scale in enumerate(scales)]
    mean = np.mean([model.predict(TEXTS).values for model in members], axis=0)
    for order in (members, members[::-1]):
        np.testing.assert_allclose(Ensemble(order).predict(TEXTS).values, mean, rtol=1e-5)
        found = Ensemble(order).evaluate(TEXTS, [0.0] * len(TEXTS))
        assert found.summary()["rmse"] == pytest.approx(np.sqrt(np.mean(mean**2)), rel=1e-4)
    classes = make_predictor()
    with pytest.raises(InputError, match=r"model 1 .* decides negative, positive, but model 0 numbers"):
        Ensemble([members[0], classes])


def test_models_of_other_labels_are_refused(folders, tmp_path):
    make_run(tmp_path / "c", names=("dull", "fine"), values=("dull", "fine"))
    with pytest.raises(InputError, match="model 1 of the ensemble decides dull, fine, but model 0 negative"):
        rnn_jax.load([folders[0], tmp_path / "c"])
    with pytest.raises(InputError, match="no models"):
        Ensemble([])


def test_the_command_line_writes_what_soft_labels_reads(folders, tmp_path):
    from rnn_jax.data.reading import Reading
    from rnn_jax.data.soft_labels import read_soft_labels

    (tmp_path / "in.csv").write_text("text\n" + "".join(f"{text}\n" for text in TEXTS))
    several = [part for folder in folders for part in ("--workdir", str(folder))]
    out = tmp_path / "soft.csv"
    main(["predict", *several, "--input", str(tmp_path / "in.csv"), "--out", str(out), "--probabilities"])
    ensemble = rnn_jax.load(folders)
    texts, probabilities = read_soft_labels(str(out), ensemble.label_names, Reading("text"))
    assert texts == TEXTS
    np.testing.assert_allclose(probabilities, ensemble.predict_proba(TEXTS), atol=1e-7)
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["predicted"] for row in rows] == ensemble.predict(TEXTS).labels


def test_evaluate_takes_several_runs(folders, tmp_path, capsys):
    (tmp_path / "in.csv").write_text(
        "text,label\n" + "".join(f"{text},{n % 2}\n" for n, text in enumerate(TEXTS))
    )
    several = [part for folder in folders for part in ("--workdir", str(folder))]
    main(["evaluate", *several, "--data", str(tmp_path / "in.csv"), "--format", "jsonl"])
    found = json.loads(capsys.readouterr().out)
    expected = rnn_jax.load(folders).evaluate(TEXTS, [n % 2 for n in range(len(TEXTS))]).summary()
    assert {name: found[name] for name in expected} == pytest.approx(expected)


def test_probabilities_are_refused_where_they_would_be_lost(folders, capsys):
    with pytest.raises(SystemExit):
        main(["predict", "--workdir", str(folders[0]), "--probabilities", "a film"])
    assert "--probabilities is given without --out" in capsys.readouterr().err
