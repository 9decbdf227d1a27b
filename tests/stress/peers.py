"""Faults of one of two processes that train together: how soon the other ends, and that the run goes on.

Run `python -m tests.stress.peers`; it writes a section of docs/reliability.md. A resumed run has to end with
the bits of one process on two devices that was never disturbed.
"""

import argparse
import os
import random
import signal
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import jax

from benchmarks.report import machine, replace_section
from rnn_jax.errors import InputError
from rnn_jax.training import loop
from tests.stress.injection import Act, at_step, send, together
from tests.stress.trial import STEPS, job, outcome

PAGE = Path("docs", "reliability.md")
ALONE = 60.0  # seconds in which a process asks nothing of the other
OURS = ("goes on from its last checkpoint", "ended after step")
INTRODUCTION = """## Several processes

Two processes that train together on one machine, and a fault of one of them. Seconds are from its end to that
of the other; "waits" is within {alone:.0f} s in which they have nothing to reduce, as in a long compilation.
Then both start again: the run has to end with the bits of one process on two devices. How several processes
are started, and what they do: [scaling](scaling.md).

Remake it: `python -m tests.stress.peers`. {machine}.

| fault | trials | seconds until the other ends, at most | it says what to do | steps done again, at most |
|---|---|---|---|---|
"""


def waiting(act: Act) -> Act:
    """Returns a fault: `act` instead of compiling."""

    def wait(run: Any, state: Any, data: Any) -> str:
        act()
        time.sleep(ALONE)
        return ""

    def arm() -> None:
        loop.compile_ahead = wait

    return arm


def refuse() -> None:
    raise InputError("something that one process alone has")


def nothing() -> None:
    """No fault."""


def faults(draw: random.Random) -> dict[str, tuple[int, int, Act, Act]]:
    """Returns by name who has the fault, the last step it does, its fault, and the other's part."""
    step = draw.randint(8, STEPS - 2)
    kill, end = send(signal.SIGKILL), send(signal.SIGTERM)
    return {
        "SIGKILL of process 1 in a step": (1, step, at_step(step, kill), nothing),
        "SIGKILL of process 0 in a step": (0, step, at_step(step, kill), nothing),
        "SIGKILL of process 1 while 0 waits": (1, 0, waiting(kill), waiting(nothing)),
        "SIGKILL of process 0 while 1 waits": (0, 0, waiting(kill), waiting(nothing)),
        "an error in process 1 while 0 waits": (1, 0, waiting(refuse), waiting(nothing)),
        "SIGTERM to process 1 in a step": (1, step, at_step(step, end), nothing),
    }


def trial(name: str, settings, workdir: Path, draw: random.Random, reference) -> tuple[float, bool, int]:
    """Returns the seconds, whether the other said what to do, and the steps that were done twice."""
    index, step, fault, others = faults(draw)[name]
    children = together(settings, workdir, 2, 1, {index: fault, 1 - index: others})
    codes = [children[number].wait() for number in (index, 1 - index)]
    other = children[1 - index]
    assert 0 not in codes, (codes, other.said[-2000:])
    for child in together(settings, workdir, 2):
        assert child.wait() == 0, child.said[-2000:]
    found = outcome(workdir)
    assert {**found, "from": 0} == {**reference, "from": 0}, (found, reference)
    seconds = max(0.0, other.ended - children[index].ended)
    return seconds, any(words in other.said for words in OURS), max(0, step - found["from"])


def main() -> None:
    """Runs the trials and writes the section; ends with the first trial that fails."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=12)
    options, measured = parser.parse_args(), defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["RNN_JAX_CACHE"] = str(Path(folder, "cache"))
        jax.config.update("jax_compilation_cache_dir", str(Path(folder, "compiled")))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
        settings = job(Path(folder, "reviews.jsonl"))
        whole = together(settings, Path(folder, "whole"), 1, 2)
        assert whole[0].wait() == 0, whole[0].said[-2000:]
        reference = outcome(Path(folder, "whole"))
        names = list(faults(random.Random(0)))
        for number in range(options.trials):
            name = names[number % len(names)]
            found = trial(name, settings, Path(folder, str(number)), random.Random(number), reference)
            measured[name].append(found)
            print(f"{number} {name}: {found}", flush=True)
    rows = [
        f"| {name} | {len(found)} | {max(seconds for seconds, *_ in found):.1f} "
        f"| {sum(said for _, said, _ in found)} of {len(found)} | {max(again for *_, again in found)} |"
        for name, found in measured.items()
    ]
    text = INTRODUCTION.format(alone=ALONE, machine=machine()) + "\n".join(rows)
    PAGE.write_text(replace_section(PAGE.read_text(), "several processes", text))


if __name__ == "__main__":
    main()
