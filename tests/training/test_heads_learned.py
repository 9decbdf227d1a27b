"""Several labels, numbers and pairs of texts, from a file to predictions, exports, reports and answers."""

import csv
import io
import json
import re
import shutil
import sys
import zipfile

import jax
import numpy as np
import pytest
from jax import export

import rnn_jax
from rnn_jax import cli
from rnn_jax.errors import InputError
from rnn_jax.inference.export import export_classifier
from rnn_jax.report import write_html
from rnn_jax.serving import make_app
from rnn_jax.serving.answers import Answers
from rnn_jax.settings import classifier_settings
from rnn_jax.training import train_and_evaluate
from tests.helpers.browser import CHROMIUM, opened

pytestmark = pytest.mark.slow
FILLER = ["the", "a", "film", "of", "in", "it", "was", "and", "to", "that", "with", "this"]
TOPICS = {"war": "battle", "love": "kiss", "space": "rocket"}
KINDS = ("labels", "number", "pair")


def rows_of(kind, count, seed):
    """Returns rows whose target follows from single words of the text."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        words = list(rng.choice(FILLER, 5))
        if kind == "labels":
            found = [name for name in TOPICS if rng.random() < 0.4]
            words += [TOPICS[name] for name in found]
            rows.append({"text": words, "label": "|".join(found)})
        elif kind == "number":
            stars = int(rng.integers(0, 5))
            words += ["star"] * stars
            rows.append({"text": words, "label": 1000.0 + 50.0 * stars})
        else:
            one, two = (
                rng.choice(list(TOPICS.values()), 2) if number % 2 else [rng.choice([*TOPICS.values()])] * 2
            )
            other = [*rng.choice(FILLER, int(rng.integers(1, 6))), str(two), f"n{rng.integers(5)}"]
            label = "alike" if one == two else "other"
            rows.append({"text": [*words, str(one)], "answer": " ".join(map(str, other)), "label": label})
    return [{**row, "text": " ".join(map(str, rng.permutation(row["text"])))} for row in rows]


def write(path, rows):
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def settings(source, kind):
    config = classifier_settings()
    config.data.source, config.text.vocab_size, config.text.max_length = str(source), 60, 16
    config.batch.buckets, config.devices = 1, 1
    if kind == "pair":
        config.data.pair_column = "answer"
    else:
        config.data.target = kind
    if kind == "labels":
        config.data.separator, config.train.monitor = "|", "macro_f1"
    return config


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Returns for each kind the folder of a default run, its results, and rows that it has not seen."""
    found = {}
    for kind in KINDS:
        folder = tmp_path_factory.mktemp(kind)
        source = write(folder / "rows.csv", rows_of(kind, 4000 if kind == "pair" else 2500, seed=0))
        config = settings(source, kind)
        results = train_and_evaluate(config, folder / "run")
        found[kind] = folder / "run", results, rows_of(kind, 40, seed=1)
    return found


def texts_in(kind, rows):
    return [(row["text"], row["answer"]) if kind == "pair" else row["text"] for row in rows]


def test_a_default_run_learns_what_can_be_learned(runs):
    assert runs["labels"][1]["scores"]["macro_f1"] > 0.99
    assert runs["labels"][1]["subset_accuracy"] > 0.97
    assert runs["number"][1]["r2"] > 0.95
    assert runs["number"][1]["rmse"] < 15
    assert runs["pair"][1]["accuracy"] > 0.95
    for _, results, _ in runs.values():
        assert results["validation"]["step"] == results["best_step"]


def test_predictions_are_labels_values_and_classes(runs):
    workdir, _, rows = runs["labels"]
    found = rnn_jax.load(workdir).predict(texts_in("labels", rows))
    right = [
        sorted(labels) == sorted(filter(None, row["label"].split("|")))
        for labels, row in zip(found.labels, rows, strict=True)
    ]
    assert np.mean(right) > 0.9
    assert any(not labels for labels in found.labels)
    workdir, _, rows = runs["number"]
    model = rnn_jax.load(workdir)
    values = model.predict(texts_in("number", rows)).values
    np.testing.assert_allclose(values, [row["label"] for row in rows], atol=60)
    with pytest.raises(InputError, match="no probabilities"):
        model.predict_proba(["a film"])
    workdir, _, rows = runs["pair"]
    model = rnn_jax.load(workdir)
    labels = model.predict(texts_in("pair", rows)).labels
    assert np.mean([label == row["label"] for label, row in zip(labels, rows, strict=True)]) > 0.9
    with pytest.raises(TypeError, match="two texts are compared"):
        model.predict(["a film"])
    with pytest.raises(InputError, match="stream gives the probabilities"):
        model.stream()


@pytest.mark.parametrize("kind", KINDS)
def test_scores_of_a_run_are_those_that_evaluate_finds_on_the_rows_of_the_file(runs, kind, tmp_path, capsys):
    workdir, _, rows = runs[kind]
    model = rnn_jax.load(workdir)
    found = model.evaluate(texts_in(kind, rows), [row["label"] for row in rows])
    path = write(tmp_path / "test.csv", rows)
    cli.main(["evaluate", "--workdir", str(workdir), "--data", str(path), "--format", "jsonl"])
    printed = json.loads(capsys.readouterr().out)
    for name, value in found.summary().items():
        assert printed[name] == pytest.approx(value)
    assert printed["scores"].keys() == found.scores.keys()


@pytest.mark.parametrize("kind", KINDS)
def test_the_command_reads_the_columns_and_writes_what_is_decided(runs, kind, tmp_path, capsys):
    workdir, _, rows = runs[kind]
    path, out = write(tmp_path / "in.csv", rows), tmp_path / "out.csv"
    cli.main(["predict", "--workdir", str(workdir), "--input", str(path), "--out", str(out)])
    written = list(csv.DictReader(out.read_text().splitlines()))
    prediction = rnn_jax.load(workdir).predict(texts_in(kind, rows))
    if kind == "number":
        np.testing.assert_allclose([float(row["predicted"]) for row in written], prediction.values, rtol=1e-6)
    elif kind == "labels":
        assert [row["predicted"] for row in written] == ["|".join(labels) for labels in prediction.labels]
        assert json.loads(written[0]["probabilities"]).keys() == {"love", "space", "war"}
    else:
        assert [row["predicted"] for row in written] == prediction.labels
        cli.main(["predict", "--workdir", str(workdir), "--format", "jsonl", *texts_in(kind, rows)[0]])
        line = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert (line["pair"], line["label"]) == (rows[0]["answer"], prediction.labels[0])


@pytest.mark.parametrize("kind", KINDS)
def test_an_exported_program_and_a_saved_folder_give_the_predictions(runs, kind, tmp_path):
    workdir, _, rows = runs[kind]
    model, texts = rnn_jax.load(workdir), texts_in(kind, rows)
    export_classifier(model, tmp_path / "model.zip")
    with zipfile.ZipFile(tmp_path / "model.zip") as archive:
        about = json.loads(archive.read("about.json"))
        program = export.deserialize(bytearray(archive.read("program.bin")))
        params = {name: np.load(io.BytesIO(archive.read(f"params/{name}.npy"))) for name in about["params"]}
    assert about["format"] == 2  # the program of docs/export.md reads format 1, classes of single texts
    ids = [model.tokenizer.encode([text] if kind != "pair" else list(text)) for text in texts]
    parts, width = len(ids[0]), 16
    token_ids = np.zeros((len(ids), parts * width), np.int32)
    for row, texts_of_row in enumerate(ids):
        for part, words in enumerate(texts_of_row):
            token_ids[row, part * width : part * width + len(words)] = words
    lengths = np.array([[len(words) for words in row] for row in ids], np.int32)
    found = np.asarray(jax.jit(program.call)(params, token_ids, lengths if kind == "pair" else lengths[:, 0]))
    wanted = model.predict(texts)
    if kind == "number":
        np.testing.assert_allclose(found, wanted.values, rtol=1e-5)
    else:
        np.testing.assert_allclose(
            np.exp(found) if kind == "pair" else found, wanted.probabilities, atol=1e-5
        )
    model.save(tmp_path / "saved")
    again = rnn_jax.load(tmp_path / "saved").predict(texts)
    np.testing.assert_array_equal(again[-1], wanted[-1])
    card = (tmp_path / "saved" / "README.md").read_text()
    assert {"labels": "may have several of 3 labels", "number": "A regressor", "pair": "pairs of texts"}[
        kind
    ] in card


@pytest.mark.parametrize("kind", KINDS)
def test_words_that_decide_are_found_and_served(runs, kind):
    workdir, _, _rows = runs[kind]
    model = rnn_jax.load(workdir)
    if kind == "pair":
        text = ["the battle was", "of battle it"]
        found = model.attribute(text, "alike")
        assert (found.words, found.first) == (["the", "battle", "was", "of", "battle", "it"], 3)
        assert found.scores.sum() == pytest.approx(found.value - found.baseline, abs=0.05)
    else:
        text, best = {"labels": ("the rocket was", "rocket"), "number": ("the star was it", "star")}[kind]
        found = model.attribute(text, "space" if kind == "labels" else None)
        assert found.words[found.scores.argmax()] == best
    answers = Answers(model)
    (answer,), explained = answers.predict([text]), answers.explain(text, None)
    assert (
        answer.keys()
        == {
            "labels": {"labels", "probabilities"},
            "number": {"value"},
            "pair": {"label", "probability", "probabilities"},
        }[kind]
    )
    assert "".join(piece["text"] for piece in explained["pieces"]) == (
        "\n\n".join(text) if kind == "pair" else text
    )


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the path; apt-get install chromium")
@pytest.mark.parametrize(("kind", "text"), [("labels", "a rocket of kiss"), ("number", "star it star")])
def test_a_browser_shows_what_is_decided(runs, kind, text, tmp_path):
    model = rnn_jax.load(runs[kind][0])
    dom = opened(make_app(model), text, tmp_path)
    prediction = model.predict([text])
    (shown,) = re.findall(r'<span id="label">(.*?)</span>', dom)
    if kind == "labels":
        assert shown == ", ".join(prediction.labels[0]) == "love, space"
        shares = sorted(re.findall(r'class="share">([\d.]+) %<', dom))
        assert shares == sorted(f"{100 * share:.1f}" for share in prediction.probabilities[0])
    else:
        assert float(shown) == pytest.approx(prediction.values[0], rel=1e-4)
        assert "What the number is made of" in dom


@pytest.mark.parametrize("kind", KINDS)
def test_the_report_shows_what_the_head_has(runs, kind):
    workdir, results, _ = runs[kind]
    page = write_html(workdir).read_text()
    assert 'id="missing"' not in page
    assert ('id="confusion"' in page) == (kind == "pair")
    assert ('id="classes"' in page) == (kind != "number")
    charts = {"labels": ["ROC", "Calibration"], "number": ["Predicted against true", "Error by length"]}
    for chart in charts.get(kind, ["ROC", "Calibration"]):
        assert f"<h3>{chart}</h3>" in page
    name = {"labels": "micro_f1", "number": "rmse", "pair": "accuracy"}[kind]
    assert f'<th scope="row">{name}</th><td>{results[name]}</td>' in page


@pytest.mark.parametrize(
    ("name", "key", "value", "message"),
    [
        ("task.json", "mean", "x", "mean and deviation are"),
        ("task.json", "deviation", 0, "mean and deviation are"),
        ("config.json", "target", ["number"], "are no strings"),
        ("config.json", "target", "nunber", "data.target is 'nunber'"),
    ],
)
def test_a_folder_that_was_tampered_with_is_refused(runs, tmp_path, name, key, value, message):
    rnn_jax.load(runs["number"][0]).save(tmp_path / "saved")
    path = tmp_path / "saved" / name
    found = json.loads(path.read_text())
    (found if name == "task.json" else found["data"])[key] = value
    path.write_text(json.dumps(found))
    with pytest.raises(InputError, match=message):
        rnn_jax.load(tmp_path / "saved")


def test_pairs_on_the_command_line_are_two_texts_and_on_a_line_have_a_tab(runs, capsys, monkeypatch):
    command = ["predict", "--workdir", str(runs["pair"][0]), "--format", "jsonl"]
    monkeypatch.setattr(sys, "stdin", io.StringIO("a kiss\tthis kiss\n"))
    cli.main(command)
    line = json.loads(capsys.readouterr().out)
    assert (line["text"], line["pair"]) == ("a kiss", "this kiss")
    for texts, message in ((["a", "b", "c"], "but there are 3"), ([], "line 0 has no tab")):
        monkeypatch.setattr(sys, "stdin", io.StringIO("no tab\n"))
        with pytest.raises(SystemExit):
            cli.main([*command, *texts])
        assert message in capsys.readouterr().err


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_goes_on_only_with_its_own_head(runs, kind, tmp_path):
    workdir, results, _ = runs[kind]
    shutil.copytree(workdir, tmp_path / "run")
    config = settings(workdir.parent / "rows.csv", kind)
    assert train_and_evaluate(config, tmp_path / "run")["best_step"] == results["best_step"]
    config.data.pair_column = "" if kind == "pair" else "answer"
    with pytest.raises(InputError, match=r"data\.pair_column"):
        train_and_evaluate(config, tmp_path / "run")
