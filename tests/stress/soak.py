"""A long run of the training program, watched from outside: memory, threads, open files, files written."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from rnn_jax.checkpoints.checkpoints import FOLDER
from rnn_jax.distributed.host import environment
from tests.stress.probe import FILE

EVERY = 5  # seconds between samples
ENDLESS = ["--config.train.epochs=1000", "--config.train.keep_checkpoints=3", "--config.devices=1"]
RUNS = {  # an evaluation and a checkpoint every minute or so
    "classifier": ["--config=configs/bilstm.py", "--config.train.evaluate_every=0.5"],
    "language model": [
        "--config=configs/language_model.py",
        "--config.model.embedding_dim=128",
        "--config.model.hidden=128",
        "--config.train.evaluate_every=0.1",
        "--config.log.every=20",
    ],
}


def measure(folder: Path, minutes: float, source: str) -> dict[str, Any]:
    """Soaks each of RUNS that is not in the folder yet; returns the samples from outside and inside."""
    for name, arguments in RUNS.items():
        if not (folder / name / "done").exists():
            soak(folder / name, [*arguments, *ENDLESS, f"--config.data.source={source}"], minutes)
    return {name: {side: read(folder / name / side) for side in ("outside", "inside")} for name in RUNS}


def read(path: Path) -> list[dict[str, float]]:
    """Returns the objects of a file of JSON lines."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def soak(folder: Path, arguments: list[str], minutes: float) -> None:
    """Trains for so long, then ends the run with SIGTERM.

    The samples lie in `folder`, beside the run, and at its end the file `done`.

    Raises:
      RuntimeError: the run ended before its time, or not as SIGTERM should end it.
    """
    folder.mkdir(parents=True)
    workdir = folder / "run"
    command = [sys.executable, "-m", "tests.stress.probe", f"--workdir={workdir}", *arguments]
    variables = os.environ | environment(devices=1) | {FILE: str(folder / "inside")}
    began = time.time()
    with open(folder / "log", "w") as log, open(folder / "outside", "w") as file:
        child = subprocess.Popen(command, stdout=log, stderr=log, env=variables)
        while time.time() - began < 60 * minutes and child.poll() is None:
            time.sleep(EVERY)
            if (workdir / FOLDER).exists() and child.poll() is None:
                sample = {"time": time.time(), **of_process(child.pid), **of_folder(workdir)}
                file.write(json.dumps(sample) + "\n")
                file.flush()
        child.send_signal(signal.SIGTERM)
        code = child.wait()
    if code != 128 + signal.SIGTERM:
        raise RuntimeError(f"the run in {folder} ended with {code}, see {folder / 'log'}")
    (folder / "done").touch()


def of_process(pid: int) -> dict[str, float]:
    """Returns what Linux tells of a process: MiB of memory, numbers of threads and of open files."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    status = dict(line.split(":", 1) for line in lines)
    return {
        "resident": int(status["VmRSS"].split()[0]) / 1024,
        "threads": int(status["Threads"]),
        "files": len(os.listdir(f"/proc/{pid}/fd")),
    }


def of_folder(workdir: Path) -> dict[str, float]:
    """Returns how many checkpoints a run has, their MiB, and the KiB of all its other files."""
    sizes = {"checkpoint_size": 0.0, "other_size": 0.0}
    for root, _, names in os.walk(workdir):
        part, unit = ("checkpoint_size", 2**20) if FOLDER in root else ("other_size", 2**10)
        for name in names:
            try:
                sizes[part] += Path(root, name).stat().st_size / unit
            except FileNotFoundError:  # a checkpoint that was just renamed or deleted
                continue
    return sizes | {"checkpoints": sum(name.isdecimal() for name in os.listdir(workdir / FOLDER))}
