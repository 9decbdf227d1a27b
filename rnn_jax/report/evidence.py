"""What a model says of its test split, computed again: the numbers behind the page's charts."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from rnn_jax.data.splits import Split, load_corpus
from rnn_jax.data.targets import CLASS, LABELS, NUMBER, Text, single_texts
from rnn_jax.errors import InputError, require
from rnn_jax.inference.predictor import Predictor
from rnn_jax.report.charts import Curve

MOST_CURVES = 8  # classes that get a curve each; of more, one curve of all decisions is drawn
MISTAKES = 8
# The row of a text, the label that is explained, and what the page says of the mistake.
Mistake: TypeAlias = tuple[int, str | None, dict[str, str]]


class Evidence(NamedTuple):
    """The test split and what the model says of its n texts.

    Attributes:
      texts: n strings, or n pairs of strings.
      labels: int[n], the right classes; int[n, C] of 0 and 1, the right labels; float[n], the right numbers.
      probabilities: float32[n, C]; of numbers float[n], the predicted ones.
      lengths: int[n], the words of each text, or of both, before they are cut.
    """

    texts: list[Text]
    labels: np.ndarray
    probabilities: np.ndarray
    lengths: np.ndarray


def read_evidence(predictor: Predictor, results: dict[str, Any]) -> Evidence:
    """Returns the evidence of a run from the source that its config names.

    Raises:
      InputError: the source is not there, or no longer gives the test split that results.json counts.
    """
    settings = predictor.config.data.to_dict() | {"soft_labels": ""}  # nothing is trained on
    try:
        corpus = load_corpus(**settings)
    except TypeError as error:
        raise InputError(f"the config's section data cannot be read: {error}") from error
    _check_split(corpus.test, corpus.label_names, predictor.label_names, results)
    texts = list(corpus.test.texts)
    found = [len(row) for row in predictor.tokenizer.encode(single_texts(texts))]
    lengths = np.reshape(found, (len(texts), -1)).sum(axis=1)
    prediction = predictor.predict(texts)
    answers = prediction.values if predictor.head.target == NUMBER else prediction.probabilities
    return Evidence(texts, corpus.test.labels, answers, lengths)


def _check_split(test: Split, names: Sequence[str], trained: Sequence[str], results: dict[str, Any]) -> None:
    require(
        tuple(map(str, names)) == tuple(trained), "the source has other labels than the run was trained on"
    )
    if "confusion_matrix" in results:
        counted = np.sum(results["confusion_matrix"], axis=1)
        found = np.bincount(test.labels, minlength=len(names))
    else:  # several labels, or numbers, which have no names
        classes = results.get("scores", {}).get("classes", {})
        texts = results.get("examples", len(test.texts))
        counted = np.array([texts, *(row["support"] for row in classes.values())])
        found = np.array([len(test.texts), *(test.labels.sum(axis=0) if classes else ())])
    require(
        np.array_equal(counted, found),
        f"the source has changed: its test split has {len(test.texts):,} texts in other counts of the labels "
        f"than the {results.get('examples', counted.sum()):,} that the run was tested on",
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
    several = evidence.labels.ndim == 2
    truth = evidence.labels > 0 if several else evidence.labels[:, None] == np.arange(len(names))
    if len(names) > MOST_CURVES:
        return [(f"all {len(names)} classes", truth.ravel(), evidence.probabilities.ravel())]
    chosen = [1] if len(names) == 2 and not several else range(len(names))
    return [(names[index], truth[:, index], evidence.probabilities[:, index]) for index in chosen]


def accuracy_by_length(evidence: Evidence) -> list[tuple[str, float, int]]:
    """Returns the words "from-to", accuracy and texts of up to eight groups of about equal size.

    A text with several labels is right where all of them are. Of numbers it is the mean absolute error.
    """
    if evidence.labels.ndim == 2:
        right = ((evidence.probabilities > 0.5) == (evidence.labels > 0)).all(axis=1)
    elif evidence.probabilities.ndim == 1:
        right = np.abs(evidence.probabilities - evidence.labels)
    else:
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
    """Returns the mistakes that the model was surest of, each with its words and their share of colour.

    Of numbers these are the largest errors. Of several labels each label that is wrong counts by itself.
    """
    worst = {CLASS: _wrong_classes, LABELS: _wrong_labels, NUMBER: _largest_errors}[predictor.head.target]
    mistakes = []
    for row, name, says in worst(evidence, predictor.label_names):
        found = predictor.attribute(evidence.texts[row], name)
        strongest = max(float(np.abs(found.scores).max(initial=0)), 1e-9)
        words = list(zip(found.words, (found.scores / strongest).tolist(), strict=True))
        left_out = int(evidence.lengths[row]) - len(words)
        if found.first is not None:
            words.insert(found.first, ("|", 0.0))
        mistakes.append({**says, "words": words, "left_out": left_out})
    return mistakes


def _wrong_classes(evidence: Evidence, names: Sequence[str]) -> Iterator[Mistake]:
    said, certainty = evidence.probabilities.argmax(axis=1), evidence.probabilities.max(axis=1)
    wrong = np.flatnonzero(said != evidence.labels)
    for row in wrong[np.argsort(-certainty[wrong], kind="stable")][:MISTAKES]:
        name, label = names[said[row]], names[evidence.labels[row]]
        yield row, name, {"predicted": name, "certainty": f"{certainty[row]:.1%}", "label": label}


def _wrong_labels(evidence: Evidence, names: Sequence[str]) -> Iterator[Mistake]:
    wrong = (evidence.probabilities > 0.5) != (evidence.labels > 0)
    distance = np.where(wrong, np.abs(evidence.probabilities - 0.5), -1.0)
    order = np.argsort(-distance, axis=None, kind="stable")[: min(MISTAKES, int(wrong.sum()))]
    for row, column in zip(*np.unravel_index(order, distance.shape), strict=True):
        shares = evidence.probabilities[row, column]
        answers = (names[column], f"not {names[column]}")
        predicted, label = answers if shares > 0.5 else answers[::-1]
        certainty = f"{max(shares, 1 - shares):.1%}"
        yield int(row), names[column], {"predicted": predicted, "certainty": certainty, "label": label}


def _largest_errors(evidence: Evidence, names: Sequence[str]) -> Iterator[Mistake]:
    errors = evidence.probabilities - evidence.labels
    for row in np.argsort(-np.abs(errors), kind="stable")[:MISTAKES]:
        said, right = (f"{value[row]:.6g}" for value in (evidence.probabilities, evidence.labels))
        yield row, None, {"predicted": said, "certainty": f"{errors[row]:+.4g}", "label": right}
