"""The Python of README and of the pages runs as printed, on made-up data, and does what the text says."""

import csv
import json

import jax
import numpy as np
import pytest

import rnn_jax
from tests.helpers.jobs import BAD, GOOD
from tests.helpers.pages import python_blocks
from tests.helpers.runs import make_run

needs_training = pytest.mark.skipif(
    not hasattr(rnn_jax, "train_and_evaluate"), reason="training is not in the package yet"
)


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


def test_readme(folder):
    make_run(folder / "runs" / "smoke")
    names = run_page("README.md")
    assert names["outputs"].shape == (8, 100, 64)
    assert np.all(np.asarray(names["outputs"])[3] == 0)
    assert names["probabilities"].shape == (2, 2)


def test_layers():
    names = run_page("docs/layers.md")
    assert names["feature"].shape == (8, 64)
    assert np.all(np.asarray(names["outputs"])[3] == 0)


def test_ragged_batches():
    names = run_page("docs/ragged.md")
    assert names["buckets"] == (16, 32)
    assert names["batch"].token_ids.shape[0] == 2


def test_predict(folder):
    make_run(folder / "runs" / "smoke")
    names = run_page("docs/predict.md")
    first = 1 / (1 + np.exp(-float(names["logits"][0, 0])))
    assert names["probabilities"][0, 1] == pytest.approx(first, rel=1e-5)


@needs_training
def test_the_first_run(folder, monkeypatch):
    config = rnn_jax.recipe("smoke")
    config.data.source = "reviews.csv"  # the real ones are an extra
    monkeypatch.setattr(rnn_jax, "recipe", {"smoke": config}.get)
    names = run_page("docs/start.md")
    assert names["results"] == json.loads((folder / "runs/smoke/results.json").read_text())


@needs_training
def test_own_data(folder):
    names = run_page("docs/own_data.md")
    assert names["results"]["accuracy"] > 0.8
    assert (folder / "runs/mine/checkpoints").is_dir()


@needs_training
def test_training(folder):
    names = run_page("docs/training.md")
    page = python_blocks("docs/training.md")
    assert names["results"]["examples"] == 12
    assert len(page) == 2
    config = names["get_config"]()
    config.train.epochs = 1
    config.model.hidden = 4
    assert rnn_jax.train_and_evaluate(config, "runs/own")["steps"] > 0
    described = (rnn_jax.training.__doc__, jax.__version__)
    assert all(described)


@needs_training
def test_pretraining():
    config = run_page("docs/pretraining.md")["config"]
    model = rnn_jax.models.build_classifier(20, 2, **config.model)
    params = rnn_jax.training.init_params(model, jax.random.key(0))
    groups = rnn_jax.training.group_parameters(params, config.train.freeze, config.optimizer.rates, 10)
    assert not groups.trained(1000)["embedding"]["embedding"]
    assert groups.starts() == [0, 10]


def test_interchange_has_the_same_outputs_in_all_three(folder):
    torch = pytest.importorskip("torch", reason="the framework to compare with; pip install torch")
    names = run_page("docs/interchange.md")
    packed = torch.nn.utils.rnn.pack_padded_sequence(torch.ones(2, 7, 16), [7, 3], batch_first=True)
    for module in (names["module"], names["copy"]):
        outputs, _ = torch.nn.utils.rnn.pad_packed_sequence(module(packed)[0], batch_first=True)
        np.testing.assert_allclose(names["outputs"], outputs.detach().numpy(), rtol=0, atol=1e-6)
