"""Training programs run again: what is equal to the last bit, and how far apart the rest is.

`python -m tests.stress.repeats FOLDER DEVICES` trains each job of the JSON object on its standard input,
which has for each name a module of configs/ and what changes in it: {"a": ["smoke", {"model.cell": "gru"}]}.
"""

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jax import tree

from rnn_jax.checkpoints.checkpoints import FOLDER, Checkpoints
from rnn_jax.checkpoints.workdir import METRICS, RESULTS, TOKENIZER
from rnn_jax.distributed.host import restart
from rnn_jax.training.loop import train_and_evaluate

TIMES = ("seconds", "_per_second", "peak_memory_mib")  # endings of the names of what no two runs share

Jobs = Mapping[str, tuple[str, dict[str, Any]]]


def start(folder: Path, jobs: Jobs, devices: int, hashes: int, **variables: str) -> subprocess.Popen:
    """Starts a process that trains each job in `folder/NAME`, with its own cache and seed of hashes."""
    folder.mkdir(parents=True)
    own = {"RNN_JAX_CACHE": str(folder / "cache"), "PYTHONHASHSEED": str(hashes)}
    (folder / "jobs.json").write_text(json.dumps(jobs))
    with open(folder / "jobs.json") as jobs_file, open(folder / "log", "w") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.stress.repeats", str(folder), str(devices)],
            env=os.environ | own | variables,
            stdin=jobs_file,
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def finish(process: subprocess.Popen, folder: Path) -> None:
    """Waits for a process of `start`. Raises RuntimeError, with what it said, if it failed."""
    if process.wait():
        raise RuntimeError(f"exit code {process.returncode}: {(folder / 'log').read_text()[-3000:]}")


def computed(workdir: Path) -> dict[str, Any]:
    """Returns all that a run computed: its metrics, results, words, and digests of its checkpoints."""
    lines = [json.loads(line) for line in (workdir / METRICS).read_text().splitlines()]
    return {
        "metrics": timeless(lines),
        "results": timeless(json.loads((workdir / RESULTS).read_text())),
        "words": (workdir / TOKENIZER).read_text(),
        "checkpoints": checkpoints(workdir),
    }


def timeless(value: Any) -> Any:
    """Returns a JSON value without the times in it."""
    if isinstance(value, list):
        return [timeless(element) for element in value]
    if isinstance(value, dict):
        return {key: timeless(element) for key, element in value.items() if not key.endswith(TIMES)}
    return value


def checkpoints(workdir: Path) -> dict[str, dict[str, str]]:
    """Returns digests of the parameters, and of the optimiser's state and the average, of each checkpoint."""
    files = sorted((workdir / FOLDER).glob("*/digests/metadata"))
    digests = {file.parts[-3]: json.loads(file.read_text()) for file in files}
    return {step: {name: found[name] for name in ("params", "progress")} for step, found in digests.items()}


def apart(one: Path, other: Path) -> tuple[float, float]:
    """Returns how far apart two runs ended: their last parameters, and their test losses.

    Of the parameters it is the root mean square of the difference over that of the parameters.
    """
    pairs = zip(*(tree.leaves(last_params(workdir)) for workdir in (one, other)), strict=True)
    difference, size = np.sum([(np.sum((a - b) ** 2), np.sum(a**2)) for a, b in pairs], axis=0)
    losses = [json.loads((workdir / RESULTS).read_text())["loss"] for workdir in (one, other)]
    return float(np.sqrt(difference / size)), abs(losses[0] - losses[1])


def last_params(workdir: Path) -> Any:
    """Returns the parameters of the last checkpoint, in float64."""
    with Checkpoints(workdir) as kept:
        params = kept.restore_params(kept.steps("last", fallback=False)[0])
    return tree.map(lambda leaf: np.asarray(leaf, np.float64), params)


def main() -> None:
    """Trains the jobs of the standard input."""
    folder, devices = Path(sys.argv[1]), int(sys.argv[2])
    restart(devices, 0)
    for name, (module, changes) in json.load(sys.stdin).items():
        config = importlib.import_module(f"configs.{module}").get_config()
        config.update_from_flattened_dict({**changes, "devices": devices})
        train_and_evaluate(config, folder / name)


if __name__ == "__main__":
    main()
