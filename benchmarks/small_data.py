"""Which recipe for how many labels? Accuracy at 100 to 20,000 labelled reviews, and docs/small_data.md.

Run `python -m benchmarks.small_data [--source FOLDER]`; needs the extras `reviews` and `vectors`. A source's
test split is not read: the last 2,500 rows of each class of its training split are to report, the others are
labelled or, for word vectors, read without their labels. Methods that need unlabelled texts are left out if
the source has no split of them. What finished runs measured is kept in docs/small_data.json: it can be
stopped and started.
"""

import argparse
import itertools
import shutil
import time
from pathlib import Path
from typing import NamedTuple

import datasets
import jax
import numpy as np

from benchmarks.films import apart
from benchmarks.naive_bayes import PENALTY
from benchmarks.naive_bayes import measure as measure_naive_bayes
from benchmarks.records import Records, recipe, summary
from benchmarks.small_data_page import METHODS, NAIVE_BAYES, write
from rnn_jax.data.sources import IN_MEMORY, MOVIE_REVIEWS, read_source
from rnn_jax.data.tokenizer import Tokenizer
from rnn_jax.data.vocabularies import SPECIAL_WORDS, UNK
from rnn_jax.distributed.host import restart
from rnn_jax.errors import choose, require
from rnn_jax.files import cached
from rnn_jax.training.automatic import method_settings
from rnn_jax.training.loop import train_and_evaluate
from rnn_jax.vectors.word2vec import train_vectors

RUNS, DOCS = Path("runs", "small_data"), Path("docs")
REPORTED = 5_000  # rows of the training split that no method trains on, and nothing is chosen on
WORDS, WIDTH = 30_000, 128  # of the vectors of the unlabelled texts
VECTORS, VOCABULARY = RUNS / "vectors.npz", RUNS / "words.parquet"
SIZES, SEEDS = (100, 500, 2_000, 20_000), (0, 1, 2)
TUNED, TUNING = (500,), 9  # where pooling and C are chosen, and the seed of the rows for it
NEED_UNLABELLED = ("word2vec", "evidence", "strong")
TRIED = ("plain", "GloVe", "word2vec", "strong")  # learned vectors, frozen ones, and with an adversary
POOLINGS = {"plain": "last", "GloVe": "concat", "word2vec": "concat", "strong": "concat"}  # of the recipes
PENALTIES = {"C 0.01": 0.01, "C 0.1": 0.1, "C 1": 1.0}


class Rows(NamedTuple):
    """The rows of the source: texts and labels to draw from, those to report, and unlabelled texts."""

    pool: datasets.Dataset
    reported: datasets.Dataset
    unlabelled: list[str]


def read_rows(source):
    """Returns the rows of a source's training split and its unlabelled texts."""
    splits = {name: data for name, data in read_source(source).items() if name not in ("validation", "test")}
    train = splits.pop("train").select_columns(["text", "label"])
    require(len(train) > 2 * REPORTED, f"{source!r} has {len(train):,} rows; give more than {2 * REPORTED:,}")
    pool, reported = apart(train, REPORTED)
    return Rows(pool, reported, [text for data in splits.values() for text in data["text"]])


def drawn(pool, labels, seed):
    """Returns `labels` rows of the pool, as many of each class; all rows, where there are not more.

    They stay in the pool's order, so that the folds of evidence are of different films.
    """
    if labels >= len(pool):
        return pool
    order = np.random.default_rng(seed).permutation(len(pool))
    classes = np.asarray(pool["label"])[order]
    halves = [order[classes == label][: labels // 2] for label in (0, 1)]
    return pool.select(np.sort(np.concatenate(halves)))


def keep_vectors(rows):
    """Writes word2vec of the unlabelled texts, those of the pool among them, and its words as one text."""
    texts = [*rows.pool["text"], *rows.unlabelled]

    def train():
        tokenizer = Tokenizer.train(texts, WORDS, True, True, "words")
        settings = {"dim": WIDTH, "window": 5, "epochs": 8, "min_count": 1, "seed": 0}
        words, vectors = train_vectors(tokenizer.words_of(texts), **settings)
        return {"words": np.array(words), "vectors": vectors}

    found = cached(VECTORS, train, dict, lambda arrays: {name: arrays[name] for name in ("words", "vectors")})
    words = [word for word in found["words"] if word != SPECIAL_WORDS[UNK]]
    datasets.Dataset.from_dict({"text": [" ".join(words)]}).to_parquet(VOCABULARY)


def settings(method, labels, choice=""):
    """Returns the config of one run: what `recipe="auto"` takes for a method, or with another pooling."""
    config = method_settings("labelled vectors" if method == "GloVe" else method, labels)
    config.data.source, config.data.test_share, config.devices = IN_MEMORY, 0.0, 1
    if method in NEED_UNLABELLED:  # the vectors are made once
        config.embedding.vectors, config.text.vocabulary_source = str(VECTORS), str(VOCABULARY)
    elif method == "GloVe":  # as imdb_t2, but narrower
        config.embedding.vectors, config.embedding.epochs, config.embedding.scale = "glove-6b-50d", 8, 0.0
        config.model.embedding_dim = 50
        config.model.word_dropout, config.train.adversarial = 0.05, 1.0
    config.text.fill_vocabulary = True  # so that all seeds have one program
    if choice:
        config.model.pooling = POOLINGS[method] if choice == "own pooling" else choice
    return config


def run(config, labelled, measured, seed, name):
    """Returns what one run measured on the rows `measured`, and the processor's seconds."""
    config.seed = config.data.split_seed = seed
    workdir = RUNS / name.replace(" ", "_").replace(",", "")
    shutil.rmtree(workdir, ignore_errors=True)
    began = time.process_time()
    results = train_and_evaluate(config, workdir, {"train": labelled, "test": measured})
    shutil.rmtree(workdir)
    return summary(results) | {"cpu": round(time.process_time() - began, 1)}


def measure(records, rows, method, labels, seed, choice=""):
    """Measures one case, where there is no record of it; a choice on the last rows of the pool."""
    name, ngrams = key(method, labels, seed, choice), method == NAIVE_BAYES
    config = {"penalty": PENALTIES.get(choice, PENALTY)} if ngrams else settings(method, labels, choice)

    def numbers():
        pool, measured = apart(rows.pool, REPORTED) if choice else (rows.pool, rows.reported)
        labelled = drawn(pool, labels, seed)
        if ngrams:
            pairs = [(list(part["text"]), part["label"]) for part in (labelled, measured)]
            return measure_naive_bayes(*pairs, **config)
        return run(config, labelled, measured, seed, name)

    records.measure(name, config if ngrams else recipe(config), numbers)


def key(method, labels, seed, choice=""):
    """Returns the name of a record."""
    return f"{method} {labels}{choice and ': '}{choice}-{seed}"


def choices_of(method):
    """Returns what is tried for a method, if anything."""
    return PENALTIES if method == NAIVE_BAYES else ("own pooling", "mean") if method in TRIED else ()


def tried(records, method, labels):
    """Returns the accuracy of each choice that was tried, on rows that are not reported."""
    lines = {name: records.lines.get(key(method, labels, TUNING, name)) for name in choices_of(method)}
    return {name: line["accuracy"] for name, line in lines.items() if line}


def reported(records):
    """Returns the records to report, a list for each (method, labels)."""
    return {
        case: [line for seed in SEEDS if (line := records.lines.get(key(*case, seed)))]
        for case in itertools.product(METHODS, SIZES)
    }


def write_page(records):
    """Writes the page of all that is measured."""
    found = reported(records)
    write(found, {case: tried(records, *case) for case in found}, SIZES, TUNED)


def main():
    """Measures what is missing, a seed at a time, and writes the page now and then."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", default=MOVIE_REVIEWS)
    parser.add_argument("--methods", default="; ".join(METHODS), help="with a semicolon between them")
    parser.add_argument("--labels", default=",".join(map(str, SIZES)), help="comma-separated")
    parser.add_argument("--seeds", default=",".join(map(str, SEEDS)), help="comma-separated")
    options = parser.parse_args()
    restart(1, 32)
    RUNS.mkdir(parents=True, exist_ok=True)
    jax.config.update("jax_compilation_cache_dir", str(RUNS / "compiled"))  # runs share programs
    rows, records = read_rows(options.source), Records(DOCS / "small_data.json")
    methods = [
        choose("--methods", name.strip(), {name: name for name in METHODS})
        for name in options.methods.split(";")
    ]
    if rows.unlabelled:
        keep_vectors(rows)
    elif left_out := [name for name in methods if name in NEED_UNLABELLED]:
        print(f"{options.source} has no unlabelled texts, which these need: {'; '.join(left_out)}. Left out")
        methods = [name for name in methods if name not in left_out]
    sizes, seeds = ([int(number) for number in part.split(",")] for part in (options.labels, options.seeds))
    for labels, method in itertools.product(TUNED, methods):
        for choice in choices_of(method):
            measure(records, rows, method, labels, TUNING, choice)
    for seed, labels in itertools.product(seeds, sizes):
        for method in methods:
            measure(records, rows, method, labels, seed)
        write_page(records)


if __name__ == "__main__":
    main()
