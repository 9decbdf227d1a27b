"""What the commands of `rnn-jax` are given: the table of each one's arguments."""

import argparse
from pathlib import Path
from typing import Any

VECTOR_SETTINGS: dict[str, tuple[Any, str]] = {
    "dim": (128, "numbers in a vector"),
    "window": (5, "words on each side that count as context"),
    "epochs": (8, "times that the texts are read"),
    "min_count": (5, "uses that a word needs to get a vector"),
    "seed": (0, "of all that is random"),
    "workers": (1, "threads; with more than one, no two runs are equal"),
}
SAMPLE_SETTINGS: dict[str, tuple[Any, str]] = {
    "words": (50, "words to add"),
    "temperature": (0.8, "near 0 the likeliest words, above 1 unlikely ones oftener"),
    "top_k": (40, "draw from so many of the likeliest words; 0 draws from all"),
    "seed": (0, "of the draws"),
}


def _add_run(command: argparse.ArgumentParser) -> None:
    command.add_argument("--workdir", required=True, help="the folder of a trained run")
    command.add_argument("--which", default="best", type=_which, help="best, last, or a step (default: best)")
    command.add_argument("--fallback", action="store_true", help="take another checkpoint if it is damaged")


def _add_column(command: argparse.ArgumentParser) -> None:
    command.add_argument("--column", default="text", help="the column of the texts (default: text)")


def _add_format(command: argparse.ArgumentParser) -> None:
    _add_column(command)
    command.add_argument("--format", default="table", choices=("table", "jsonl"))


def add_predict(command: argparse.ArgumentParser) -> None:
    _add_run(command)
    _add_format(command)
    command.add_argument("texts", nargs="*", help="texts; without them and --input, lines of stdin")
    command.add_argument("--input", help="a CSV, JSON-lines or Parquet file")


def add_evaluate(command: argparse.ArgumentParser) -> None:
    _add_run(command)
    _add_format(command)
    command.add_argument("--data", required=True, help="a file or folder, or a dataset's name on the hub")
    command.add_argument("--split", help="the split to evaluate on (default: test, else the first)")
    command.add_argument("--label-column", default="label", help="the column of the labels")


def add_export(command: argparse.ArgumentParser) -> None:
    _add_run(command)
    command.add_argument("--out", required=True, type=Path, help="the file to write, a zip archive")


def add_vectors(command: argparse.ArgumentParser) -> None:
    _add_column(command)
    command.add_argument("--data", required=True, help="a file or folder, or a dataset's name on the hub")
    command.add_argument("--out", required=True, type=Path, help="the .txt or .vec file to write")
    _add_settings(command, VECTOR_SETTINGS)


def add_sample(command: argparse.ArgumentParser) -> None:
    _add_run(command)
    command.add_argument("--prompt", required=True, help="the words to go on from")
    _add_settings(command, SAMPLE_SETTINGS)


def _add_settings(command: argparse.ArgumentParser, settings: dict[str, tuple[Any, str]]) -> None:
    for name, (default, text) in settings.items():
        option = f"--{name.replace('_', '-')}"
        command.add_argument(option, default=default, type=type(default), help=f"{text} (default: {default})")


def _which(value: str) -> str | int:
    return int(value) if value.isdecimal() else value
