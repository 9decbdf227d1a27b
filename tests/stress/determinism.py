"""The same config and seed twice, and once with something else: which runs are equal to the last bit.

All the randomness there is takes part: dropout of every kind, adversaries, averages, word2vec, negatives.
"""

import itertools
from pathlib import Path
from typing import Any

from rnn_jax.checkpoints.workdir import RESULTS
from tests.stress.repeats import Jobs, apart, computed, finish, start
from tests.stress.trial import job

CELLS, DTYPES = ("simple", "lstm", "gru"), ("float32", "bfloat16")
PAIRS = {  # folders of runs, and what differs between them
    ("1-one", "1-again"): "nothing, 1 device",
    ("2-one", "2-again"): "nothing, 2 devices",
    ("1-one", "threads"): "threads: 4",
    ("1-one", "2-one"): "devices: 2, not 1",
    ("1-one", "avx2"): "instructions: AVX2 at most",
    ("1-one", "seed"): "the seed",
}
SAME = ("nothing, 1 device", "nothing, 2 devices")  # those that have to be equal
SMALL = {
    "data.validation_share": 0.2,
    "model.embedding_dim": 8,
    "model.hidden": 8,
    "model.embedding_dropout": 0.1,
    "model.recurrent_dropout": 0.1,
    "train.epochs": 3,
    "train.evaluate_every": 0.5,
    "train.average": 0.9,
    "train.keep_checkpoints": 9,
    "embedding.vectors": "word2vec",
    "log.every": 1,
}
CLASSIFIER = {
    "data.test_share": 0.2,
    "text.max_length": 24,
    "batch.size": 8,
    "model.word_dropout": 0.1,
    "model.dropout": 0.3,
    "train.adversarial": 0.5,
    "train.label_smoothing": 0.1,
}
LANGUAGE_MODEL = {
    "batch.lanes": 4,
    "batch.window": 8,
    "model.type_dropout": 0.1,
    "model.output_dropout": 0.1,
    "objective.negatives": 16,
    "objective.weight_drop": 0.2,
}


def jobs(reviews: Path, cells=CELLS, dtypes=DTYPES) -> Jobs:
    """Returns small jobs of each kind, on a file of made-up reviews."""
    changes = SMALL | {"data.source": str(reviews)}
    found = {}
    for cell, dtype in itertools.product(cells, dtypes):
        own = changes | {"model.cell": cell, "model.dtype": dtype}
        found[f"classifier, {cell}, {dtype}"] = ("smoke", own | CLASSIFIER)
        if cell == "lstm":
            found[f"language model, {cell}, {dtype}"] = ("language_model", own | LANGUAGE_MODEL)
    return found


def measure(folder: Path) -> dict[str, dict[str, Any]]:
    """Trains what is not in the folder yet: all jobs with one device and with two, twice each, and the LSTM's
    under other conditions. Returns what `compared` does."""
    folder.mkdir(parents=True, exist_ok=True)
    job(folder / "reviews.jsonl")
    every, some = jobs(folder / "reviews.jsonl"), jobs(folder / "reviews.jsonl", ("lstm",))
    other = {name: (config, changes | {"seed": 1}) for name, (config, changes) in some.items()}
    runs: dict[str, tuple[Jobs, int, dict[str, str]]] = {
        "1-one": (every, 1, {}),
        "1-again": (every, 1, {}),
        "2-one": (every, 2, {}),
        "2-again": (every, 2, {}),
        "threads": (some, 1, {"NPROC": "4"}),
        "avx2": (some, 1, {"XLA_FLAGS": "--xla_cpu_max_isa=AVX2"}),
        "seed": (other, 1, {}),
    }
    for hashes, (name, (wanted, devices, variables)) in enumerate(runs.items()):
        if not (folder / name).exists():
            finish(start(folder / name, wanted, devices, hashes, **variables), folder / name)
    return compared(folder)


def compared(folder: Path) -> dict[str, dict[str, Any]]:
    """Returns for each of PAIRS, and each job that both have, whether they are equal and how far apart."""
    names = {pair: [path.parent.name for path in (folder / pair[0]).glob(f"*/{RESULTS}")] for pair in PAIRS}
    return {
        PAIRS[pair]: {
            name: compare(*(folder / place / name for place in pair))
            for name in sorted(names[pair])
            if (folder / pair[1] / name / RESULTS).exists()
        }
        for pair in PAIRS
    }


def compare(one: Path, other: Path) -> dict[str, Any]:
    """Returns whether two runs computed the same, and how far apart they ended."""
    parameters, loss = apart(one, other)
    return {"equal": computed(one) == computed(other), "parameters": parameters, "loss": loss}


def table(found: dict[str, dict[str, Any]]) -> str:
    """Returns a line for each condition and type."""
    lines = ["| what differs | type | runs equal to the bit | parameters apart | test losses apart |"]
    lines.append("|---|---|---|---|---|")
    for condition, dtype in itertools.product(found, DTYPES):
        runs = [run for name, run in found[condition].items() if name.endswith(dtype)]
        if runs:
            most = [max(run[part] for run in runs) for part in ("parameters", "loss")]
            equal = f"{sum(run['equal'] for run in runs)} of {len(runs)}"
            lines.append(f"| {condition} | {dtype} | {equal} | {most[0]:.1g} | {most[1]:.1g} |")
    return "\n".join(lines)


def broken(found: dict[str, dict[str, Any]]) -> list[str]:
    """Returns a line for each run that should be equal to another and is not."""
    return [
        f"{condition}: {name} differs"
        for condition in SAME
        for name, run in found[condition].items()
        if not run["equal"]
    ]
