"""The task of docs/extend.md, as printed: it trains by the command, resumes to the same bits and predicts."""

import json
import re
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import rnn_jax
from rnn_jax.errors import InputError
from rnn_jax.fitting import LOADERS
from rnn_jax.training import TASKS, check_config, train_and_evaluate
from tests.helpers.cut import assert_same_run, train_until_killed

ROOT = Path(__file__).parents[2]
SECTION = (ROOT / "docs" / "extend.md").read_text().partition("## Add a task")[2]
(PROGRAM,) = re.findall(r"```python\n(.*?)```", SECTION, re.DOTALL)
GOOD, BAD = ("great", "lovely", "moving", "funny"), ("awful", "dull", "boring", "stupid")


def write_ratings(path, count=160):
    """Writes texts of 5 telling words each, as many good ones as stars."""
    rng = np.random.default_rng(0)
    lines = []
    for index in range(count):
        stars = int(rng.integers(1, 6))
        words = [
            *rng.choice(GOOD, stars),
            *rng.choice(BAD, 5 - stars),
            *rng.choice(["the", "film", "with"], 4),
        ]
        rng.shuffle(words)
        lines.append(f"{' '.join(words)} {index},{stars}")
    path.write_text("\n".join(["text,label", *lines]))
    return path


@pytest.fixture
def stars(tmp_path, monkeypatch):
    """Returns the module of the page, its row in the table for as long as the test."""
    monkeypatch.setitem(TASKS, "stars", None)
    (tmp_path / "stars.py").write_text(PROGRAM)
    write_ratings(tmp_path / "ratings.csv")
    return runpy.run_path(str(tmp_path / "stars.py"))


def settings_of(stars, tmp_path):
    config = stars["get_config"]()
    config.data.source = str(tmp_path / "ratings.csv")
    config.text.max_length, config.batch.buckets, config.batch.size = 16, 1, 8
    config.model.embedding_dim, config.model.hidden, config.model.pooling = 8, 8, "mean"
    config.model.embedding_dropout = config.model.dropout = 0.0
    config.optimizer.learning_rate, config.train.epochs, config.train.evaluate_every = 0.03, 12, 2.0
    return config


def test_it_is_short():
    assert PROGRAM.count("\n") <= 120


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("train.label_smoothing", 0.1),
        ("train.class_weights", "balanced"),
        ("train.monitor", "macro_f1"),
        ("model.weight_drop", 0.5),
        ("embedding.evidence.orders", (1, 2)),
        ("data.target", "labels"),
        ("data.pair_column", "other"),
        ("data.soft_labels", "soft.jsonl"),
    ],
)
def test_a_setting_that_it_does_not_read_is_refused(stars, tmp_path, name, value):
    config = settings_of(stars, tmp_path)
    config.model.cell = "gru"
    config.update_from_flattened_dict({name: value})
    with pytest.raises(InputError, match=rf"{name} is .*; stars do without it"):
        check_config(config)


@pytest.mark.slow
def test_it_learns_goes_on_to_the_same_bits_and_predicts(stars, tmp_path):
    config = settings_of(stars, tmp_path)
    whole = train_and_evaluate(config, tmp_path / "whole")
    train_until_killed(config, tmp_path / "cut", 2)
    resumed = train_and_evaluate(config, tmp_path / "cut")
    assert resumed["resumed_at"] > 0
    assert resumed["error"] == whole["error"] < 0.7
    assert_same_run(tmp_path / "whole", tmp_path / "cut", whole["steps"])
    predict = stars["load"](tmp_path / "whole")
    ratings = predict(
        ["great lovely funny great moving", "awful great dull lovely film", "dull boring awful dull", ""]
    )
    assert ratings.shape == (4,)
    assert ratings[0] > ratings[1] + 1 > ratings[2] + 2


@pytest.mark.slow
def test_texts_in_memory_train_it_once_fit_knows_how_to_load_it(stars, tmp_path, monkeypatch):
    monkeypatch.setitem(LOADERS, "stars", stars["load"])
    lines = (tmp_path / "ratings.csv").read_text().splitlines()[1:]
    texts, labels = zip(*(line.rsplit(",", 1) for line in lines), strict=True)
    settings = {"recipe": settings_of(stars, tmp_path), "progress": False, "train.epochs": 2}
    predict = rnn_jax.fit(texts, list(map(int, labels)), workdir=tmp_path / "run", **settings)
    assert predict(["great lovely", "awful dull"]).shape == (2,)
    assert json.loads((tmp_path / "run" / "config.json").read_text())["data"]["source"] == "(in memory)"


@pytest.mark.slow
def test_the_command_trains_it_and_finds_the_finished_run(stars, tmp_path):
    (line,) = re.findall(r"```bash\nrnn-jax (.*?)\n```", SECTION)
    command = [sys.executable, "-m", "rnn_jax.cli", *line.split(), "--config.train.epochs=1"]
    for _ in range(2):
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=None)
        assert done.returncode == 0, done.stderr
        assert re.search(r"off by \d\.\d\d stars on 16 texts, in runs/stars", done.stdout)
    results = json.loads((tmp_path / "runs" / "stars" / "results.json").read_text())
    assert results["resumed_at"] == 0
