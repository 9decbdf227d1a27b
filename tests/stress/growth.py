"""How fast what a long run holds grows: fitted slopes, a table, a picture."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import theilslopes

WARM_UP = 1 / 3  # of the run, which no slope is fitted to
BOUNDS = {"resident": 15.0, "allocated": 2.0, "array_size": 0.1}  # MiB an hour
LINES = {  # of the table: the name, what it is, how it is written
    "resident": ("resident memory, MiB", ".0f"),
    "heap": ("heap of malloc, MiB", ".0f"),
    "allocated": ("given out by malloc, MiB", ".1f"),
    "arrays": ("live JAX arrays", ".0f"),
    "array_size": ("their size, MiB", ".2f"),
    "objects": ("Python objects", ",.0f"),
    "threads": ("threads", ".0f"),
    "files": ("open files", ".0f"),
    "checkpoints": ("checkpoints kept", ".0f"),
    "checkpoint_size": ("their files, MiB", ".2f"),
    "other_size": ("other files of the run, KiB", ".0f"),
}

Samples = Sequence[dict[str, float]]


class Series:
    """A run's samples by name: `times(name)` in hours after the first, `values(name)`."""

    def __init__(self, run: dict[str, Samples]):
        self.samples = run["outside"], run["inside"]
        self.first, self.last = (run["outside"][place]["time"] for place in (0, -1))

    def of(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Returns the hours and the values of a quantity; none where it was not measured."""
        pairs = [
            ((sample["time"] - self.first) / 3600, sample[name])
            for samples in self.samples
            for sample in samples
            if name in sample
        ]
        return np.array([pair[0] for pair in pairs]), np.array([pair[1] for pair in pairs])

    def warm(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Returns those after warm-up."""
        hours, values = self.of(name)
        after = hours > WARM_UP * self.hours
        return hours[after], values[after]

    def slope(self, name: str) -> float:
        """Returns the growth an hour after warm-up: the median of the slopes between all pairs of samples."""
        hours, values = self.warm(name)
        return float(theilslopes(values, hours)[0])

    @property
    def hours(self) -> float:
        """How long the run was watched."""
        return (self.last - self.first) / 3600


def broken(found: dict[str, Any]) -> list[str]:
    """Returns a line for every bound that a run is beyond."""
    slopes = {(run, name): Series(found[run]).slope(name) for run in found for name in BOUNDS}
    return [
        f"{run}: {name} grows by {slope:.1f} an hour, more than {BOUNDS[name]}"
        for (run, name), slope in slopes.items()
        if slope > BOUNDS[name]
    ]


def table(found: dict[str, Any]) -> str:
    """Returns a line for each quantity: after warm-up the least and the most, and the growth an hour."""
    lines = ["| | " + " | ".join(f"{name} | an hour" for name in found) + " |"]
    lines.append("|---" * (1 + 2 * len(found)) + "|")
    for name, (title, form) in LINES.items():
        cells = []
        for run in found.values():
            series = Series(run)
            values = series.warm(name)[1]
            if not len(values):
                cells += ["-", "-"]
                continue
            least, most = (format(value, form) for value in (values.min(), values.max()))
            cells += [least if least == most else f"{least} to {most}", f"{series.slope(name):+.2g}"]
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def describe(name: str, run: dict[str, Samples]) -> str:
    """Returns how long a run was and how far it came."""
    series, steps = Series(run), run["inside"][-1]["step"]
    return f"{name}, {60 * series.hours:.0f} minutes, {steps:,.0f} steps"


def draw(found: dict[str, Any], path: Path) -> None:
    """Draws the memory of each run over its minutes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5 * len(found), 3.5), layout="constrained")
    places = figure.subplots(1, len(found), squeeze=False)[0]
    for axes, (run, samples) in zip(places, found.items(), strict=True):
        series = Series(samples)
        for name in ("resident", "heap", "allocated"):
            hours, values = series.of(name)
            if len(hours):
                axes.plot(60 * hours, values, label=LINES[name][0])
        axes.axvspan(0, 60 * WARM_UP * series.hours, alpha=0.1, color="grey")
        axes.set(xlabel="minutes", ylabel="MiB", ylim=(0, None), title=describe(run, samples))
        axes.grid(alpha=0.3)
    figure.legend(*places[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    figure.savefig(path, dpi=110)
