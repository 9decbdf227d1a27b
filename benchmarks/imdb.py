"""The recipes of configs/imdb_t*.py on the official IMDB split, whole programs, and docs/imdb.md from them.

Run `python -m benchmarks.imdb`; needs the extra `vectors`, and the hub or `--source FOLDER` with the splits
train, test and unsupervised. Each run is a process of its own with an empty cache, timed from outside: from
raw text to the tested model. Finished runs in runs/imdb are kept, so it can be stopped and started.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.report import machine
from benchmarks.results import spread

RECIPES = {
    "imdb_t0": "at most 10 minutes",
    "imdb_t1": "the 25,000 labelled reviews alone",
    "imdb_t2": "frozen GloVe, 50 numbers a word",
    "imdb_t3": "frozen word2vec of the 75,000 texts",
}
RUNS, PAGE = Path("runs", "imdb"), Path("docs", "imdb.md")
HEADER = """# IMDB, the official split

Recipes of `configs/` on the Large Movie Review Dataset (Maas et al., ACL 2011): nine tenths of the training
split to train, a tenth to choose the best epoch, all 25,000 reviews of the test split to test, once. No text
of the test split is in any vocabulary or vectors. Means over seeds and their standard deviation; the standard
error of one accuracy on 25,000 reviews is 0.18 points. Seconds are of the whole program, from raw text to the
tested model, with nothing cached.

Remake it: `python -m benchmarks.imdb`. {machine}.

| recipe | seeds | test, % | validation, % | parameters trained | seconds |
|---|---|---|---|---|---|
"""


def run(recipe, seed, source):
    """Returns the results of one run, and the seconds that its program took."""
    workdir = RUNS / f"{recipe}-{seed}"
    clock = workdir / "wall.json"
    if not clock.exists():
        command = [
            *(sys.executable, "train_loop.py", f"--config=configs/{recipe}.py", f"--workdir={workdir}"),
            *(f"--config.seed={seed}", f"--config.data.source={source}"),
        ]
        if recipe not in ("imdb_t1", "imdb_t2"):
            command.append(f"--config.text.vocabulary_source={source}")
        cache = {"RNN_JAX_CACHE": str(RUNS / f"cache-{recipe}-{seed}")}
        began = time.perf_counter()
        subprocess.run(command, check=True, env=os.environ | cache)
        clock.write_text(json.dumps(time.perf_counter() - began))
    results = json.loads((workdir / "results.json").read_text())
    return results | {"wall": json.loads(clock.read_text())}


def row(recipe, runs):
    """Returns the table's line of one recipe."""
    return (
        f"| `{recipe}`: {RECIPES[recipe]} | {len(runs)} | **{spread([run['accuracy'] for run in runs])}** "
        f"| {spread([run['validation']['accuracy'] for run in runs])} | {runs[0]['trained_parameters']:,} "
        f"| {statistics.mean(run['wall'] for run in runs):,.0f} |\n"
    )


def main():
    """Runs what is missing and writes the table after each recipe."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", default="stanfordnlp/imdb")
    parser.add_argument("--recipes", default=",".join(RECIPES), help="comma-separated")
    parser.add_argument("--seeds", default="0,1,2", help="comma-separated")
    options = parser.parse_args()
    RUNS.mkdir(parents=True, exist_ok=True)
    lines = []
    for recipe in options.recipes.split(","):
        lines.append(
            row(recipe, [run(recipe, int(seed), options.source) for seed in options.seeds.split(",")])
        )
        PAGE.write_text(HEADER.format(machine=machine()) + "".join(lines))


if __name__ == "__main__":
    main()
