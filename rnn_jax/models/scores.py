"""Scores of a classifier beyond its accuracy, computed by scikit-learn from one pass of probabilities."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

Scores = dict[str, Any]  # JSON values by name
BINS = 15  # of the calibration error, as Guo et al. 2017 take them
ROWS = 30  # classes that the table of a log shows

# What `train.monitor` may name. Each needs the counts alone, which add up exactly over processes.
FROM_COUNTS: dict[str, Callable[[np.ndarray], float]] = {
    "accuracy": lambda counts: float(np.trace(counts) / max(counts.sum(), 1)),
    "macro_f1": lambda counts: float(f1_of_classes(counts)[seen(counts)].mean()),
    "weighted_f1": lambda counts: float(f1_of_classes(counts) @ counts.sum(1) / max(counts.sum(), 1)),
    "balanced_accuracy": lambda counts: float(recall_of_classes(counts)[counts.sum(1) > 0].mean()),
    "mcc": lambda counts: correlation(counts),
}


def seen(counts: np.ndarray) -> np.ndarray:
    """Returns bool[C]: which classes are the label or the prediction of an example at all."""
    found: np.ndarray = counts.sum(0) + counts.sum(1) > 0
    return found


def recall_of_classes(counts: np.ndarray) -> np.ndarray:
    """Returns float[C]: the share of each class's examples that are found; 0 where it has none."""
    found: np.ndarray = np.diag(counts) / np.maximum(counts.sum(1), 1)
    return found


def f1_of_classes(counts: np.ndarray) -> np.ndarray:
    """Returns float[C], F1 = 2 TP / (2 TP + FP + FN) of each class; 0 where a class does not occur."""
    found: np.ndarray = 2 * np.diag(counts) / np.maximum(counts.sum(0) + counts.sum(1), 1)
    return found


def correlation(counts: np.ndarray) -> float:
    """Returns the correlation coefficient of Matthews for C classes (Gorodkin 2004); 0 where it has none."""
    total, labels, predicted = counts.sum(), counts.sum(1), counts.sum(0)
    spread = (total**2 - labels @ labels) * (total**2 - predicted @ predicted)
    return float((np.trace(counts) * total - labels @ predicted) / math.sqrt(spread)) if spread > 0 else 0.0


def calibration_error(probabilities: np.ndarray, labels: np.ndarray, bins: int = BINS) -> float:
    """Returns the expected calibration error: how far confidence and accuracy are apart.

    ECE = sum_k n_k / n |accuracy_k - confidence_k|, over `bins` bins of equal width of the largest
    probability of each example (Guo et al. 2017, "On Calibration of Modern Neural Networks").

    Args:
      probabilities: float[n, C].
      labels: int[n], in [0, C).

    >>> calibration_error(np.array([[0.2, 0.8], [0.2, 0.8]]), np.array([1, 0]))  # sure of 0.8, right in half
    0.3
    """
    confidence, accuracy, counts = calibration(probabilities, labels, bins)
    return round(float(counts @ np.abs(accuracy - confidence) / len(labels)), 12)


def calibration(
    probabilities: np.ndarray, labels: np.ndarray, bins: int = BINS
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns mean confidence, accuracy and count of the examples of each bin that has some, from 0 up.

    The arguments are those of `calibration_error`.

    >>> [part.tolist() for part in calibration(np.array([[0.25, 0.75], [0.25, 0.75]]), np.array([1, 0]))]
    [[0.75], [0.5], [2]]
    """
    largest = probabilities.max(axis=1).astype(float)
    right = probabilities.argmax(axis=1) == labels
    bin_of = np.clip(np.ceil(largest * bins).astype(int) - 1, 0, bins - 1)
    counts = np.bincount(bin_of, minlength=bins)
    used = counts > 0
    means = [np.bincount(bin_of, of, bins)[used] / counts[used] for of in (largest, right)]
    return means[0], means[1], counts[used]


def class_scores(confusion: np.ndarray, names: Sequence[str]) -> dict[str, dict[str, float]]:
    """Returns precision, recall, F1 and support of each class, 0 where nothing is divided by nothing.

    Args:
      confusion: [C, C], as in `Metrics` of rnn_jax.models.losses.
      names: the C classes.

    >>> scores = class_scores(np.array([[3.0, 1.0], [0.0, 0.0]]), ["NOUN", "VERB"])
    >>> scores["NOUN"]["recall"], scores["VERB"]
    (0.75, {'precision': 0.0, 'recall': 0.0, 'f1': 0.0, 'support': 0})
    """
    counts = np.asarray(confusion, float)
    precision = np.diag(counts) / np.maximum(counts.sum(0), 1)
    columns = precision, recall_of_classes(counts), f1_of_classes(counts), counts.sum(1).astype(int)
    rows = zip(names, *(column.tolist() for column in columns), strict=True)
    return {
        name: dict(zip(("precision", "recall", "f1", "support"), row, strict=True)) for name, *row in rows
    }


def classifier_scores(probabilities: np.ndarray, labels: np.ndarray, names: Sequence[str]) -> Scores:
    """Returns what scikit-learn makes of the probabilities of n examples; JSON values by name.

    macro_f1, weighted_f1, balanced_accuracy, mcc, log_loss (nats) and calibration_error; roc_auc and
    average_precision, of the second class of two, else the mean over all classes, each against the rest
    (without classes that no example or each example has; None if there is no other); and under "classes"
    the `class_scores` of each name.

    Args:
      probabilities: float[n, C], n at least 1.
      labels: int[n], in [0, C).
      names: of the C classes.

    >>> probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])
    >>> scores = classifier_scores(probabilities, np.array([0, 1, 1]), "ab")
    >>> scores["roc_auc"], scores["classes"]["b"]
    (1.0, {'precision': 1.0, 'recall': 0.5, 'f1': 0.6666666666666666, 'support': 2})
    """
    from sklearn import metrics

    count = probabilities.shape[1]
    exact = np.clip(probabilities.astype(np.float64), 1e-15, 1)
    exact /= exact.sum(axis=1, keepdims=True)
    predicted, every = probabilities.argmax(axis=1), list(range(count))
    counts = metrics.confusion_matrix(labels, predicted, labels=every)
    one_hot = np.eye(count, dtype=int)[labels]
    ranked = [c for c in (every[1:] if count == 2 else every) if 0 < one_hot[:, c].sum() < len(labels)]

    def over_classes(score: Callable[..., float]) -> float | None:
        found = [float(score(one_hot[:, c], exact[:, c])) for c in ranked]
        return float(np.mean(found)) if found else None

    return {
        **{name: score(counts) for name, score in FROM_COUNTS.items() if name != "accuracy"},
        "roc_auc": over_classes(metrics.roc_auc_score),
        "average_precision": over_classes(metrics.average_precision_score),
        "log_loss": float(metrics.log_loss(labels, exact, labels=every)),
        "calibration_error": calibration_error(probabilities, labels),
        "classes": class_scores(counts, names),
    }


def printable(name: str) -> str:
    """Returns the first 30 characters of a label's name, those that cannot be printed as question marks."""
    return "".join(letter if letter.isprintable() else "?" for letter in name[:30])


def table(scores: Mapping[str, Any]) -> str:
    """Returns the scores as lines of text: a row for each class, then the others.

    >>> print(table({"mcc": 0.5, "roc_auc": None, "classes": {
    ...     "a": {"precision": 1.0, "recall": 0.5, "f1": 0.667, "support": 2}}}))
    label  precision  recall     f1  support
    a          1.000   0.500  0.667        2
    mcc 0.500  roc_auc -
    """
    rows = scores["classes"]
    wide = max(5, *(len(printable(name)) for name in rows))
    lines = [f"{'label':<{wide}}  precision  recall     f1  support"]
    lines += [
        f"{printable(name):<{wide}}  {row['precision']:9.3f}  {row['recall']:6.3f}  "
        f"{row['f1']:5.3f}  {row['support']:7,}"
        for name, row in list(rows.items())[:ROWS]
    ]
    if len(rows) > ROWS:
        lines.append(f"... {len(rows) - ROWS} more in results.json")
    others = {name: value for name, value in scores.items() if name != "classes"}
    shown = (f"{name} {'-' if value is None else f'{value:.3f}'}" for name, value in others.items())
    return "\n".join([*lines, "  ".join(shown)])
