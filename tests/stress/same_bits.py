"""Whether two checkouts train to the same bits: prints the digests of what they save, run by run.

`python -m tests.stress.same_bits OTHER` compares this checkout with another; without OTHER it prints its own.
Each run is the program as a user starts it: all that is taken for granted is its command and its checkpoints.
"""

import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path

WORDS = [
    "a",
    "great",
    "awful",
    "dull",
    "moving",
    "film",
    "plot",
    "and",
    "the",
    "with",
    "of",
    "nobody",
    "loved",
    "it",
]


def write_documents(path: Path, count: int = 160, words: int = 210) -> Path:
    """Writes texts of random words, the same ones each time."""
    rng = random.Random(0)
    texts = [" ".join(rng.choices(WORDS, k=words)) for _ in range(count)]
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return path


def runs(folder: Path) -> dict[str, list[str]]:
    """Returns the flags of each run."""
    documents = write_documents(folder / "documents.jsonl")
    return {
        "smoke": ["--config=configs/smoke.py"],
        "language model": [
            "--config=configs/language_model.py",
            f"--config.data.source={documents}",
            "--config.batch.lanes=8",
            "--config.batch.window=20",
            "--config.train.epochs=1",
            "--config.model.embedding_dim=32",
            "--config.model.hidden=32",
            "--config.objective.negatives=4",
        ],
        "adversarial": [
            "--config=configs/smoke.py",
            "--config.train.adversarial=3.5",
            "--config.train.average=0.99",
            "--config.model.bidirectional=True",
            "--config.model.cell=lstm",
        ],
    }


def digests(tree: Path, flags: list[str], workdir: Path) -> tuple[int, dict[str, str]]:
    """Trains in a checkout; returns the last step, and the digests of what its checkpoint holds."""
    command = [sys.executable, "train_loop.py", *flags, f"--workdir={workdir}"]
    subprocess.run(command, cwd=tree, check=True, stdout=subprocess.DEVNULL)
    step = max(int(folder.name) for folder in (workdir / "checkpoints").iterdir() if folder.name.isdecimal())
    file = workdir / "checkpoints" / str(step) / "digests" / "metadata"
    found = json.loads(file.read_text())
    return step, {name: found[name] for name in ("params", "progress")}


def main(trees: list[Path]) -> None:
    """Prints a line for each run and checkout; exits with 1 where two differ."""
    differ = False
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for run, flags in runs(folder).items():
            found = [digests(tree, flags, folder / f"{run}-{index}") for index, tree in enumerate(trees)]
            for tree, (step, values) in zip(trees, found, strict=True):
                print(
                    f"{run}: step {step}, params {values['params']}, progress {values['progress']}  {tree}",
                    flush=True,
                )
            differ |= any(values != found[0] for values in found)
    sys.exit("the checkouts differ" if differ else 0)


if __name__ == "__main__":
    main([Path(__file__).parents[2], *(Path(argument).resolve() for argument in sys.argv[1:])])
