"""A process that runs cases of `tests.stress.hostile`: one that ends it, or never ends, costs one case."""

import json
import os
import random
import resource
import sys
import tempfile
import time
import traceback
from pathlib import Path

import jax

from rnn_jax.errors import InputError
from tests.stress.hostile_arrays import parameter_case, vector_case
from tests.stress.hostile_calls import command_case, conversion_case, setting_case
from tests.stress.hostile_tables import table_case
from tests.stress.hostile_use import Refused, run_case, text_case

ADDRESSES = 2**34  # bytes that a worker may map: what asks for more gets a MemoryError
SECONDS, MEBIBYTES = 60, 1024  # that a case may take, the latter beside what the process has


def rooms():
    """Returns what draws the cases, in their order, by name; each as often as its share."""

    shares = {
        "tables: CSV, JSON, Parquet": (table_case, 5),
        "word vectors and archives": (vector_case, 5),
        "files of parameters": (parameter_case, 3),
        "folders of runs": (run_case, 2),
        "texts to predict": (text_case, 1),
        "`rnn-jax`": (command_case, 2),
        "configs": (setting_case, 1),
        "arrays to convert": (conversion_case, 1),
    }
    return [(name, case) for name, (case, share) in shares.items() for _ in range(share)]


def run(number: int, seed: int, drawn: list) -> dict:
    """Runs a case in this process, and returns what came of it."""
    room, case = drawn[number % len(drawn)]
    rng = random.Random(seed * 10**6 + number)
    with tempfile.TemporaryDirectory() as folder:
        kind, answer = case(rng, Path(folder))
        before, began, said = _memory(reset=True), time.perf_counter(), ""
        try:
            answer()
            outcome = "answered"
        except (InputError, Refused) as error:
            outcome, said = "refused", str(error)[:300]
        except BaseException:  # what it is for: anything else is a failure, a panic of a library too
            outcome, said = "wrong", traceback.format_exc()[-3000:]
        seconds = time.perf_counter() - began
    grown = _memory(reset=False) - before
    if outcome != "wrong" and grown > MEBIBYTES:
        outcome = "too large"
    return {
        "case": number,
        "room": room,
        "kind": kind,
        "outcome": outcome,
        "said": said,
        "seconds": seconds,
        "memory": grown,
    }


def _memory(reset: bool) -> float:
    """Returns the most memory, in MiB, that the process held since the last reset."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def work(numbers: list[int], seed: int) -> None:
    """Prints what came of each case, before it "begun", as JSON lines."""
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESSES, ADDRESSES))
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    jax.config.update("jax_compilation_cache_dir", os.environ["HOSTILE_CACHE"])
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    drawn = rooms()
    for _, case in dict(drawn).items():  # what they import and compile is not of a case
        for first in range(3):
            with tempfile.TemporaryDirectory() as folder:
                try:
                    case(random.Random(first), Path(folder))[1]()
                except Exception:  # it is a case that is run for its own result, too
                    continue
    for number in numbers:
        print(json.dumps({"begun": number}), file=out)
        print(json.dumps(run(number, seed, drawn)), file=out)


if __name__ == "__main__":
    work(json.loads(sys.argv[1]), int(sys.argv[2]))
