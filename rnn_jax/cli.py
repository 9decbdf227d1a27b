"""The command `rnn-jax`: train; predict, evaluate, export and write with trained runs; train word vectors."""

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from rich.console import Console
from rich.table import Table

from rnn_jax.data.columns import column_of, texts_of
from rnn_jax.data.reading import Reading
from rnn_jax.data.sources import read_source, read_texts
from rnn_jax.data.tables import EmptySourceError
from rnn_jax.data.tokenizer import Tokenizer
from rnn_jax.errors import InputError, require
from rnn_jax.inference.export import PLATFORMS, export_classifier
from rnn_jax.inference.predictor import Prediction, load
from rnn_jax.inference.writer import load_language_model
from rnn_jax.vectors.readers import check_output, write_vectors
from rnn_jax.vectors.word2vec import load_gensim, train_vectors

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


def add_train(command: argparse.ArgumentParser) -> None:
    command.allow_abbrev = False  # --config.model.hidden is no abbreviation
    command.usage = (
        "rnn-jax train (--config FILE | --recipe NAME) [--workdir W] [--config.SECTION.KEY=VALUE ...]"
    )
    chosen = command.add_mutually_exclusive_group(required=True)
    chosen.add_argument("--config", help="a Python file with get_config(), which returns the settings")
    chosen.add_argument("--recipe", help="a recipe that comes with the library, such as bilstm")
    command.add_argument(
        "--workdir", help="the run's folder; a run in it goes on (default: a new one in runs/)"
    )
    command.add_argument(
        "--coordinator", help="host:port of process 0, the same for all; auto asks the cluster"
    )
    command.add_argument("--processes", type=int, help="the number of processes")
    command.add_argument("--process", type=int, help="the number of this process, from 0")
    command.add_argument(
        "--verbosity", type=int, default=-1, help="absl's: -1 warnings, 0 what Orbax does, 1 all"
    )


def _add_settings(command: argparse.ArgumentParser, settings: dict[str, tuple[Any, str]]) -> None:
    for name, (default, text) in settings.items():
        option = f"--{name.replace('_', '-')}"
        command.add_argument(option, default=default, type=type(default), help=f"{text} (default: {default})")


def _which(value: str) -> str | int:
    return int(value) if value.isdecimal() else value


def json_lines(texts: Sequence[str], prediction: Prediction, names: Sequence[str]) -> list[str]:
    """Returns a line for each text, with its label and the probability of every label."""
    return [
        json.dumps(
            {"text": text, "label": label, "probabilities": dict(zip(names, map(float, row), strict=True))}
        )
        for text, label, row in zip(texts, prediction.labels, prediction.probabilities, strict=True)
    ]


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints rows under the names of their columns."""
    # In a pipe nothing limits the width, so that no row is folded.
    console = Console(
        markup=False, emoji=False, highlight=False, width=None if sys.stdout.isatty() else 10_000
    )
    table = Table(*columns)
    for row in rows:
        table.add_row(*row)
    console.print(table)


def one_line(text: str) -> str:
    """Returns the first 200 characters; unprintable ones become spaces, and runs of spaces one space."""
    encoding = sys.stdout.encoding or "utf-8"
    shown = "".join(c if c.isprintable() else " " for c in text[:200]).encode(encoding, "replace")
    return " ".join(shown.decode(encoding).split()) + ("..." if len(text) > 200 else "")


EVERY_WORD = 2**31 - 1  # no limit to a vocabulary


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs one command; bad input ends it with one line and exit code 2, or 1 where it trains."""
    parser = _parser()
    options, overrides = parser.parse_known_args(arguments)
    if options.run is train:
        options.overrides = overrides
    elif overrides:
        parser.error(f"unrecognized arguments: {' '.join(overrides)}")
    try:
        options.run(options)
        sys.stdout.flush()
    except InputError as error:
        _end(str(error))
    except UnicodeEncodeError as error:
        _end(f"standard output cannot show {error.object[error.start : error.end]!r}: {error}")
    except BrokenPipeError:  # the reader of the output, such as head, has ended
        _drop_output()
        sys.exit(1)
    except OSError as error:  # such as a full disk
        _drop_output()
        _end(str(error))


def _end(message: str) -> NoReturn:
    print(f"rnn-jax: {message}", file=sys.stderr)
    sys.exit(2)


def _drop_output() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def train(options: argparse.Namespace) -> None:
    """Trains a network from a config or a recipe, or goes on with a run."""
    from rnn_jax.training.command import run_command

    run_command(options)


def predict(options: argparse.Namespace) -> None:
    """Prints a label and its probability for each text."""
    texts = _texts(options)
    predictor = load(options.workdir, options.which, options.fallback)
    prediction = predictor.predict(texts)
    if options.format == "jsonl":
        for line in json_lines(texts, prediction, predictor.label_names):
            print(line)
    elif texts:
        best = prediction.probabilities.max(axis=1)
        rows = zip(prediction.labels, (f"{p:.3f}" for p in best), texts, strict=True)
        print_table(["label", "probability", "text"], [tuple(map(one_line, row)) for row in rows])
    if not texts:
        print("rnn-jax: there are no texts, so there is nothing to predict", file=sys.stderr)


def evaluate(options: argparse.Namespace) -> None:
    """Prints accuracy, loss and confusion counts on labelled data."""
    parts = read_source(options.data, _reading(options))
    default = "test" if "test" in parts else next(iter(parts))
    split = options.split or default
    require(split in parts, f"--split is {split!r}; {options.data} has {', '.join(parts)}")
    predictor = load(options.workdir, options.which, options.fallback)
    texts = texts_of(parts[split], options.column, split)
    values = column_of(parts[split], options.label_column, split)
    require(len(texts) > 0, f"split {split!r} of {options.data} holds no rows to evaluate on")
    metrics = predictor.evaluate(texts, predictor.label_positions(values))
    summary, confusion = metrics.summary(), np.asarray(metrics.confusion).astype(int).tolist()
    if options.format == "jsonl":
        print(json.dumps({"split": split, **summary, "confusion_matrix": confusion}))
        return
    line = "{examples:,} texts  accuracy {accuracy:.2%}  loss {loss:.4f}".format(**summary)
    print(f"{split}: {line}")
    names = [one_line(name) for name in predictor.label_names]
    rows = [(name, *(f"{count:,}" for count in row)) for name, row in zip(names, confusion, strict=True)]
    print_table(["label \\ predicted", *names], rows)


def export(options: argparse.Namespace) -> None:
    """Writes a classifier into one file that JAX runs without this library."""
    predictor = load(options.workdir, options.which, options.fallback)
    export_classifier(predictor, options.out)
    size, step = options.out.stat().st_size, predictor.step
    print(f"{options.out}: step {step}, {size:,} bytes, for {', '.join(PLATFORMS)}; docs/export.md uses it")


def vectors(options: argparse.Namespace) -> None:
    """Trains word vectors on the texts of a source, held-out splits left out, and writes a text file."""
    check_output(options.out)
    load_gensim()  # raises before the long work if the package is missing
    start = time.perf_counter()
    texts = read_texts(options.data, options.column)
    sentences = Tokenizer.train(texts, EVERY_WORD, lowercase=True, strip_html=True).words_of(texts)
    settings = {name: getattr(options, name) for name in VECTOR_SETTINGS}
    words, table = train_vectors(sentences, **settings)
    write_vectors(options.out, words, table)
    seconds = time.perf_counter() - start
    print(f"{options.out}: {len(words):,} words, {table.shape[1]} dimensions, {seconds:.0f} seconds")


def sample(options: argparse.Namespace) -> None:
    """Prints a prompt and how a language model goes on with it."""
    writer = load_language_model(options.workdir, options.which, options.fallback)
    settings = {name: getattr(options, name) for name in SAMPLE_SETTINGS}
    print(writer.write(options.prompt, **settings))


def _reading(options: argparse.Namespace) -> Reading:
    return Reading(options.column, say=lambda line: print(f"rnn-jax: {line}", file=sys.stderr))


def _texts(options: argparse.Namespace) -> list[str]:
    """Returns the texts of the command line, else of --input, else the lines of standard input."""
    require(not (options.texts and options.input), "give texts or --input, not both")
    if options.texts:
        return options.texts
    if options.input:
        try:
            (split, data), *others = read_source(options.input, _reading(options)).items()
        except EmptySourceError:
            return []
        require(not others, f"--input {options.input} has several splits; name one file")
        return texts_of(data, options.column, split)
    require(sys.stdin is not None, "standard input is closed; give texts or --input")
    try:
        return [line.rstrip("\n") for line in sys.stdin]
    except UnicodeDecodeError as error:
        raise InputError(f"standard input is not {error.encoding}: {error}") from error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="rnn-jax", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="command")
    for function, add_arguments in COMMANDS.items():
        command = commands.add_parser(function.__name__, help=function.__doc__)
        command.set_defaults(run=function)
        add_arguments(command)
    return parser


COMMANDS = {
    train: add_train,
    predict: add_predict,
    evaluate: add_evaluate,
    export: add_export,
    vectors: add_vectors,
    sample: add_sample,
}


if __name__ == "__main__":
    main()
