"""configs/long_text*.py with several cells on the official IMDB split, and docs/long_text.md from them.

Run `python -m benchmarks.long_text`; needs the hub or `--source FOLDER` with the splits train and test. Each
run is a process of its own with an empty cache, as in benchmarks/imdb.py. What finished runs measured is kept
in docs/long_text.json, so that it can be stopped and started, or run a cell at a time: `--cells lru`.
"""

import argparse
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import rnn_jax
from benchmarks.imdb import measured
from benchmarks.records import Records, recipe
from benchmarks.report import machine, replace_section
from rnn_jax.training.classification import load_classifier_data

CONFIGS = {"long_text_evidence": "bytes and their evidence", "long_text": "bytes alone"}
CELLS = ("min_gru", "lru", "lstm")
BASELINE = "none"  # no network: a logistic regression on the evidence alone
ROWS = [("long_text_evidence", BASELINE), *((name, cell) for name in CONFIGS for cell in CELLS)]
# Of the "Text" task of the Long Range Arena, in percent of the test reviews
PUBLISHED = {
    "Transformer (Tay et al. 2021)": 64.3,
    "S5 (Smith et al. 2023)": 89.3,
    "LRU, in blocks with gates and normalisation (Orvieto et al. 2023)": 89.4,
}
PAGE, RECORDS = Path("docs", "long_text.md"), Path("docs", "long_text.json")
HEADER = """Make this table again: `python -m benchmarks.long_text`. {machine}.

| network | reads | test, % | validation, % | parameters | minutes | cores |
|---|---|---|---|---|---|---|
"""


def settings(name, cell):
    """Returns in what a config with a cell differs from configs/lstm.py, but for where its texts lie."""
    config = rnn_jax.recipe(name)
    config.model.cell = cell
    return recipe(config, ("data.source",))


def run(name, cell, source):
    """Returns what the run of a config with a cell measured."""
    if cell == BASELINE:
        return evidence_alone(source)
    return measured(name, f"{name}-{cell}", {"model.cell": cell, "data.source": source})


def evidence_alone(source):
    """Returns what a logistic regression measures on a review's evidence, a sum for each order."""
    began, config = time.perf_counter(), rnn_jax.recipe("long_text_evidence")
    config.data.source = source
    with tempfile.TemporaryDirectory() as cache:
        data = load_classifier_data(config, Path(cache))
    model = make_pipeline(StandardScaler(), LogisticRegression())
    model.fit(sums(data.train), data.train.labels)
    splits = {"accuracy": data.test, "validation": data.validation}
    found = {name: model.score(sums(split), split.labels) for name, split in splits.items()}
    wall = round(time.perf_counter() - began, 1)
    return found | {"parameters": len(config.embedding.evidence.orders) + 1, "wall": wall}


def sums(batches):
    """Returns float[rows, F], the evidence of each text, added up over its bytes."""
    rows = enumerate(batches.examples)
    return np.stack([batches.evidence.padded([row], 1, len(ids))[0].sum(axis=0) for row, ids in rows])


def row(name, cell, line):
    """Returns the table's line of a config with a cell."""
    what = f"`{cell}` | {CONFIGS[name]}"
    if cell == BASELINE:
        what = "none: a logistic regression | evidence alone"
    return (
        f"| {what} | **{100 * line['accuracy']:.1f}** | {100 * line['validation']:.1f} "
        f"| {line['parameters']:,} | {line['wall'] / 60:,.0f} | {line['cores']} |\n"
    )


def table(records):
    """Returns the table of all that is measured, and of what others published."""
    lines = [
        row(name, cell, records.lines[f"{name}-{cell}"])
        for name, cell in ROWS
        if records.has(f"{name}-{cell}", settings(name, cell))
    ]
    lines += [
        f"| {name} | bytes alone | {accuracy} | - | - | - | - |\n" for name, accuracy in PUBLISHED.items()
    ]
    return (HEADER.format(machine=machine()) + "".join(lines)).rstrip()


def main():
    """Measures what is missing, a run at a time, and writes the table after each run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", default="stanfordnlp/imdb")
    parser.add_argument("--configs", default=",".join(CONFIGS), help="comma-separated")
    parser.add_argument("--cells", default=",".join((BASELINE, *CELLS)), help="comma-separated")
    options = parser.parse_args()
    configs, cells = options.configs.split(","), options.cells.split(",")
    if unknown := {*configs, *cells} - {*CONFIGS, *CELLS, BASELINE}:
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    records = Records(RECORDS)
    for name, cell in ROWS:
        if name in configs and cell in cells:
            finished = partial(run, name, cell, options.source)
            records.measure(f"{name}-{cell}", settings(name, cell), finished)
            PAGE.write_text(replace_section(PAGE.read_text(), "cells", table(records)))


if __name__ == "__main__":
    main()
