"""Runs of one and of two processes, and what happens to them; prints how each process ended, as JSON.

`python -m tests.helpers.members FOLDER`: a program of its own, because it forks before JAX has started.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

import datasets  # noqa: F401  # imported once, before the forks
import jax
import matplotlib.figure  # noqa: F401

from tests.helpers.jobs import tiny_language_config, write_documents
from tests.stress.injection import at_step, send, together
from tests.stress.trial import EVERY, job

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
CHANGES = ("os.mkdir", "os.rename", "os.remove", "os.rmdir")
NOTICE = 3  # seconds until JAX has noticed a SIGTERM, for which it looks once a second, and told the others
STOP, KILL = EVERY + 1, 3 * EVERY + 2  # steps in which a process is asked to end, and killed


def watched(log):
    """Returns a fault that is none: the paths that this process writes, makes and moves go to `log`."""

    def hook(event, arguments):
        opened = event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITING
        if (opened or event in CHANGES) and not isinstance(arguments[0], int):
            os.write(log, f"{os.fsdecode(arguments[0])}\n".encode())

    return lambda: sys.addaudithook(hook)


def run(settings, workdir, count, devices=1, faults=None):
    children = together(settings, workdir, count, devices, faults)
    codes = [child.wait() for child in children]
    return {"codes": codes, "said": [child.said for child in children], "ended": [c.ended for c in children]}


def main(folder):
    jax.config.update("jax_compilation_cache_dir", str(folder.with_name("compiled")))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    os.environ["RNN_JAX_CACHE"] = str(folder / "cache")
    folder.mkdir()
    settings, shared = job(folder / "reviews.jsonl"), folder / "shared"
    settings.train.epochs = 2
    written = [os.open(folder / f"written{index}", os.O_WRONLY | os.O_CREAT) for index in range(2)]
    stop, kill = send(signal.SIGTERM), send(signal.SIGKILL)

    def stop_both():
        stop()
        time.sleep(NOTICE)

    words = tiny_language_config(write_documents(folder / "documents.jsonl", 12), train__epochs=1)
    words.model.layers = 1
    uneven = settings.copy_and_resolve_references()
    uneven.batch.size = 7
    ends = {
        "two, asked": run(
            settings,
            shared,
            2,
            1,
            {0: watched(written[0]), 1: lambda: (watched(written[1])(), at_step(STOP, stop_both)())},
        ),
        "one, asked": run(settings, shared, 1, 2, {0: at_step(2 * EVERY + 2, stop)}),
        "two, killed": run(settings, shared, 2, 1, {1: at_step(KILL, kill)}),
        "two": run(settings, shared, 2),
        "alone": run(settings, folder / "alone", 1, 2),
        "words, two": run(words, folder / "words two", 2),
        "words, alone": run(words, folder / "words alone", 1, 2),
        "uneven": run(uneven, folder / "uneven", 2),
    }
    print(json.dumps(ends))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
