"""One epoch of the tutorial's bidirectional network, whole programs: ours, Keras's and torch's.

Run `python -m benchmarks.epoch`; needs the extra `bench`. The three train on the same 20,000 reviews, one
after another, timed from outside by the lines they print: from an epoch's validation to the next one's.
"""

import argparse
import itertools
import json
import re
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from benchmarks.epoch_peers import LENGTH, REVIEWS
from benchmarks.report import machine, write_section
from configs import bilstm
from rnn_jax.training.loop import prepare_data

FOLDER = Path("runs/benchmarks")
COMMANDS = {
    "rnn_jax": ["train_loop.py", "--config", "configs/bilstm.py", "--workdir", str(FOLDER / "epoch")],
    "keras": ["-m", "benchmarks.epoch_peers", "keras"],
    "torch": ["-m", "benchmarks.epoch_peers", "torch"],
}
GOAL = 0.87


def save_reviews():
    """Writes the encoded reviews of our own data path, padded on the left, for the peers."""
    data = prepare_data(bilstm.get_config())
    arrays = {}
    for split in ("train", "validation"):
        batches = getattr(data, split)
        ids = np.zeros((len(batches.examples), LENGTH), np.int32)
        for row, words in zip(ids, batches.examples, strict=True):
            row[LENGTH - len(words) :] = words
        arrays |= {f"{split}_ids": ids, f"{split}_labels": np.asarray(batches.labels, np.int32)}
    FOLDER.mkdir(parents=True, exist_ok=True)
    np.savez(REVIEWS, **arrays)


def measure(engine, epochs):
    """Returns [(seconds since the start, validation accuracy)] of the program's epochs."""
    shutil.rmtree(FOLDER / "epoch", ignore_errors=True)
    more = [f"--config.train.epochs={epochs}"] if engine == "rnn_jax" else [str(epochs)]
    began, found = time.perf_counter(), []
    with subprocess.Popen(
        [sys.executable, *COMMANDS[engine], *more], stdout=subprocess.PIPE, text=True
    ) as program:
        for line in program.stdout:
            print(f"{engine}: {line}", end="", flush=True)
            match = re.search(r"validation .*accuracy (\d\.\d+)", line)
            if match:
                found.append((time.perf_counter() - began, float(match[1])))
    if len(found) != epochs:
        raise RuntimeError(f"{engine} reported {len(found)} of {epochs} epochs")
    return found


def later_epoch(epochs):
    """Returns the median seconds of all epochs but the first, which has start-up and compilation in it."""
    times = [seconds for seconds, _ in epochs]
    return statistics.median(after - before for before, after in itertools.pairwise(times))


def time_to(epochs, goal):
    """Returns the seconds from the start to the first accuracy of at least `goal`, or None."""
    return next((seconds for seconds, accuracy in epochs if accuracy >= goal), None)


def table(measured):
    """Returns the Markdown table, with each program's time over ours."""
    ours = later_epoch(measured["rnn_jax"])
    lines = [
        "| program | start to first validation, s | an epoch after, s | over ours "
        f"| to {GOAL:.0%}, s | best, % |",
        "|---|---|---|---|---|---|",
    ]
    for engine, epochs in measured.items():
        reached = time_to(epochs, GOAL)
        lines.append(
            f"| {engine} | {epochs[0][0]:.0f} | {later_epoch(epochs):.1f} | {later_epoch(epochs) / ours:.1f} "
            f"| {f'{reached:.0f}' if reached else f'not in {len(epochs)} epochs'} "
            f"| {100 * max(accuracy for _, accuracy in epochs):.1f} |"
        )
    return "\n".join(lines)


def main():
    """Measures the chosen engines, keeps what was measured before of the others, and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--engines", default=",".join(COMMANDS), help="comma-separated; the others are kept")
    parser.add_argument("--epochs", type=int, default=5)
    options = parser.parse_args()
    save_reviews()
    store = FOLDER / "epoch.json"
    measured = json.loads(store.read_text()) if store.exists() else {}
    for engine in options.engines.split(","):
        measured[engine] = measure(engine, options.epochs)
        store.write_text(json.dumps(measured))
    measured = {engine: measured[engine] for engine in COMMANDS if engine in measured}
    text = (
        "## An epoch of the tutorial's network\n\n"
        "Make this table again: `python -m benchmarks.epoch`. An epoch has 20,000 reviews to train and 2,500 "
        "to validate. The network has 336,705 parameters, and batches have 32 reviews. The other programs "
        "pad to 500 words; ours has three padded lengths. Ours has its recipe's rate, 0.003 in one cycle, "
        "and the others Adam's usual 0.001, so what they reach compares more than programs. "
        f"{machine()}.\n\n{table(measured)}"
    )
    print(text)
    write_section("epoch", text)


if __name__ == "__main__":
    main()
