"""What each command of `rnn-jax` does."""

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np
from rich.console import Console
from rich.table import Table

from rnn_jax.checkpoints.restore import settings_of_run
from rnn_jax.checkpoints.workdir import LANGUAGE
from rnn_jax.cli.arguments import LABEL, SAMPLE_SETTINGS, SERVE_SETTINGS, TEXT, VECTOR_SETTINGS
from rnn_jax.cli.decisions import (
    SHOWN_COLUMNS,
    added_columns,
    cells_of,
    cells_of_rows,
    check_joined,
    json_lines,
    shown,
)
from rnn_jax.cli.row_files import check_out, rows_into
from rnn_jax.data.columns import column_of, named_column, no_column, path_in, texts_of
from rnn_jax.data.in_memory import missing
from rnn_jax.data.reading import EmptySourceError, Reading
from rnn_jax.data.row_streams import Row, Rows, stream_rows
from rnn_jax.data.sentences import read_tagged
from rnn_jax.data.sources import read_source, read_texts
from rnn_jax.data.targets import CLASS, LABELS, NUMBER, Text, paired
from rnn_jax.data.tokenizer import Tokenizer, tokenizer_kind
from rnn_jax.errors import InputError, require
from rnn_jax.inference.export import PLATFORMS, export_classifier, export_tagger
from rnn_jax.inference.hub import local_folder, push_model
from rnn_jax.inference.loading import load
from rnn_jax.inference.model_card import About
from rnn_jax.inference.predictor import load as load_classifier
from rnn_jax.inference.tagger import Tagger, TagPrediction
from rnn_jax.inference.text_model import Evaluation, TextModel
from rnn_jax.inference.writer import load_language_model
from rnn_jax.models.scores import table
from rnn_jax.vectors.readers import check_output, write_vectors
from rnn_jax.vectors.word2vec import check_vector_settings, load_gensim, train_vectors

EVERY_WORD = 2**31 - 1  # no limit to a vocabulary


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


def train(options: argparse.Namespace) -> None:
    """Trains a network from a config or a recipe, or goes on with a run."""
    from rnn_jax.training.command import run_command

    run_command(options)


def predict(options: argparse.Namespace) -> None:
    """Prints a label and its probability for each text, or writes them beside the columns of a file."""
    if options.out:
        predict_rows(options)
        return
    require(not options.probabilities, "--probabilities is given without --out; use --format jsonl, or --out")
    found = _rows(options)
    predictor = loaded(options)
    count, lines = 0, list[tuple[str, ...]]()
    rows = rows_of_texts(found, predictor, options)
    for part, prediction in predicted(predictor, rows, progress=not sys.stdout.isatty()):
        count += len(part)
        if isinstance(predictor, Tagger):
            print_tags(prediction, [str(text) for _, text in part], options.format)
            continue
        answers = predictor.head.as_json(prediction)
        if options.format == "jsonl":
            print("\n".join(json_lines([text for _, text in part], answers)))
            continue
        for (_, text), answer in zip(part, answers, strict=True):
            lines.append(tuple(map(one_line, (*shown(answer), *cells_of(text).values()))))
    if lines and isinstance(predictor, TextModel):
        columns = ("text", "pair") if predictor.pair else ("text",)
        print_table([*SHOWN_COLUMNS[predictor.head.target], *columns], lines)
    if not count:
        print("rnn-jax: there are no texts, so there is nothing to predict", file=sys.stderr)


def loaded(options: argparse.Namespace) -> TextModel | Tagger:
    """Returns the model of --workdir, or the ensemble of several."""
    given = options.workdir
    return load(given[0] if len(given) == 1 else given, options.which, options.fallback)


def predict_rows(options: argparse.Namespace) -> None:
    """Writes the rows of --input, in their order, with what was predicted of each, into --out."""
    check_out(options.out)
    require(
        options.format == "table" or options.out.suffix.lower() in (".jsonl", ".ndjson"),
        f"--format is {options.format!r}, but --out is {options.out}, whose suffix tells the format of the "
        "file; leave one of them out",
    )
    found = _rows(options)
    predictor = loaded(options)
    names, added = [*found.names], added_columns(predictor, options.probabilities)
    if isinstance(predictor, TextModel):
        names += [predictor.config.data.pair_column] if predictor.pair and not options.input else []
    taken = sorted({*added} & {*found.names})
    require(not taken, f"--input has the columns {taken}, which --out would add; rename them")
    check_joined(predictor)
    count = 0
    with rows_into(options.out, [*names, *added], found.schema) as write:
        rows = rows_of_texts(found, predictor, options)
        for part, prediction in predicted(predictor, rows, progress=True):
            cells = zip(part, cells_of_rows(predictor, prediction, added), strict=True)
            write([{**row, **more} for (row, _), more in cells])
            count += len(part)
    print(f"{options.out}: {count:,} rows")


def texts_in_rows(found: Rows) -> Iterator[tuple[Row, str]]:
    """Yields each row and its text; a missing text is an empty one."""
    return ((row, text_of(found, number, row)) for number, row in enumerate(found.rows))


def text_of(found: Rows, number: int, row: Row) -> str:
    """Returns the text of a row. Raises InputError where it holds something else."""
    text = found.text(row)
    if not (isinstance(text, str) or missing(text)):
        raise InputError(f"row {number} has {'.'.join(found.path)} = {text!r}, not a text")
    return text if isinstance(text, str) else ""


def rows_of_texts(
    found: Rows, predictor: TextModel | Tagger, options: argparse.Namespace
) -> Iterator[tuple[Row, Text]]:
    """Returns the rows, each with its text; for a model of pairs, with both texts.

    Texts of the command line are pairs two by two, and a line of standard input is cut at its tab.
    """
    if isinstance(predictor, Tagger) or not predictor.pair or not found.path:  # no path: there are no rows
        return texts_in_rows(found)
    pair = predictor.config.data.pair_column
    if options.input:
        name = named_column(found.names, pair, lambda: pair.split(".")[0] in found.names)
        if name is None:
            first = next(found.rows)
            raise no_column(repr(options.input), pair, {name: first.get(name) for name in found.names})
        second = found._replace(path=tuple(path_in(found.names, name)))
        return (
            (row, (text_of(found, number, row), text_of(second, number, row)))
            for number, row in enumerate(found.rows)
        )
    if options.texts:
        count = len(options.texts)
        require(count % 2 == 0, f"the model compares two texts, but there are {count}; give first and second")
        pairs: Iterator[Text] = zip(options.texts[::2], options.texts[1::2], strict=True)
    else:
        pairs = (cut_line(number, text) for number, (_, text) in enumerate(texts_in_rows(found)))
    return ((dict(zip((options.column, pair), texts, strict=True)), texts) for texts in pairs)


def cut_line(number: int, line: str) -> tuple[str, str]:
    """Returns the two texts of a line. Raises InputError where no tab is between them."""
    first, tab, second = line.partition("\t")
    require(bool(tab), f"line {number} has no tab; the model compares two texts: first, tab, second")
    return first, second


def predicted(
    predictor: TextModel | Tagger, rows: Iterator[tuple[Row, Text]], progress: bool
) -> Iterator[tuple[list[tuple[Row, Text]], Any]]:
    """Yields parts of the rows, each row with its text, and the predictions of these texts."""
    read: list[tuple[Row, Text]] = []

    def texts() -> Iterator[Text]:
        for row, text in rows:
            read.append((row, text))
            yield text

    for prediction in predictor.predict_parts(texts(), progress):
        yield list(read), prediction
        read.clear()


def print_tags(prediction: TagPrediction, texts: Sequence[str], kind: str) -> None:
    """Prints a line for each word and its tag, and an empty line after each text: CoNLL. Or JSON lines."""
    for text, words, tags, p in zip(texts, *prediction, strict=True):
        if kind == "jsonl":
            print(json.dumps({"text": text, "words": words, "tags": tags, "probabilities": p.tolist()}))
        else:
            print("".join(f"{word}\t{tag}\n" for word, tag in zip(words, tags, strict=True)))


def evaluate_tags(tagger: Tagger, options: argparse.Namespace) -> None:
    """Prints the accuracy of words, and the results of each tag and kind of span, on tagged sentences."""
    own = tagger.config.data
    words = own.word_column if options.column is None else options.column
    tags = own.tag_column if options.label_column is None else options.label_column
    parts = read_tagged(options.data, words, tags, _reading(options)).splits
    split = options.split or ("test" if "test" in parts else next(iter(parts)))
    require(split in parts, f"--split is {split!r}; {options.data} has {', '.join(parts)}")
    results = tagger.evaluate(parts[split])
    if options.format == "jsonl":
        print(json.dumps({"split": split, **results}))
        return
    print("{}: {words:,} words  accuracy {accuracy:.2%}  loss {loss:.4f}".format(split, **results))
    for kind in ("tags", "spans"):
        rows = [
            (
                one_line(name),
                *(f"{row[key]:.2%}" for key in ("precision", "recall", "f1")),
                f"{row['support']:,}",
            )
            for name, row in results.get(kind, {}).items()
        ]
        if rows:
            print_table([kind, "precision", "recall", "F1", "support"], rows)


def evaluate(options: argparse.Namespace) -> None:
    """Prints accuracy, loss and confusion counts on labelled data."""
    predictor = loaded(options)
    if isinstance(predictor, Tagger):
        evaluate_tags(predictor, options)
        return
    reading = _reading(options)
    parts = read_source(options.data, reading)
    default = "test" if "test" in parts else next(iter(parts))
    split = options.split or default
    require(split in parts, f"--split is {split!r}; {options.data} has {', '.join(parts)}")
    texts = texts_of(parts[split], reading.text_column, split, reading.say)
    label_column = LABEL if options.label_column is None else options.label_column
    values = column_of(parts[split], label_column, split, reading.say)
    require(len(texts) > 0, f"split {split!r} of {options.data} holds no rows to evaluate on")
    if predictor.pair:
        second = texts_of(parts[split], predictor.config.data.pair_column, split, reading.say)
        metrics = predictor.evaluate(paired(texts, second), _labels(predictor, values))
    else:
        metrics = predictor.evaluate(texts, _labels(predictor, values))
    print_evaluation(predictor, metrics, split, options.format)


def _labels(predictor: TextModel, values: Sequence[object]) -> Sequence[object] | np.ndarray:
    return predictor.label_positions(values) if predictor.head.target == CLASS else values


def print_evaluation(predictor: TextModel, found: Evaluation, split: str, kind: str) -> None:
    """Prints the measures of a split, the confusion counts of a classifier, and the scores."""
    summary, classes = found.summary(), predictor.head.target == CLASS
    confusion = found.confusion.astype(int).tolist() if classes else []
    if kind == "jsonl":
        counts = {"confusion_matrix": confusion} if classes else {}
        print(json.dumps({"split": split, **summary, **counts, "scores": found.scores}))
        return
    print(f"{split}: {MEASURES[predictor.head.target].format(**summary)}")
    names = [one_line(name) for name in predictor.label_names]
    rows = [(name, *(f"{count:,}" for count in row)) for name, row in zip(names, confusion, strict=classes)]
    if classes:
        print_table(["label \\ predicted", *names], rows)
    print(table(found.scores))


MEASURES = {  # the line of an evaluation, by data.target
    CLASS: "{examples:,} texts  accuracy {accuracy:.2%}  loss {loss:.4f}",
    LABELS: "{examples:,} texts  micro F1 {micro_f1:.2%}  all labels right {subset_accuracy:.2%}  "
    "loss {loss:.4f}",
    NUMBER: "{examples:,} texts  RMSE {rmse:.4g}  R2 {r2:.3f}  loss {loss:.4f}",
}


def export(options: argparse.Namespace) -> None:
    """Writes a classifier or tagger into one file that JAX runs without this library."""
    model = load(options.workdir, options.which, options.fallback)
    if isinstance(model, Tagger):
        export_tagger(model, options.out)
    else:
        export_classifier(model, options.out)
    size, step = options.out.stat().st_size, model.step
    print(f"{options.out}: step {step}, {size:,} bytes, for {', '.join(PLATFORMS)}; docs/export.md uses it")


def vectors(options: argparse.Namespace) -> None:
    """Trains word vectors on the texts of a source, held-out splits left out, and writes a text file."""
    settings = {name: getattr(options, name) for name in VECTOR_SETTINGS}
    check_vector_settings(**settings)  # before the long work, as what follows
    check_output(options.out)
    load_gensim()
    start = time.perf_counter()
    texts = read_texts(options.data, options.column, _reading(options))
    kind = tokenizer_kind("auto", texts)
    sentences = Tokenizer.train(texts, EVERY_WORD, lowercase=True, strip_html=True, kind=kind).words_of(texts)
    words, table = train_vectors(sentences, **settings)
    write_vectors(options.out, words, table)
    seconds = time.perf_counter() - start
    print(f"{options.out}: {len(words):,} words, {table.shape[1]} dimensions, {seconds:.0f} seconds")


def sample(options: argparse.Namespace) -> None:
    """Prints a prompt and how a language model goes on with it."""
    writer = load_language_model(options.workdir, options.which, options.fallback)
    settings = {name: getattr(options, name) for name in SAMPLE_SETTINGS}
    if settings["top_k"] == SAMPLE_SETTINGS["top_k"][0]:  # where fewer words are known, as of characters, all
        settings["top_k"] = min(settings["top_k"], writer.tokenizer.vocab_size - 1)
    print(writer.write(options.prompt, **settings))


def serve(options: argparse.Namespace) -> None:
    """Answers requests over HTTP, and shows a page to try a classifier."""
    from rnn_jax.serving import Limits, serve_model

    # A text alone is answered sooner by the thread that has it than by another, which has to wake up first.
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    limits = Limits(**{name: getattr(options, name) for name in SERVE_SETTINGS}).check()
    predictor = load_classifier(options.workdir, options.which, options.fallback)
    serve_model(predictor, options.host, options.port, limits)


def push(options: argparse.Namespace) -> None:
    """Puts a trained model on the Hugging Face hub."""
    folder = local_folder(options.workdir)
    about = About(options.license, options.language, options.dataset).check()
    loader: Any = load_language_model if settings_of_run(folder).task == LANGUAGE else load
    model = loader(folder, options.which, options.fallback)
    print(f"{push_model(model, options.repository, about, options.private)} is step {model.step}")


def _rows(options: argparse.Namespace) -> Rows:
    """Returns the rows of --input; texts of the command line or standard input are rows of one column."""
    require(not (options.texts and options.input), "give texts or --input, not both")
    if options.input:
        try:
            return stream_rows(options.input, _reading(options))
        except EmptySourceError as error:
            return Rows(error.names, iter([]), error.schema)
    for option in ("delimiter", "encoding"):
        require(
            not getattr(options, option),
            f"--{option} is given without --input; texts of the command line are taken as they are, and "
            "standard input is UTF-8 unless PYTHONIOENCODING names another encoding",
        )
    lines = options.texts or _standard_input()
    return Rows([options.column], ({options.column: text} for text in lines), path=(options.column,))


def _reading(options: argparse.Namespace) -> Reading:
    return Reading(
        TEXT if options.column is None else options.column,
        options.delimiter,
        options.encoding,
        say=lambda line: print(f"rnn-jax: {line}", file=sys.stderr),
    )


def _standard_input() -> Iterator[str]:
    require(sys.stdin is not None, "standard input is closed; give texts or --input")
    try:
        for number, line in enumerate(sys.stdin):
            yield (line if number else line.removeprefix("\ufeff")).rstrip("\n")
    except UnicodeDecodeError as error:
        raise InputError(f"standard input is not {error.encoding}: {error}") from error


def report(options: argparse.Namespace) -> None:
    """Writes report.html, a page about a finished classifier that needs no network, into its folder."""
    from rnn_jax.report import write_html

    print(write_html(options.workdir))
