"""The command `rnn-jax`: predict, evaluate, export and write with trained runs; train word vectors."""

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from typing import NoReturn

import numpy as np

from rnn_jax.arguments import (
    SAMPLE_SETTINGS,
    VECTOR_SETTINGS,
    add_evaluate,
    add_export,
    add_predict,
    add_sample,
    add_vectors,
)
from rnn_jax.errors import InputError, require
from rnn_jax.export import PLATFORMS, export_classifier
from rnn_jax.generation import load_language_model
from rnn_jax.inference import load
from rnn_jax.printing import json_lines, one_line, print_table
from rnn_jax.sources import column_of, read_source, read_texts, texts_of
from rnn_jax.tables import EmptySourceError
from rnn_jax.text import Tokenizer
from rnn_jax.vector_files import check_output, write_vectors
from rnn_jax.word2vec import load_gensim, train_vectors

EVERY_WORD = 2**31 - 1  # no limit to a vocabulary


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs one command; bad input ends it with one line and exit code 2."""
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
        sys.stdout.flush()
    except InputError as error:
        _end(str(error))
    except UnicodeEncodeError as error:
        _end(f"standard output cannot show {error.object[error.start : error.end]!r}: {error}")
    except BrokenPipeError:  # what reads the output, such as head, has enough
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
    parts = read_source(options.data)
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
    load_gensim()  # what is missing is said before the long work
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


def _texts(options: argparse.Namespace) -> list[str]:
    """Returns the texts of the command line, else of --input, else the lines of standard input."""
    require(not (options.texts and options.input), "give texts or --input, not both")
    if options.texts:
        return options.texts
    if options.input:
        try:
            (split, data), *others = read_source(options.input).items()
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
    predict: add_predict,
    evaluate: add_evaluate,
    export: add_export,
    vectors: add_vectors,
    sample: add_sample,
}


if __name__ == "__main__":
    main()
