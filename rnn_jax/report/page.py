"""The page itself: what the run's folder has, and what its test split shows, put into the template."""

import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from rnn_jax.checkpoints.workdir import METRICS, REPORT, RESULTS, Json, read_json
from rnn_jax.data.targets import CLASS, LABELS, NUMBER
from rnn_jax.errors import InputError, require
from rnn_jax.files import path_of, read_text, replacing
from rnn_jax.inference.predictor import Predictor, load
from rnn_jax.models.scores import calibration, class_scores
from rnn_jax.report.charts import Curve, bar_chart, line_chart, scatter_chart
from rnn_jax.report.evidence import (
    Evidence,
    accuracy_by_length,
    certain_mistakes,
    read_evidence,
    threshold_curves,
)

TEMPLATE = "page.html.jinja"
KINDS = {CLASS: "{} classes", LABELS: "any of {} labels", NUMBER: "a number for each text"}
MISTAKES = {  # what they are called, and what words in the two colours do
    CLASS: ("The mistakes it was surest of", "speak for the predicted label", "against it"),
    LABELS: ("The mistakes it was surest of", "speak for the label", "against it"),
    NUMBER: ("The largest errors", "raise the number", "lower it"),
}
SPLITS = ("train", "validation")  # in metrics.jsonl; each has its colour
MOST_IN_MATRIX, MOST_PAIRS = 30, 20  # classes that a table shows by pairs; of more, the commonest mistakes


def write_html(workdir: str | Path) -> Path:
    """Writes report.html into the folder of a finished classifier's run, and returns its path.

    The test split is read again from the source that the config names. Where that is not possible, the page
    says why, and has what the folder tells: results, curves, classes, settings and versions.

    Raises:
      InputError: no run of a classifier, one that has not finished, or damaged results or metrics in it.

    >>> write_html("runs/none")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    rnn_jax.errors.InputError: workdir is 'runs/none', which is not the folder of a run: ...
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    workdir = path_of(workdir)
    predictor = load(workdir)
    finished = (workdir / RESULTS).is_file()
    require(finished, f"{workdir} has no {RESULTS}: the run has not finished; train goes on with it")
    results = _results(workdir / RESULTS, predictor)
    loader = PackageLoader("rnn_jax.report", "")
    pages = Environment(loader=loader, autoescape=True, undefined=StrictUndefined)
    pages.filters["spoken"] = spoken
    page = pages.get_template(TEMPLATE).render(**_contents(workdir, results, predictor))
    with replacing(workdir / REPORT) as file:
        file.write(page.encode())
    return workdir / REPORT


def _results(path: Path, predictor: Predictor) -> dict[str, Any]:
    """Returns what results.json holds. Raises InputError where that is no report of this model."""
    results = read_json(path)
    known = isinstance(results, dict) and all(
        isinstance(results.get(part, {}), dict) for part in ("scores", "versions")
    )
    if known and "confusion_matrix" in results:
        rows, count = results["confusion_matrix"], len(predictor.label_names)
        known = isinstance(rows, list) and len(rows) == count and all(_are_counts(row, count) for row in rows)
    require(known, f"{path} is no report of this run; delete it, and train makes it again")
    return results


def _are_counts(row: Json, count: int) -> bool:
    return isinstance(row, list) and len(row) == count and all(type(cell) is int for cell in row)


def _contents(workdir: Path, results: dict[str, Any], predictor: Predictor) -> dict[str, Any]:
    names, target = list(predictor.label_names), predictor.head.target
    confusion = np.array(results.get("confusion_matrix", np.zeros((len(names), len(names)), int)))
    scores = results.get("scores", {})  # runs of before these were counted have none
    classes = scores.get("classes") or (class_scores(confusion, names) if target == CLASS else {})
    worst, for_it, against_it = MISTAKES[target]
    return {
        "title": workdir.resolve().name,
        "kind": KINDS[target].format(len(names)) + (" of pairs of texts" if predictor.pair else ""),
        "worst": worst,
        "for_it": for_it,
        "against_it": against_it,
        "numbers": {key: value for key, value in (scores | results).items() if _is_number(value)},
        "versions": results.get("versions", {}),
        "machine": {key: results[key] for key in ("device", "processor", "kernels") if key in results},
        "config": json.dumps(predictor.config.to_dict(), indent=2, ensure_ascii=False, default=str),
        "curves": learning_curves(workdir / METRICS),
        "classes": classes,
        "matrix": confusion.tolist() if target == CLASS and len(names) <= MOST_IN_MATRIX else None,
        "pairs": common_mistakes(confusion, names) if target == CLASS else None,
        "names": names,
        **_shown_evidence(predictor, results),
    }


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _shown_evidence(predictor: Predictor, results: dict[str, Any]) -> dict[str, Any]:
    try:
        evidence = read_evidence(predictor, results)
    except (InputError, OSError) as error:
        return {"missing": str(error), "charts": [], "mistakes": []}
    mistakes = certain_mistakes(evidence, predictor)
    shown = (
        _number_charts(evidence) if predictor.head.target == NUMBER else _class_charts(evidence, predictor)
    )
    return {"missing": None, "charts": shown, "mistakes": mistakes}


def _number_charts(evidence: Evidence) -> list[tuple[str, Any]]:
    """Returns the charts of numbers: predicted against true, and the errors by the length of the text."""
    title, lengths = "Predicted against true", accuracy_by_length(evidence)
    scatter = scatter_chart(title, evidence.labels, evidence.probabilities, "true number", "predicted number")
    axes = ("words of the text", "mean absolute error")
    return [(title, scatter), ("Error by length", bar_chart("Error by length", lengths, *axes, shares=False))]


def _class_charts(evidence: Evidence, predictor: Predictor) -> list[tuple[str, Any]]:
    """Returns the charts of classes, or of several labels: ROC, precision and recall, calibration, length."""
    roc, precision_recall = threshold_curves(evidence, predictor.label_names)
    probabilities, labels = evidence.probabilities, evidence.labels
    if labels.ndim == 2:  # every decision on a label is one of two classes
        probabilities, labels = (
            np.stack([1 - probabilities, probabilities], -1).reshape(-1, 2),
            labels.ravel(),
        )
    confidence, accuracy, _ = calibration(probabilities, labels)
    reliability = Curve("this model", confidence, accuracy)
    lengths = accuracy_by_length(evidence)
    by_length = bar_chart("Accuracy by length", lengths, "words of the text", "accuracy")
    said = ("probability of the predicted class", "share that is right")
    shown: list[tuple[str, Any]] = [
        ("Calibration", line_chart("Calibration", [reliability], *said, unit=True, diagonal=True)),
        ("Accuracy by length", by_length),
    ]
    if roc:
        axes = ("false positives, as a share", "true positives, as a share")
        shown.insert(0, ("ROC", line_chart("ROC", roc, *axes, unit=True, diagonal=True)))
        title = "Precision and recall"
        shown.insert(1, (title, line_chart(title, precision_recall, "recall", "precision", unit=True)))
    return shown


def learning_curves(path: Path) -> list[tuple[str, Any]]:
    """Returns a title and a chart for each mean of metrics.jsonl that the validation has too."""
    if not path.is_file():
        return []
    found: dict[str, dict[str, list]] = defaultdict(lambda: defaultdict(list))
    for line in _metrics(path):
        for name in line.keys() - {"step", "epoch", "examples", "words"}:
            if _is_number(line[name]):
                found[name][line["split"]].append((line["step"], line[name]))
    charts = []
    for name, splits in sorted(found.items(), key=lambda item: (item[0] != "loss", item[0])):
        if "validation" in splits:
            curves = []
            for split, points in splits.items():
                steps, values = np.array(points, float).T
                curves.append(Curve(split, steps, values, SPLITS.index(split)))
            shown = spoken(name)
            title = shown[:1].upper() + shown[1:]
            charts.append((title, line_chart(f"{shown} by step", curves, "step", shown)))
    return charts


def _metrics(path: Path) -> Iterator[dict[str, Any]]:
    """Yields the lines of metrics.jsonl; a last one that a kill cut short is left out."""
    lines = read_text(path).splitlines()
    for number, text in enumerate(lines, 1):
        try:
            line = json.loads(text)
            known = line["split"] in SPLITS and _is_number(line["step"])
        except (ValueError, RecursionError, TypeError, KeyError):
            known = False
        if not known and number == len(lines):
            return
        require(known, f"{path}: line {number} has no metrics of a step; delete that line")
        yield line


def spoken(name: str) -> str:
    """Returns the name of a number as a reader writes it.

    >>> spoken("rmse"), spoken("macro_f1"), spoken("calibration_error")
    ('RMSE', 'macro F1', 'calibration error')
    """
    return name.upper() if name in ("rmse", "mae", "r2") else name.replace("_", " ").replace("f1", "F1")


def common_mistakes(confusion: np.ndarray, names: list[str]) -> list[tuple[str, str, int]]:
    """Returns label, prediction and count of the commonest mistakes, most first.

    >>> common_mistakes(np.array([[3, 1], [2, 4]]), ["dull", "fine"])
    [('fine', 'dull', 2), ('dull', 'fine', 1)]
    """
    wrong = confusion - np.diag(np.diag(confusion))
    order = np.argsort(-wrong, axis=None, kind="stable")[:MOST_PAIRS]
    places = zip(*np.unravel_index(order, wrong.shape), strict=True)
    return [
        (names[row], names[column], int(wrong[row, column])) for row, column in places if wrong[row, column]
    ]
