"""The loss curves of float32 and of bfloat16: as near as seeds are to each other, or nearer."""

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rnn_jax.checkpoints.workdir import METRICS, RESULTS
from tests.stress.repeats import Jobs, finish, start

DTYPES, SEEDS = ("float32", "bfloat16"), (0, 1, 2)
BOUND = 0.25  # of the mean difference between seeds: the most that the types may be apart on average
SETTINGS = {"train.epochs": 1, "train.evaluate_every": 0.1, "log.every": 5}  # of configs/smoke.py


class Curves(NamedTuple):
    """What a run measured: losses of train lines and of validations, and the test accuracy."""

    train: np.ndarray
    validation: np.ndarray
    accuracy: float


def read_curves(workdir: Path) -> Curves:
    """Returns the curves of a finished run."""
    lines = [json.loads(line) for line in (workdir / METRICS).read_text().splitlines()]
    train, validation = (
        np.array([line["loss"] for line in lines if line["split"] == split])
        for split in ("train", "validation")
    )
    return Curves(train, validation, json.loads((workdir / RESULTS).read_text())["accuracy"])


def jobs(cells: Sequence[str], source: str) -> Jobs:
    """Returns for each cell, type and seed a run of configs/smoke.py."""
    return {
        f"{cell} {dtype} {seed}": (
            "smoke",
            SETTINGS | {"model.cell": cell, "model.dtype": dtype, "seed": seed, "data.source": source},
        )
        for cell, seed, dtype in itertools.product(cells, SEEDS, DTYPES)
    }


def measure(folder: Path, source: str, cells: Sequence[str] = ("gru", "lstm")) -> dict[str, list[dict]]:
    """Trains every cell with both types and all seeds; returns, for each cell, a row for each quantity."""
    if not folder.exists():
        finish(start(folder, jobs(cells, source), devices=1, hashes=0), folder)
    return {cell: rows(folder, cell) for cell in cells}


def rows(folder: Path, cell: str) -> list[dict]:
    """Returns how far apart types are and how far apart seeds are, in each quantity."""
    runs = {dtype: [read_curves(folder / f"{cell} {dtype} {seed}") for seed in SEEDS] for dtype in DTYPES}
    types = list(zip(*runs.values(), strict=True))
    seeds = [pair for dtype in DTYPES for pair in itertools.combinations(runs[dtype], 2)]
    found = [
        {"quantity": name, "types": spread(types, name), "seeds": spread(seeds, name)}
        for name in Curves._fields
    ]
    found[-1]["values"] = {dtype: [run.accuracy for run in runs[dtype]] for dtype in DTYPES}
    return found


def spread(pairs: Sequence[tuple[Curves, Curves]], name: str) -> dict[str, float]:
    """Returns the mean and the largest absolute difference of a quantity over pairs of runs."""
    apart = np.abs([np.subtract(*(np.asarray(getattr(run, name)) for run in pair)) for pair in pairs])
    return {"mean": float(apart.mean()), "most": float(apart.max())}


def broken(found: dict[str, list[dict]]) -> list[str]:
    """Returns a line for each curve in which the types are farther apart than the bound."""
    return [
        f"{cell}, {row['quantity']} loss: types are {row['types']['mean']:.2g} apart on average, "
        f"seeds {row['seeds']['mean']:.2g}"
        for cell, quantities in found.items()
        for row in quantities[:2]
        if row["types"]["mean"] > BOUND * row["seeds"]["mean"]
    ]


def table(found: dict[str, list[dict]]) -> str:
    """Returns a line for each cell and quantity."""
    lines = [
        "| cell | quantity | types apart, mean | most | seeds apart, mean | most | ratio of means |",
        "|---|---|---|---|---|---|---|",
    ]
    for cell, quantities in found.items():
        for row in quantities:
            numbers = [row[of][which] for of in ("types", "seeds") for which in ("mean", "most")]
            shown = " | ".join(f"{number:.4f}" for number in numbers)
            ratio = row["types"]["mean"] / row["seeds"]["mean"]
            lines.append(f"| {cell} | {row['quantity']} | {shown} | {ratio:.2f} |")
    lines.append(
        "\nTest accuracies of the best checkpoints, seed by seed, which need not be of the same step:\n"
    )
    for cell, quantities in found.items():
        for dtype, values in quantities[-1].get("values", {}).items():
            lines.append(f"- {cell}, {dtype}: {', '.join(f'{value:.2%}' for value in values)}")
    return "\n".join(lines)
