"""Scores of a network beyond its accuracy, computed by scikit-learn from one pass of its answers."""

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

# Likewise of float[C, 3], the counts of each label: predicted rightly, predicted, and true.
FROM_LABEL_COUNTS: dict[str, Callable[[np.ndarray], float]] = {
    "micro_f1": lambda counts: float(f1_of_labels(counts.sum(0, keepdims=True))[0]),
    "macro_f1": lambda counts: float(f1_of_labels(counts)[counts[:, 1:].sum(1) > 0].mean()),
}


def f1_of_labels(counts: np.ndarray) -> np.ndarray:
    """Returns float[C], F1 of each label of [C, 3] counts; 0 where it is neither true nor predicted."""
    found: np.ndarray = 2 * counts[:, 0] / np.maximum(counts[:, 1:].sum(1), 1)
    return found


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
    counts = np.asarray(counts, float)  # the fourth power of 60,000 examples does not fit 64 bits
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
      confusion: [C, C], as in `Metrics` of rnn_jax.models.metrics.
      names: the C classes.

    >>> scores = class_scores(np.array([[3.0, 1.0], [0.0, 0.0]]), ["NOUN", "VERB"])
    >>> scores["NOUN"]["recall"], scores["VERB"]
    (0.75, {'precision': 0.0, 'recall': 0.0, 'f1': 0.0, 'support': 0})
    """
    counts = np.asarray(confusion, float)
    precision = np.diag(counts) / np.maximum(counts.sum(0), 1)
    columns = precision, recall_of_classes(counts), f1_of_classes(counts), counts.sum(1).astype(int)
    return rows_by_name(names, columns)


def rows_by_name(names: Sequence[str], columns: Sequence[np.ndarray]) -> dict[str, dict[str, float]]:
    """Returns precision, recall, f1 and support of each name, from these four columns."""
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
    asked = slice(1 if count == 2 else 0, None)
    return {
        **{name: score(counts) for name, score in FROM_COUNTS.items() if name != "accuracy"},
        **ranking_scores(exact[:, asked], one_hot[:, asked]),
        "log_loss": float(metrics.log_loss(labels, exact, labels=every)),
        "calibration_error": calibration_error(probabilities, labels),
        "classes": class_scores(counts, names),
    }


def ranking_scores(probabilities: np.ndarray, truth: np.ndarray) -> Scores:
    """Returns roc_auc and average_precision, means over the columns of float[n, C] and int[n, C] of 0 and 1.

    Columns of one value alone cannot be ranked and are left out; None where no other is there.
    """
    from sklearn import metrics

    ranked = [c for c in range(truth.shape[1]) if 0 < truth[:, c].sum() < len(truth)]

    def mean_of(score: Callable[..., float]) -> float | None:
        found = [float(score(truth[:, c], probabilities[:, c])) for c in ranked]
        return float(np.mean(found)) if found else None

    kinds = {"roc_auc": metrics.roc_auc_score, "average_precision": metrics.average_precision_score}
    return {name: mean_of(score) for name, score in kinds.items()}


def label_scores(probabilities: np.ndarray, truth: np.ndarray, names: Sequence[str]) -> Scores:
    """Returns the scores of n examples that may have several of C labels; JSON values by name.

    micro_f1 (of all decisions together), macro_f1 (the mean over labels), subset_accuracy (the share of
    examples with all labels right), roc_auc and average_precision (means over labels), log_loss (nats, the
    mean over labels), and under "classes" precision, recall, F1 and support of each. A label is predicted
    where its probability is above 0.5.

    Args:
      probabilities: float[n, C], n at least 1.
      truth: int[n, C] of 0 and 1.
      names: of the C labels.

    >>> scores = label_scores(np.array([[0.9, 0.2], [0.6, 0.7]]), np.array([[1, 0], [0, 1]]), ["war", "love"])
    >>> scores["subset_accuracy"], round(scores["micro_f1"], 3), scores["classes"]["war"]["precision"]
    (0.5, 0.8, 0.5)
    """
    exact, found = np.clip(probabilities.astype(np.float64), 1e-15, 1 - 1e-15), probabilities > 0.5
    counts = np.stack([(found & (truth > 0)).sum(0), found.sum(0), truth.sum(0)], axis=1).astype(float)
    columns = (
        counts[:, 0] / np.maximum(counts[:, 1], 1),
        counts[:, 0] / np.maximum(counts[:, 2], 1),
        f1_of_labels(counts),
        counts[:, 2].astype(int),
    )
    return {
        **{name: score(counts) for name, score in FROM_LABEL_COUNTS.items()},
        "subset_accuracy": float((found == truth).all(axis=1).mean()),
        **ranking_scores(exact, truth),
        "log_loss": float(-np.where(truth > 0, np.log(exact), np.log(1 - exact)).mean()),
        "classes": rows_by_name(names, columns),
    }


def number_scores(values: np.ndarray, truth: np.ndarray) -> Scores:
    """Returns rmse and mae, in the unit of the numbers, and r2, of float[n] predicted and true numbers.

    r2 is None where the true numbers are one number alone.

    >>> number_scores(np.array([1.0, 3.0]), np.array([1.0, 5.0]))
    {'rmse': 1.4142135623730951, 'mae': 1.0, 'r2': 0.5}
    """
    from sklearn import metrics

    return {
        "rmse": float(metrics.root_mean_squared_error(truth, values)),
        "mae": float(metrics.mean_absolute_error(truth, values)),
        "r2": float(metrics.r2_score(truth, values)) if len(set(truth.tolist())) > 1 else None,
    }


def printable(name: str) -> str:
    """Returns the first 30 characters of a label's name, those that cannot be printed as question marks."""
    return "".join(letter if letter.isprintable() else "?" for letter in name[:30])


def table(scores: Mapping[str, Any]) -> str:
    """Returns the scores as lines of text: a row for each class where there are any, then the others.

    >>> print(table({"mcc": 0.5, "roc_auc": None, "classes": {
    ...     "a": {"precision": 1.0, "recall": 0.5, "f1": 0.667, "support": 2}}}))
    label  precision  recall     f1  support
    a          1.000   0.500  0.667        2
    mcc 0.500  roc_auc -
    """
    rows = scores.get("classes", {})
    wide = max([5, *(len(printable(name)) for name in rows)])
    lines = [f"{'label':<{wide}}  precision  recall     f1  support"] if rows else []
    lines += [
        f"{printable(name):<{wide}}  {row['precision']:9.3f}  {row['recall']:6.3f}  "
        f"{row['f1']:5.3f}  {row['support']:7,}"
        for name, row in list(rows.items())[:ROWS]
    ]
    if len(rows) > ROWS:
        lines.append(f"... {len(rows) - ROWS} more in results.json")
    kind = ".3f" if rows else ".4g"  # numbers have units
    others = {name: value for name, value in scores.items() if name != "classes"}
    shown = (f"{name} {'-' if value is None else f'{value:{kind}}'}" for name, value in others.items())
    return "\n".join([*lines, "  ".join(shown)])
