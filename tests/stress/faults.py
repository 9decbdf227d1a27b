"""Faults: training processes that are killed, cut off from the disk, damaged and run twice, then resumed.

Run `python -m tests.stress.faults`; it writes a section of docs/reliability.md. Every trial is a run in
processes of its own with one fault at a random point, resumed until it ends. It has to end as a run without
a fault: the same bits in the last checkpoint, the same test results.
"""

import argparse
import multiprocessing
import random
import tempfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import jax

from benchmarks.report import machine, replace_section
from rnn_jax.distributed.host import cores
from tests.stress.trial import EVERY, STEPS, Trial, job, outcome

PAGE, SECTION = Path("docs", "reliability.md"), "faults"
HEADER = """## Faults

Each trial trains a run of {steps} steps, with a checkpoint every {every}, in processes of its own. A fault
comes at a random point, and the run is resumed. It must end with the same bits as a run without a fault:
parameters, optimiser's state and average of the last checkpoint, best step, loss and confusion counts of the
test. It must go on from the last complete checkpoint before the fault. If that one is damaged, it must go on
from the newest one that is not, and say so.

- SIGKILL, a full disk and damage lose at most the steps since that checkpoint. SIGTERM and Ctrl-C lose none:
  the step under way is finished and saved.
- A checkpoint is complete or not there. It has digests of everything that was saved. A checkpoint that does
  not match them is moved to the workdir's folder `damaged`. Only content that nothing reads, such as times,
  may change unnoticed.
- If the best checkpoint is damaged after later ones were saved, it is lost. Training goes on from the newest
  one, and the best of those that are left is tested.
- A lock keeps a second run out. It is released when its process dies. Another config and other data are
  refused.

Make this section again: `python -m tests.stress.faults` ({minutes:.0f} minutes). {machine}.

| fault | trials | steps repeated, at most |
|---|---|---|
"""
FAULTS = {
    "SIGKILL in a step": Trial.kill_in_a_step,
    "SIGKILL at any time": Trial.kill_at_any_time,
    "SIGKILL while it saves": Trial.kill_in_a_save,
    "SIGTERM in a step": Trial.terminate_in_a_step,
    "SIGTERM while it saves": Trial.terminate_in_a_save,
    "no room while it saves": Trial.fill_the_disk,
    "the workdir becomes read-only": Trial.forbid_writing,
    "a file of a checkpoint cut short": Trial.cut_a_file,
    "a bit of a checkpoint flipped": Trial.flip_a_bit,
    "another config": Trial.change_the_config,
    "other data": Trial.change_the_data,
    "the clock jumps": Trial.jump_in_time,
    "two runs in one workdir": Trial.run_twice,
}


def attempt(settings: Any, folder: Path, reference: Any, seed: int, number: int) -> tuple[str, int]:
    """Returns the fault of a trial, and the steps that were done again after it."""
    name = list(FAULTS)[number % len(FAULTS)]
    trial = Trial(settings, folder / str(number), random.Random(seed * 10_000 + number))
    FAULTS[name](trial)
    return name, trial.resume(reference)


def main() -> None:
    """Runs the trials and writes the section; ends with the first trial that fails."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=220)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=cores(), help="trials side by side")
    options = parser.parse_args()
    counts, lost, began = Counter[str](), Counter[str](), time.perf_counter()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        jax.config.update("jax_compilation_cache_dir", str(folder / "compiled"))  # by all processes
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
        settings = job(folder / "reviews.jsonl")
        whole = Trial(settings, folder / "whole", random.Random())
        whole.end(whole.start(), 0)
        reference = outcome(folder / "whole")
        # Forked, as the trials fork: nothing is imported again.
        with ProcessPoolExecutor(options.workers, multiprocessing.get_context("fork")) as pool:
            trials = pool.map(
                partial(attempt, settings, folder, reference, options.seed), range(options.trials)
            )
            for number, (name, again) in enumerate(trials):
                counts[name] += 1
                lost[name] = max(lost[name], again)
                print(f"{number} {name}: {again} steps again", flush=True)
    minutes = (time.perf_counter() - began) / 60
    rows = "".join(f"| {name} | {counts[name]} | {lost[name]} |\n" for name in counts)
    text = HEADER.format(steps=STEPS, every=EVERY, minutes=minutes, machine=machine()) + rows
    PAGE.write_text(replace_section(PAGE.read_text(), SECTION, text.rstrip()))


if __name__ == "__main__":
    main()
