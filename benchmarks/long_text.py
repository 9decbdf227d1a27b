"""configs/long_text*.py with several cells on the official IMDB split, and docs/long_text.md from them.

Run `python -m benchmarks.long_text`; needs the hub or `--source FOLDER` with the splits train and test. Each
run is a process of its own with an empty cache, as in benchmarks/imdb.py. What finished runs measured is kept
in docs/long_text.json, so that it can be stopped and started, or run a cell at a time: `--cells lru`.
"""

import argparse
import importlib
from functools import partial
from pathlib import Path

from benchmarks.imdb import run_program
from benchmarks.records import Records, recipe
from benchmarks.report import machine, replace_section

CONFIGS = {"long_text_evidence": "bytes and evidence", "long_text": "bytes alone"}
CELLS = ("min_gru", "lru", "lstm")
# Of the "Text" task of the Long Range Arena, in percent of the test reviews
PUBLISHED = {
    "Transformer (Tay et al. 2021)": 64.3,
    "S5 (Smith et al. 2023)": 89.3,
    "LRU, in blocks with gates and normalisation (Orvieto et al. 2023)": 89.4,
}
RUNS, PAGE, RECORDS = Path("runs", "long_text"), Path("docs", "long_text.md"), Path("docs", "long_text.json")
HEADER = """Make this table again: `python -m benchmarks.long_text`. {machine}.

| network | reads | test, % | validation, % | parameters | minutes | cores |
|---|---|---|---|---|---|---|
"""


def settings(name, cell):
    """Returns in what a config with a cell differs from configs/lstm.py, but for where its texts lie."""
    config = importlib.import_module(f"configs.{name}").get_config()
    config.model.cell = cell
    return recipe(config, ("data.source",))


def run(name, cell, source):
    """Returns what the run of a config with a cell measured."""
    return run_program(name, RUNS / f"{name}-{cell}", {"model.cell": cell, "data.source": source})


def row(name, cell, line):
    """Returns the table's line of a config with a cell."""
    return (
        f"| `{cell}` | {CONFIGS[name]} | **{100 * line['accuracy']:.1f}** | {100 * line['validation']:.1f} "
        f"| {line['parameters']:,} | {line['wall'] / 60:,.0f} | {line['cores']} |\n"
    )


def table(records):
    """Returns the table of all that is measured, and of what others published."""
    lines = [
        row(name, cell, records.lines[f"{name}-{cell}"])
        for name in CONFIGS
        for cell in CELLS
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
    parser.add_argument("--cells", default=",".join(CELLS), help="comma-separated")
    options = parser.parse_args()
    RUNS.mkdir(parents=True, exist_ok=True)
    records = Records(RECORDS)
    for name in options.configs.split(","):
        for cell in options.cells.split(","):
            measured = partial(run, name, cell, options.source)
            records.measure(f"{name}-{cell}", settings(name, cell), measured)
            PAGE.write_text(replace_section(PAGE.read_text(), "cells", table(records)))


if __name__ == "__main__":
    main()
