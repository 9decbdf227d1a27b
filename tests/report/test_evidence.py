"""The numbers of the page against scikit-learn, or counted by hand."""

import numpy as np
import pytest
from sklearn.metrics import precision_recall_fscore_support

from rnn_jax.models.scores import class_scores
from rnn_jax.report.evidence import Evidence, accuracy_by_length, threshold_curves


def evidence_of(labels, probabilities, lengths=None):
    lengths = np.arange(len(labels)) if lengths is None else np.array(lengths)
    return Evidence([""] * len(labels), np.array(labels), np.array(probabilities, np.float32), lengths)


def test_rows_of_the_classes_are_those_of_scikit_learn():
    confusion = np.array([[5, 2, 0], [1, 0, 3], [0, 0, 0]])
    pairs = [(r, c) for (r, c), count in np.ndenumerate(confusion) for _ in range(count)]
    wanted = precision_recall_fscore_support(*zip(*pairs, strict=True), labels=range(3), zero_division=0)
    rows = class_scores(confusion, ["a", "b", "c"]).values()
    np.testing.assert_allclose([list(row.values()) for row in rows], np.transpose(wanted))


def test_groups_of_length_hold_every_text_once():
    found = accuracy_by_length(evidence_of([0] * 20, [[0.9, 0.1]] * 10 + [[0.1, 0.9]] * 10))
    assert sum(count for _, _, count in found) == 20
    assert (found[0][1], found[-1][1]) == (1.0, 0.0)
    assert accuracy_by_length(evidence_of([0, 0], [[0.9, 0.1]] * 2, [4, 4])) == [("4", 1.0, 2)]


@pytest.mark.parametrize(("classes", "curves"), [(2, 1), (3, 3), (9, 1)])
def test_a_curve_for_each_class_until_they_are_many(classes, curves):
    labels = np.arange(classes).repeat(3)
    found, _ = threshold_curves(evidence_of(labels, np.eye(classes)[labels]), list(map(str, range(classes))))
    assert len(found) == curves
    assert all("area 1.000" in curve.name for curve in found)
