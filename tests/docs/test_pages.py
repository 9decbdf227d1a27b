"""The Python of README and of the pages runs as printed, on made-up data, and does what the text says."""

import csv
import json

import jax
import numpy as np
import pytest

import rnn_jax
from rnn_jax.training.automatic import method_settings
from tests.helpers.jobs import BAD, GOOD
from tests.helpers.pages import python_blocks
from tests.helpers.runs import make_run, make_tagger_run


def write_csv(path, count=120):
    """Writes made-up reviews of 4 to 9 words, so short that there is one shape to compile."""
    rng = np.random.default_rng(0)
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["text", "label"])
        for number in range(count):
            words = [
                *rng.choice((BAD, GOOD)[number % 2], 3),
                *rng.choice(["the", "film", "is"], 1 + number % 6),
            ]
            rows.writerow([" ".join(words) + f" {number}", number % 2])


def run_page(page, names=None):
    """Runs the blocks of a page one after another, and returns the names that they leave."""
    names = {} if names is None else names
    for block in python_blocks(page):
        exec(block, names)
    return names


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder to work in, with reviews.csv."""
    monkeypatch.chdir(tmp_path)
    write_csv(tmp_path / "reviews.csv")
    return tmp_path


@pytest.mark.slow
def test_readme(folder):
    make_run(folder / "runs" / "smoke")
    texts = [f"{opinion} film, number {n}" for n in range(20) for opinion in ("a lovely", "a dull")]
    names = run_page("README.md", {"reviews": texts, "stars": ["good", "bad"] * 20})
    assert names["outputs"].shape == (8, 100, 64)
    assert np.all(np.asarray(names["outputs"])[3] == 0)
    assert names["probabilities"].shape == (2, 2)
    assert rnn_jax.load("my-model").label_names == names["model"].label_names == ("bad", "good")


@pytest.mark.slow
def test_layers():
    names = run_page("docs/layers.md")
    assert names["feature"].shape == (8, 64)
    assert np.all(np.asarray(names["outputs"])[3] == 0)


@pytest.mark.slow
def test_ragged_batches():
    names = run_page("docs/ragged.md")
    assert names["buckets"] == (16, 32)
    assert names["batch"].token_ids.shape[0] == 2


@pytest.mark.slow
def test_predict(folder):
    make_run(folder / "runs" / "smoke")
    names = run_page("docs/predict.md")
    first = 1 / (1 + np.exp(-float(names["logits"][0, 0])))
    assert names["probabilities"][0, 1] == pytest.approx(first, rel=1e-5)


@pytest.mark.slow
def test_tagging(folder):
    make_tagger_run(folder / "runs" / "tagger", [["She", "did", "record"]], ["NOUN", "VERB"])
    names = run_page("docs/tagging.md")
    assert [len(tags) for tags in names["found"].tags] == [7, 7]
    assert names["mine"].predict([["a", "lovely", "film"]]).tags == [["DET", "ADJ", "NOUN"]]
    assert names["again"].tag_names == names["mine"].tag_names == ("ADJ", "DET", "NOUN", "NUM")
    assert names["found"].words[1] == ["A", "text", "is", "split", "into", "words", "."]
    assert rnn_jax.training.check_config(names["config"])


def test_serving(folder):
    make_run(folder / "runs" / "smoke")
    names = run_page("docs/serving.md")
    predicted = names["again"].predict(["a fine film", "dull"])
    assert [answer["label"] for answer in names["answer"]["predictions"]] == predicted.labels


@pytest.mark.slow
def test_own_data(folder):
    results = run_page("docs/own_data.md")["results"]
    assert (results["examples"], results["label_names"]) == (12, ["0", "1"])
    assert results == json.loads((folder / "runs/mine/results.json").read_text())


@pytest.mark.slow
def test_small_data():
    model = run_page("docs/small_data.md")["model"]
    assert (model.config.model.hidden, model.config.batch.size) == (
        8,
        method_settings("plain", 100).batch.size,
    )


@pytest.mark.slow
def test_heads():
    names = run_page("docs/heads.md")
    assert names["found"].probabilities.shape == (1, 3)
    assert names["model"].pair


def test_python():
    names = run_page("docs/python.md")
    assert names["model"].label_names == ("bad", "good")
    assert names["more"].config.embedding.from_workdir == str(names["model"].workdir)
    assert names["scores"].shape == (2,)


@pytest.fixture
def checked_only(monkeypatch):
    """Training that checks its settings and does no more: `test_own_data` trains."""

    def check(config, workdir):
        assert rnn_jax.training.check_config(config)
        return {"accuracy": 0.5, "seconds": {}}

    monkeypatch.setattr(rnn_jax, "train_and_evaluate", check, raising=False)


def test_the_first_run(checked_only):
    assert run_page("docs/start.md")["config"].model.cell == "gru"


def test_training(checked_only):
    names = run_page("docs/training.md")
    assert names["config"].model.hidden == 8
    assert rnn_jax.training.check_config(names["get_config"]())


@pytest.mark.slow
def test_pretraining():
    config = run_page("docs/pretraining.md")["config"]
    model = rnn_jax.models.build_classifier(20, 2, **config.model)
    params = rnn_jax.training.init_params(model, jax.random.key(0))
    groups = rnn_jax.training.group_parameters(params, config.train.freeze, config.optimizer.rates, 10)
    assert not groups.trained(1000)["embedding"]["embedding"]
    assert groups.starts() == [0, 10]


@pytest.mark.slow
def test_interchange_has_the_same_outputs_in_all_three(folder):
    torch = pytest.importorskip("torch", reason="the framework to compare with; pip install torch")
    names = run_page("docs/interchange.md")
    packed = torch.nn.utils.rnn.pack_padded_sequence(torch.ones(2, 7, 16), [7, 3], batch_first=True)
    for module in (names["module"], names["copy"]):
        outputs, _ = torch.nn.utils.rnn.pad_packed_sequence(module(packed)[0], batch_first=True)
        np.testing.assert_allclose(names["outputs"], outputs.detach().numpy(), rtol=0, atol=1e-6)


@pytest.mark.slow
def test_questions(folder):
    """The words that have a vector start from it, frozen or not: the setting was read."""
    model = run_page("docs/faq.md")["model"]
    assert (model.config.embedding.vectors, model.config.model.embedding_dim) == ("mine.txt", 8)
    assert model.predict(["a fine film"]).labels[0] in ("0", "1")


@pytest.mark.slow
def test_plain_orbax_reads_the_parameters_of_a_checkpoint(folder):
    expected = make_run(folder / "runs" / "smoke")[2]
    params = run_page("docs/checkpoints.md")["params"]
    jax.tree.map(np.testing.assert_array_equal, params, expected)
