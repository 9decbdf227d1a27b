"""A saved model is the model: to the bit, from a folder of plain files, whole or not at all."""

import functools
import json
import re
import shutil

import jax
import numpy as np
import pytest
import yaml

import rnn_jax
from rnn_jax.checkpoints.restore import best_params
from rnn_jax.checkpoints.workdir import check_workdir
from rnn_jax.errors import InputError
from rnn_jax.training.initialisation import transferred
from tests.helpers.runs import TEXTS, make_language_run, make_run

RESULTS = {
    "best_step": 2,
    "accuracy": 0.875,
    "loss": 0.25,
    "examples": 40,
    "validation": {"step": 2, "accuracy": 0.75, "loss": 0.5, "examples": 20},
    "scores": {"macro_f1": 0.5, "roc_auc": None, "classes": {"bad": {"f1": 0.5}}},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run") / "w"
    make_run(workdir, names=("bad", "go|od"), values=("0110", "x"))
    (workdir / "results.json").write_text(json.dumps(RESULTS))
    return workdir


@pytest.fixture(scope="module")
def model(run):
    return rnn_jax.load(run)


@pytest.fixture(scope="module")
def once(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved") / "reviews"
    model.save(folder, license="mit", language="en", dataset="ada/films")
    return folder


@pytest.fixture
def saved(once, tmp_path):
    """A copy of the saved model that a test may damage."""
    return shutil.copytree(once, tmp_path / "reviews")


def test_a_saved_model_predicts_the_same_bits_and_saves_to_the_same_files(model, once, tmp_path):
    loaded = rnn_jax.load(once)
    assert loaded.predict(TEXTS).probabilities.tobytes() == model.predict(TEXTS).probabilities.tobytes()
    assert loaded.label_values == ["0110", "x"]
    assert loaded.config == model.config
    assert loaded.step == 2
    loaded.save(tmp_path / "reviews", license="mit", language="en", dataset="ada/films")
    first, again = (
        {path.name: path.read_bytes() for path in folder.iterdir()} for folder in (once, tmp_path / "reviews")
    )
    assert first == again
    assert sorted(first) == [
        "README.md", "config.json", "model.safetensors", "results.json", "task.json", "tokenizer.json"
    ]  # fmt: skip


def test_a_model_finds_its_results_after_the_program_went_to_another_folder(run, tmp_path, monkeypatch):
    monkeypatch.chdir(run.parent)
    model = rnn_jax.load(run.name)
    monkeypatch.chdir(tmp_path)
    model.save("saved")
    assert json.loads((tmp_path / "saved" / "results.json").read_text()) == RESULTS


def test_a_saved_language_model_writes_the_same(tmp_path):
    make_language_run(tmp_path / "w")
    writer = rnn_jax.load_language_model(tmp_path / "w")
    writer.save(tmp_path / "s")
    draw = {"words": 5, "temperature": 0.8, "top_k": 0, "seed": 3}
    assert rnn_jax.load_language_model(tmp_path / "s").write("a film", **draw) == writer.write(
        "a film", **draw
    )
    with pytest.raises(InputError, match="holds a language model"):
        rnn_jax.load(tmp_path / "s")


def test_the_card_of_a_backward_language_model_shows_what_it_can(tmp_path, capsys):
    make_language_run(tmp_path / "w", direction="backward")
    rnn_jax.load_language_model(tmp_path / "w").save(tmp_path / "s")
    card = (tmp_path / "s" / "README.md").read_text()
    assert "A language model that reads backward" in card
    (code,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    exec(code.replace("'s'", repr(str(tmp_path / "s"))), {})
    assert capsys.readouterr().out == "backward\n"


def test_the_card_has_what_the_hub_reads_and_what_a_person_needs(once, run, tmp_path):
    _, front, text = (once / "README.md").read_text().split("---\n", 2)
    found = yaml.safe_load(front)
    assert (found["license"], found["language"]) == ("mit", "en")
    assert (found["library_name"], found["pipeline_tag"]) == ("rnn_jax", "text-classification")
    assert found["datasets"] == ["ada/films"]
    (results,) = found["model-index"][0]["results"]
    assert {entry["type"]: entry["value"] for entry in results["metrics"]} == {
        "accuracy": 0.875,
        "loss": 0.25,
        "macro_f1": 0.5,
    }
    assert "| accuracy | 0.8750 | 0.7500 |" in text
    assert "| macro_f1 | 0.5000 |  |" in text
    assert "`go\\|od`" in text
    assert "model = rnn_jax.load('reviews')" in text
    rnn_jax.load(run, which="last").save(tmp_path / "last")  # the results are those of another step
    card = (tmp_path / "last" / "README.md").read_text()
    assert "no results are known" in card
    assert "0.8750" not in card
    assert "None is named" in card


def test_the_card_does_not_tell_where_the_data_was(model, tmp_path, monkeypatch):
    with model.config.unlocked():
        monkeypatch.setitem(model.config.data, "source", "/home/ada/private/films.csv")
    model.save(tmp_path / "s")
    card = (tmp_path / "s" / "README.md").read_text()
    assert "`films.csv`" in card
    assert "/home" not in card


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("model.safetensors", lambda data: data[:-8], r"model\.safetensors cannot be read"),
        ("model.safetensors", lambda data: data[:-1] + bytes([data[-1] ^ 1]), "is damaged: its checksum"),
        ("config.json", lambda data: data.replace(b'"hidden": 4', b'"hidden": 5'), "of another network"),
        ("config.json", lambda data: data[:20], r"config\.json cannot be read"),
        ("task.json", lambda data: data.replace(b'"step": 2', b'"step": "2"'), "step is 2, not a step"),
        ("task.json", lambda data: data.replace(b'"step"', b'"steps"'), r"task\.json .*it has no step"),
        ("tokenizer.json", lambda data: b"{}", r"tokenizer\.json holds no tokeniser"),
    ],
)
def test_a_damaged_folder_is_refused_by_file(saved, file, change, message):
    (saved / file).write_bytes(change((saved / file).read_bytes()))
    with pytest.raises(InputError, match=message):
        rnn_jax.load(saved)


def test_parameters_of_another_type_are_refused(saved):
    from safetensors.numpy import load_file, save_file

    arrays = load_file(saved / "model.safetensors")
    save_file({name: array.astype(np.int32) for name, array in arrays.items()}, saved / "model.safetensors")
    with pytest.raises(InputError, match="of another network than its config"):
        rnn_jax.load(saved)


def test_a_folder_without_parameters_or_of_another_step_is_refused(saved):
    assert rnn_jax.load(saved, which=2).step == 2
    with pytest.raises(
        InputError, match=r"which is 'last', but .* is a saved model, not a run: it holds step 2"
    ):
        rnn_jax.load(saved, which="last")
    (saved / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"needs config\.json and checkpoints/, or model\.safetensors"):
        rnn_jax.load(saved)


def test_nothing_but_a_saved_model_is_replaced(model, saved, run, tmp_path):
    model.save(saved)
    (saved / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"holds more than a saved model \(notes\.txt\)"):
        model.save(saved)
    with pytest.raises(InputError, match=r"holds more than a saved model .*checkpoints"):
        model.save(run)
    with pytest.raises(InputError, match="is a file; give a folder"):
        model.save(saved / "notes.txt")
    (tmp_path / "empty").mkdir()
    model.save(tmp_path / "empty")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "reviews"]


@pytest.mark.parametrize("place", [".", "..", "sub/..", "../here"])
def test_the_current_folder_and_those_around_it_are_not_replaced(model, tmp_path, monkeypatch, place):
    (tmp_path / "here" / "sub").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    (tmp_path / "here" / "sub").rmdir()
    with pytest.raises(InputError, match="is the current folder, or around it; give a folder in it"):
        model.save(place)
    assert [path.name for path in tmp_path.rglob("*")] == ["here"]
    model.save("sub/../new")
    assert "rnn_jax.load('new')" in (tmp_path / "here" / "new" / "README.md").read_text()


def test_a_save_that_fails_leaves_what_was_there(model, saved, monkeypatch):
    before = {path.name: path.read_bytes() for path in saved.iterdir()}

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("rnn_jax.inference.model_folder.write_text", fail)
    with pytest.raises(InputError, match=r"cannot be written: .*No space left"):
        model.save(saved, license="mit")
    assert {path.name: path.read_bytes() for path in saved.iterdir()} == before
    assert [path.name for path in saved.parent.iterdir()] == ["reviews"]


def test_lines_of_the_card_are_lines(model, tmp_path):
    with pytest.raises(InputError, match="license is 'mit\\\\n---"):
        model.save(tmp_path / "s", license="mit\n---")


def test_no_run_is_trained_into_a_saved_model(saved):
    config = json.loads((saved / "config.json").read_text())
    with pytest.raises(InputError, match=r"holds a saved model, not a run; .*--from"):
        check_workdir(saved, config)


def test_training_starts_from_a_saved_model_as_from_its_run(once, run):
    found, expected = best_params(once), best_params(run)
    pairs = zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True)
    assert all(np.asarray(ours).tobytes() == np.asarray(theirs).tobytes() for ours, theirs in pairs)
    words = rnn_jax.load(once).tokenizer.words
    params, lines = transferred(jax.tree.map(np.zeros_like, expected), words, once, ("embedding",), ())
    np.testing.assert_array_equal(params["embedding"]["embedding"], expected["embedding"]["embedding"])
    assert lines


@pytest.mark.slow
def test_fit_starts_from_a_saved_model(once, tmp_path):
    texts, labels = [f"{text} {number}" for number in range(4) for text in TEXTS], ["0110", "x"] * 10
    settings = {"train.epochs": 1, "batch.size": 4, "optimizer.learning_rate": 1e-12}
    start = rnn_jax.load(once)
    model = rnn_jax.fit(texts, labels, start=start, workdir=tmp_path / "w", progress=False, **settings)
    kernel = ("encoder", "cell", "hn", "kernel")
    ours, theirs = (functools.reduce(dict.get, kernel, params) for params in (model.params, start.params))
    np.testing.assert_allclose(ours, theirs, atol=1e-6)
