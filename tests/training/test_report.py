"""What a run leaves at its end."""

import json

import numpy as np
import pytest
from matplotlib.image import imread

from rnn_jax.models.metrics import Metrics
from rnn_jax.training.report import (
    draw_confusion_matrix,
    draw_learning_curves,
    machine,
    report_confusion,
    write_report,
)

HISTORY = [
    {"step": 10, "split": "train", "loss": 0.7, "accuracy": 0.5},
    {"step": 20, "split": "train", "loss": 0.4, "accuracy": 0.8},
    {"step": 20, "split": "validation", "loss": 0.5, "accuracy": 0.75},
]


def colours(path):
    picture = imread(path)
    assert 300 < min(picture.shape[:2]) <= max(picture.shape[:2]) < 3000
    tenths = np.round(picture[..., :3] * 10).astype(int) @ [1, 100, 10_000]
    return {(code % 100 / 10, code // 100 % 100 / 10, code // 10_000 / 10) for code in np.unique(tenths)}


@pytest.mark.parametrize("history", [HISTORY, HISTORY[:1], []])
def test_learning_curves_show_what_there_is(tmp_path, history):
    draw_learning_curves(tmp_path / "curves.png", history, ["loss", "accuracy"])
    blue = any(blue > 0.6 > 0.3 > red for red, _, blue in colours(tmp_path / "curves.png"))
    assert blue == bool(history)


@pytest.mark.parametrize("classes", [2, 10])
def test_confusion_matrix_is_dark_where_the_counts_are(tmp_path, classes):
    path = tmp_path / "confusion.png"
    draw_confusion_matrix(path, np.eye(classes) * 7, [f"class {index}" for index in range(classes)])
    assert any(blue > red + 0.3 for red, _, blue in colours(path))
    draw_confusion_matrix(path, np.zeros((classes, classes)), list(map(str, range(classes))))


@pytest.mark.slow
@pytest.mark.parametrize("names", [["$\\bad$", "_$x"], [*map(str, range(1000))]])
def test_confusion_matrix_takes_any_names_and_any_number_of_classes(tmp_path, names):
    path = tmp_path / "confusion.png"
    draw_confusion_matrix(path, np.eye(len(names)) * 7, names)
    assert any(blue > red + 0.3 for red, _, blue in colours(path))


def test_results_hold_test_metrics_what_was_measured_and_what_it_ran_on(tmp_path):
    test = Metrics(np.float32(5.0), np.array([[6.0, 1.0], [1.0, 2.0]]))
    details = report_confusion(tmp_path, test, ("no", "yes"))
    results = write_report(tmp_path, test, details, HISTORY, {"best_step": 20})
    assert results == json.loads((tmp_path / "results.json").read_text())
    assert results["accuracy"] == pytest.approx(0.8)
    assert results["loss"] == pytest.approx(0.5)
    assert results["confusion_matrix"] == [[6, 1], [1, 2]]
    assert results["label_names"] == ["no", "yes"]
    assert results["best_step"] == 20
    assert {path.suffix for path in tmp_path.iterdir()} == {".png", ".json"}


def test_versions_processor_and_memory_are_told():
    found = machine()
    assert found["versions"]["jax"].count(".") >= 2
    assert 50 < found["peak_memory_mib"] < 100_000
    assert "cores" in found["processor"]
    json.dumps(found)
