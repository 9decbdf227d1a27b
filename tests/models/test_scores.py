"""Scores of a classifier: equal to scikit-learn's, and right where a class is missing."""

import subprocess
import sys

import numpy as np
import pytest
from sklearn import metrics

from rnn_jax.models.scores import FROM_COUNTS, calibration, calibration_error, classifier_scores, table

BY_SKLEARN = {
    "accuracy": metrics.accuracy_score,
    "macro_f1": lambda *pair: metrics.f1_score(*pair, average="macro"),
    "weighted_f1": lambda *pair: metrics.f1_score(*pair, average="weighted"),
    "balanced_accuracy": metrics.balanced_accuracy_score,
    "mcc": metrics.matthews_corrcoef,
}


def drawn(classes, n=60, seed=0):
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.ones(classes), n).astype(np.float32)
    return probabilities, rng.integers(0, classes, n)


@pytest.mark.parametrize("name", FROM_COUNTS)
@pytest.mark.parametrize("classes", [2, 5])
def test_what_a_monitor_makes_of_counts_is_what_scikit_learn_makes_of_labels(name, classes):
    probabilities, labels = drawn(classes)
    predicted = probabilities.argmax(axis=1)
    counts = metrics.confusion_matrix(labels, predicted, labels=range(classes + 1))  # the last never occurs
    assert FROM_COUNTS[name](counts) == pytest.approx(BY_SKLEARN[name](labels, predicted))


@pytest.mark.parametrize("dtype", [np.int64, np.float64, np.float32])
@pytest.mark.parametrize("classes", [2, 10])
def test_the_correlation_of_a_million_examples_does_not_overflow(classes, dtype):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, classes, 10**6)
    predicted = np.where(rng.random(10**6) < 0.9, labels, rng.integers(0, classes, 10**6))
    counts = metrics.confusion_matrix(labels, predicted)
    expected = metrics.matthews_corrcoef(labels, predicted)
    assert expected > 0.8
    assert FROM_COUNTS["mcc"](counts.astype(dtype)) == pytest.approx(expected, rel=1e-9)


def test_scores_of_two_and_of_many_classes_are_scikit_learns():
    probabilities, labels = drawn(2)
    scores = classifier_scores(probabilities, labels, ["no", "yes"])
    assert scores["roc_auc"] == pytest.approx(metrics.roc_auc_score(labels, probabilities[:, 1]))
    precise = metrics.average_precision_score(labels, probabilities[:, 1])
    assert scores["average_precision"] == pytest.approx(precise)
    probabilities, labels = drawn(4)
    scores = classifier_scores(probabilities, labels, list("abcd"))
    exact = probabilities.astype(float) / probabilities.astype(float).sum(1, keepdims=True)
    assert scores["roc_auc"] == pytest.approx(metrics.roc_auc_score(labels, exact, multi_class="ovr"))
    assert scores["log_loss"] == pytest.approx(-np.log(exact[np.arange(60), labels]).mean())
    assert [row["support"] for row in scores["classes"].values()] == np.bincount(labels).tolist()


def test_a_split_of_one_class_has_scores_and_none_where_nothing_can_be_ranked():
    scores = classifier_scores(
        np.array([[0.9, 0.1], [0.2, 0.8]], np.float32), np.zeros(2, int), ["no", "yes"]
    )
    assert scores["roc_auc"] is None
    assert scores["average_precision"] is None
    assert scores["classes"]["no"]["recall"] == 0.5
    assert scores["classes"]["yes"]["support"] == 0
    assert "roc_auc -" in table(scores)


def test_calibration_error_is_the_gap_of_each_bin_by_its_share():
    probabilities = np.array([[0.95, 0.05]] * 4 + [[0.41, 0.59]] * 2)
    labels = np.array([0, 0, 0, 1, 1, 1])
    assert calibration_error(probabilities, labels) == pytest.approx((4 * 0.20 + 2 * 0.41) / 6)
    confidence, accuracy, counts = calibration(probabilities, labels)
    np.testing.assert_allclose([confidence, accuracy, counts], [[0.59, 0.95], [1, 0.75], [2, 4]])
    assert calibration_error(np.eye(2), np.arange(2)) == 0


def test_the_table_has_a_row_a_class_and_prints_no_control_characters():
    probabilities, labels = drawn(3)
    lines = table(classifier_scores(probabilities, labels, ["a\x1b[31m", "b\n", "c"])).split("\n")
    assert len(lines) == 5
    assert all(line.isprintable() for line in lines)


@pytest.mark.slow
def test_the_library_is_imported_without_scikit_learn():
    code = "import rnn_jax, rnn_jax.training, rnn_jax.inference, sys; sys.exit('sklearn' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
