"""What a classifier says of its test split, computed again: the numbers behind the page's charts."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from rnn_jax.data.splits import Split, load_corpus
from rnn_jax.errors import InputError, require
from rnn_jax.inference.predictor import Predictor
from rnn_jax.report.charts import Curve

MOST_CURVES = 8  # classes that get a curve each; of more, one curve of all decisions is drawn
MISTAKES = 8


class Evidence(NamedTuple):
    """The test split and what the classifier says of its n texts.

    Attributes:
      texts: n strings.
      labels: int[n], the right classes.
      probabilities: float32[n, C].
      lengths: int[n], the words of each text before it is cut.
    """

    texts: list[str]
    labels: np.ndarray
    probabilities: np.ndarray
    lengths: np.ndarray


def read_evidence(predictor: Predictor, results: dict[str, Any]) -> Evidence:
    """Returns the evidence of a run from the source that its config names.

    Raises:
      InputError: the source is not there, or no longer gives the test split that results.json counts.
    """
    settings = predictor.config.data.to_dict()
    try:
        corpus = load_corpus(**settings)
    except TypeError as error:
        raise InputError(f"the config's section data cannot be read: {error}") from error
    _check_split(corpus.test, corpus.label_names, predictor.label_names, results)
    texts = list(corpus.test.texts)
    lengths = np.array([len(row) for row in predictor.tokenizer.encode(texts)])
    return Evidence(texts, corpus.test.labels, predictor.predict(texts).probabilities, lengths)


def _check_split(test: Split, names: Sequence[str], trained: Sequence[str], results: dict[str, Any]) -> None:
    require(
        tuple(map(str, names)) == tuple(trained), "the source has other labels than the run was trained on"
    )
    if "confusion_matrix" in results:
        counted = np.sum(results["confusion_matrix"], axis=1)
        found = np.bincount(test.labels, minlength=len(names))
        require(
            np.array_equal(counted, found),
            f"the source has changed: its test split has {found.sum():,} texts in other counts of the labels "
            f"than the {counted.sum():,} that the run was tested on",
        )


def threshold_curves(evidence: Evidence, names: Sequence[str]) -> tuple[list[Curve], list[Curve]]:
    """Returns the ROC and the precision-recall curves, with their areas in the names.

    Of two classes the second is the one to find; of up to 8 each is, against the others; of more, all
    decisions on all classes are taken together.
    """
    from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score, roc_curve

    roc, precision_recall = [], []
    for name, truth, score in _questions(evidence, names):
        if not 0 < truth.sum() < len(truth):
            continue  # neither curve is defined where all texts are of one kind
        x, y, _ = roc_curve(truth, score)
        roc.append(Curve(f"{name} (area {roc_auc_score(truth, score):.3f})", x, y))
        precision, recall, _ = precision_recall_curve(truth, score)
        area = average_precision_score(truth, score)
        precision_recall.append(Curve(f"{name} (average {area:.3f})", recall[::-1], precision[::-1]))
    return roc, precision_recall


def _questions(evidence: Evidence, names: Sequence[str]) -> list[tuple[str, np.ndarray, np.ndarray]]:
    truth = evidence.labels[:, None] == np.arange(len(names))
    if len(names) > MOST_CURVES:
        return [(f"all {len(names)} classes", truth.ravel(), evidence.probabilities.ravel())]
    chosen = [1] if len(names) == 2 else range(len(names))
    return [(names[index], truth[:, index], evidence.probabilities[:, index]) for index in chosen]


def accuracy_by_length(evidence: Evidence) -> list[tuple[str, float, int]]:
    """Returns the words "from-to", accuracy and texts of up to eight groups of about equal size."""
    right = evidence.probabilities.argmax(axis=1) == evidence.labels
    edges = np.unique(np.quantile(evidence.lengths, np.linspace(0, 1, 9), method="nearest"))
    groups = np.searchsorted(edges[1:-1], evidence.lengths, side="left")
    found = []
    for group in np.unique(groups):
        rows = groups == group
        first, last = evidence.lengths[rows].min(), evidence.lengths[rows].max()
        found.append(
            (f"{first}-{last}" if first < last else f"{first}", float(right[rows].mean()), int(rows.sum()))
        )
    return found


def certain_mistakes(evidence: Evidence, predictor: Predictor) -> list[dict[str, Any]]:
    """Returns the mistakes that the model was surest of, each with its words and their share of colour."""
    said = evidence.probabilities.argmax(axis=1)
    certainty = evidence.probabilities.max(axis=1)
    wrong = np.flatnonzero(said != evidence.labels)
    mistakes = []
    for row in wrong[np.argsort(-certainty[wrong], kind="stable")][:MISTAKES]:
        name = predictor.label_names[said[row]]
        found = predictor.attribute(evidence.texts[row], name)
        strongest = max(float(np.abs(found.scores).max(initial=0)), 1e-9)
        shares = (found.scores / strongest).tolist()
        words = [(word, share) for word, share in zip(found.words, shares, strict=True)]
        mistakes.append(
            {
                "predicted": name,
                "label": predictor.label_names[evidence.labels[row]],
                "probability": float(certainty[row]),
                "words": words,
                "left_out": int(evidence.lengths[row]) - len(words),
            }
        )
    return mistakes
