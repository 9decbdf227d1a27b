"""configs/long_text.py with several cells on the official IMDB split, and docs/long_text.md from it.

Run `python -m benchmarks.long_text`; needs the hub or `--source FOLDER` with the splits train and test. Each
run is a process of its own with an empty cache, as in benchmarks/imdb.py. What finished runs measured is kept
in docs/long_text.json, so that it can be stopped and started, or run a cell at a time: `--cells lru`.
"""

import argparse
from functools import partial
from pathlib import Path

from benchmarks.imdb import run_program
from benchmarks.records import Records, recipe
from benchmarks.report import machine, replace_section
from configs import long_text

CELLS = ("min_gru", "lru", "lstm")
# Of the "Text" task of the Long Range Arena, in percent of the test reviews
PUBLISHED = {
    "Transformer (Tay et al. 2021)": 64.3,
    "S5 (Smith et al. 2023)": 89.3,
    "LRU, in blocks with gates and normalisation (Orvieto et al. 2023)": 89.4,
}
RUNS, PAGE, RECORDS = Path("runs", "long_text"), Path("docs", "long_text.md"), Path("docs", "long_text.json")
HEADER = """Make this table again: `python -m benchmarks.long_text`. {machine}.

| network | test, % | validation, % | parameters | minutes | cores |
|---|---|---|---|---|---|
"""


def settings(cell):
    """Returns in what the config with a cell differs from configs/lstm.py, but for where its texts lie."""
    config = long_text.get_config()
    config.model.cell = cell
    return recipe(config, ("data.source",))


def run(cell, source):
    """Returns what the run of one cell measured."""
    return run_program("long_text", RUNS / cell, {"model.cell": cell, "data.source": source})


def row(cell, line):
    """Returns the table's line of one cell."""
    return (
        f"| `{cell}` | **{100 * line['accuracy']:.1f}** | {100 * line['validation']:.1f} "
        f"| {line['parameters']:,} | {line['wall'] / 60:,.0f} | {line['cores']} |\n"
    )


def table(records):
    """Returns the table of all that is measured, and of what others published."""
    lines = [row(cell, records.lines[cell]) for cell in CELLS if records.has(cell, settings(cell))]
    lines += [f"| {name} | {accuracy} | - | - | - | - |\n" for name, accuracy in PUBLISHED.items()]
    return (HEADER.format(machine=machine()) + "".join(lines)).rstrip()


def main():
    """Measures what is missing, a cell at a time, and writes the table after each run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", default="stanfordnlp/imdb")
    parser.add_argument("--cells", default=",".join(CELLS), help="comma-separated")
    options = parser.parse_args()
    RUNS.mkdir(parents=True, exist_ok=True)
    records = Records(RECORDS)
    for cell in options.cells.split(","):
        records.measure(cell, settings(cell), partial(run, cell, options.source))
        PAGE.write_text(replace_section(PAGE.read_text(), "cells", table(records)))


if __name__ == "__main__":
    main()
