"""The page itself: what the run's folder has, and what its test split shows, put into the template."""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from rnn_jax.checkpoints.workdir import CLASSIFY, METRICS, RESULTS
from rnn_jax.errors import InputError, require
from rnn_jax.files import path_of, read_text, replacing
from rnn_jax.inference.predictor import Predictor, load
from rnn_jax.models.scores import calibration, class_scores
from rnn_jax.report.charts import Curve, bar_chart, line_chart
from rnn_jax.report.evidence import (
    accuracy_by_length,
    certain_mistakes,
    read_evidence,
    threshold_curves,
)

REPORT, TEMPLATE = "report.html", "page.html.jinja"
MOST_IN_MATRIX, MOST_PAIRS = 30, 20  # classes that a table shows by pairs; of more, the commonest mistakes


def write_html(workdir: str | Path) -> Path:
    """Writes report.html into the folder of a finished classifier's run, and returns its path.

    The test split is read again from the source that the config names. Where that is not possible, the page
    says why, and has what the folder tells: results, curves, classes, settings and versions.

    Raises:
      InputError: no run of a classifier, or one that has not finished.

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
    results = json.loads(read_text(workdir / RESULTS))
    loader = PackageLoader("rnn_jax.report", "")
    template = Environment(loader=loader, autoescape=True, undefined=StrictUndefined).get_template(TEMPLATE)
    page = template.render(**_contents(workdir, results, predictor))
    with replacing(workdir / REPORT) as file:
        file.write(page.encode())
    return workdir / REPORT


def _contents(workdir: Path, results: dict[str, Any], predictor: Predictor) -> dict[str, Any]:
    names = list(predictor.label_names)
    confusion = np.array(results.get("confusion_matrix", np.zeros((len(names), len(names)), int)))
    scores = results.get("scores", {})  # runs of before these were counted have none
    return {
        "title": workdir.resolve().name,
        "task": CLASSIFY,
        "numbers": {key: value for key, value in (results | scores).items() if _is_number(value)},
        "versions": results.get("versions", {}),
        "machine": {key: results[key] for key in ("device", "processor") if key in results},
        "config": json.dumps(predictor.config.to_dict(), indent=2, ensure_ascii=False, default=str),
        "curves": learning_curves(workdir / METRICS),
        "classes": scores.get("classes") or class_scores(confusion, names),
        "matrix": confusion.tolist() if len(names) <= MOST_IN_MATRIX else None,
        "pairs": common_mistakes(confusion, names),
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
    roc, precision_recall = threshold_curves(evidence, predictor.label_names)
    confidence, accuracy, _ = calibration(evidence.probabilities, evidence.labels)
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
    mistakes = certain_mistakes(evidence, predictor)
    return {"missing": None, "charts": shown, "mistakes": mistakes}


def learning_curves(path: Path) -> list[tuple[str, Any]]:
    """Returns a title and a chart for each mean of metrics.jsonl that the validation has too."""
    if not path.is_file():
        return []
    found: dict[str, dict[str, list]] = defaultdict(lambda: defaultdict(list))
    for line in map(json.loads, read_text(path).splitlines()):
        for name in line.keys() - {"step", "epoch", "examples", "words"}:
            if _is_number(line[name]):
                found[name][line["split"]].append((line["step"], line[name]))
    charts = []
    for name, splits in sorted(found.items(), key=lambda item: (item[0] != "loss", item[0])):
        if "validation" in splits:
            curves = [Curve(split, *np.array(points, float).T) for split, points in splits.items()]
            charts.append((name.capitalize(), line_chart(f"{name} by step", curves, "step", name)))
    return charts


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
