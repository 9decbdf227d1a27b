"""The report of a finished run: results.json, learning curves, and the confusion matrix of a classifier."""

import os
import platform
import resource
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import jax
import numpy as np
import optax

from rnn_jax import native
from rnn_jax.checkpoints.workdir import RESULTS, write_json
from rnn_jax.data.pipeline import RunData
from rnn_jax.models.metrics import Measured, Metrics
from rnn_jax.training.logger import Stopwatch
from rnn_jax.training.state import TrainState
from rnn_jax.training.tasks import Results
from rnn_jax.training.trainer import Run
from rnn_jax.trees import Tree

LEARNING_CURVES, CONFUSION_MATRIX = "learning_curves.png", "confusion_matrix.png"
MOST_COUNTED, MOST_NAMED = 30, 130  # classes whose counts, and whose names, fit into the largest picture
PACKAGES = ("jax", "flax", "optax", "orbax-checkpoint", "numpy", "datasets", "tokenizers")


def write_report(
    workdir: Path,
    test: Measured,
    details: Results,
    history: Sequence[Results],
    measured: Results,
) -> Results:
    """Draws the learning curves, writes results.json (test results, what was measured, versions), returns it.

    `details` is what the kind of run adds to the test results.
    """
    summary = test.summary()
    draw_learning_curves(workdir / LEARNING_CURVES, history, [name for name in summary if name != test.unit])
    results = {**summary, **details, **measured, **machine()}
    write_json(workdir / RESULTS, results)
    return results


def report_confusion(workdir: Path, test: Metrics, label_names: Sequence[str]) -> Results:
    """Draws what a classifier confuses, and returns the counts for `write_report`."""
    confusion = np.asarray(test.confusion)
    draw_confusion_matrix(workdir / CONFUSION_MATRIX, confusion, label_names)
    return {"label_names": list(label_names), "confusion_matrix": confusion.astype(int).tolist()}


def measurements(
    run: Run,
    state: TrainState,
    data: RunData[Tree],
    clock: Stopwatch,
    start: int,
    evaluations: Sequence[Results],
    best: int,
    unit: str,
) -> Results:
    """Returns the evaluation at the best step, the sizes of a finished run, and what it took.

    `start` is the step that it went on from. The clock has no seconds of the steps between it and the last
    evaluation before it, where the run was interrupted.
    """
    untimed = start - max([each["step"] for each in evaluations if each["step"] <= start], default=0)
    trained = (int(state.step) - untimed) / data.train.steps_per_epoch * data.train.predictions
    return {
        "best_step": best,
        "validation": next(evaluation for evaluation in evaluations if evaluation["step"] == best),
        "steps": int(state.step),
        "parameters": optax.tree.size(state.params),
        "trained_parameters": run.plan.groups.count(state.params, run.plan.total),
        "seconds": {phase: round(value, 2) for phase, value in clock.seconds.items()},
        f"{unit}_per_second": round(trained / clock.seconds["train"], 1),
        "padding_waste": round(data.train.padding_waste, 4),
        "compilations": {"train": run.trainer.compilations, "eval": len(run.eval_step.seconds)},
        "shapes": [list(shape) for shape in data.train.shapes],
    }


def machine() -> Results:
    """Returns the versions, the processor, the device and the peak memory of this process."""
    unit = 1 if sys.platform == "darwin" else 1024  # getrusage counts bytes on macOS, KiB elsewhere
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return {
        "versions": {"python": platform.python_version()}
        | {name: metadata.version(name) for name in PACKAGES},
        "processor": f"{os.cpu_count()} cores, {platform.machine()}",
        "kernels": native.describe(),
        "device": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        "peak_memory_mib": round(peak / 2**20),
    }


def draw_learning_curves(path: Path, history: Sequence[Results], names: Sequence[str]) -> None:
    """Draws the named means, such as loss and accuracy, of train and validation over the steps."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    for axes, name in zip(figure.subplots(1, len(names)), names, strict=True):
        for split, style in (("train", "-"), ("validation", "o-")):
            points = [(line["step"], line[name]) for line in history if line["split"] == split]
            if points:
                axes.plot(*zip(*points, strict=True), style, label=split, markersize=4)
        axes.set(xlabel="step", ylabel=name)
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend()
    figure.savefig(path, dpi=120)


def draw_confusion_matrix(path: Path, confusion: np.ndarray, label_names: Sequence[str]) -> None:
    """Draws the counts of each label (rows) predicted as each label (columns), shaded by share of the row."""
    from matplotlib.figure import Figure

    classes = len(label_names)
    size = max(4.0, 0.6 * min(classes, MOST_COUNTED) + 2)
    figure = Figure(figsize=(size + 0.5, size), layout="constrained")
    axes = figure.subplots()
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), share in np.ndenumerate(shares):
        if classes <= MOST_COUNTED:
            colour = "white" if share > 0.5 else "black"
            axes.text(column, row, f"{confusion[row, column]:,.0f}", ha="center", va="center", color=colour)
    if classes <= MOST_NAMED:
        names = [str(name) for name in label_names]
        axes.set_xticks(range(classes), names, rotation=0 if classes < 5 else 90, parse_math=False)
        axes.set_yticks(range(classes), names, parse_math=False)
    axes.set(
        xlabel="predicted",
        ylabel="label",
        title=f"accuracy {np.trace(confusion) / max(confusion.sum(), 1):.2%}",
    )
    figure.savefig(path, dpi=120)
