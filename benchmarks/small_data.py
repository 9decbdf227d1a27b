"""Which recipe for how many labels? Accuracy at 100, 500, 2,000 and 20,000 labelled reviews, and docs/small_data.md.

Run `python -m benchmarks.small_data [--source FOLDER]`; needs the extras `reviews` and `vectors`. A source's
test split is not read: 5,000 rows of its training split are to report, the others are labelled or, for word
vectors, read without their labels. Methods that need unlabelled texts are left out where the source has no
split of them. What finished runs measured is kept in docs/small_data.json: it can be stopped and started.
"""

import argparse
import itertools
import shutil
import time
from functools import partial
from pathlib import Path
from typing import NamedTuple

import datasets
import jax
import numpy as np

from benchmarks.naive_bayes import measure as measure_naive_bayes
from benchmarks.records import Records, recipe, summary
from benchmarks.small_data_page import write
from rnn_jax.data.sources import IN_MEMORY, MOVIE_REVIEWS, read_source
from rnn_jax.data.splits import fold
from rnn_jax.data.tokenizer import Tokenizer
from rnn_jax.distributed.host import restart
from rnn_jax.errors import require
from rnn_jax.files import cached
from rnn_jax.settings import recipe as recipe_of
from rnn_jax.training.loop import train_and_evaluate
from rnn_jax.vectors.word2vec import train_vectors

RUNS, DOCS = Path("runs", "small_data"), Path("docs")
REPORTED = 5_000  # rows of the training split that no method trains on, and nothing is chosen on
WORDS, WIDTH = 30_000, 128  # of the vectors of the unlabelled texts
VECTORS, UNLABELLED = RUNS / "vectors.npz", RUNS / "unlabelled.parquet"
SIZES, SEEDS, TUNING = (100, 500, 2_000, 20_000), (0, 1, 2), 9  # the seed of the rows that settings are chosen on
TUNED = (100, 500, 2_000)
NAIVE_BAYES = "NB-SVM"
METHODS = {
    "plain": "a learned embedding (`bilstm`)",
    "labelled vectors": "frozen word2vec of the labelled texts",
    "labelled vectors, evidence": "the same, and evidence",
    "GloVe": "frozen GloVe of 50 numbers",
    "word2vec": "frozen word2vec of the unlabelled texts",
    "evidence": "the same, and evidence (`imdb_evidence`)",
    "strong": "the same, a wider network and an adversary (`imdb_t0` with evidence)",
    NAIVE_BAYES: "n-grams, scikit-learn",
}
# Rows of a batch and epochs, by the number of labels; C of the n-grams' classifier.
CHOICES = {
    "short": {100: (16, 20), 500: (16, 10), 2_000: (32, 6)},
    "long": {100: (16, 60), 500: (16, 30), 2_000: (32, 15)},
}
PENALTIES = {"C 0.01": 0.01, "C 0.1": 0.1, "C 1": 1.0}
NEED_UNLABELLED = ("word2vec", "evidence", "strong")


class Rows(NamedTuple):
    """The rows of the source: texts and labels to draw from, those to report, and unlabelled texts."""

    pool: datasets.Dataset
    reported: datasets.Dataset
    unlabelled: list[str]


def read_rows(source):
    """Returns the rows of a source's training split, in one order, and its unlabelled texts."""
    splits = {name: data for name, data in read_source(source).items() if name not in ("validation", "test")}
    train = splits.pop("train").select_columns(["text", "label"]).shuffle(seed=0)
    require(len(train) > 2 * REPORTED, f"{source!r} has {len(train):,} rows; give more than {2 * REPORTED:,}")
    reported = train.select(range(REPORTED))
    known = set(map(fold, reported["text"]))
    pool = train.select(range(REPORTED, len(train)))
    pool = pool.select([row for row, text in enumerate(pool["text"]) if fold(text) not in known])
    return Rows(pool, reported, [text for data in splits.values() for text in data["text"]])


def drawn(pool, labels, seed):
    """Returns `labels` rows of the pool, as many of each class, and the rows that are left."""
    order = np.random.default_rng(seed).permutation(len(pool))
    if labels >= len(pool):
        return pool.select(order), pool.select([])
    classes = np.asarray(pool["label"])[order]
    halves = [order[classes == label][: labels // 2] for label in (0, 1)]
    chosen = np.concatenate(halves)
    return pool.select(chosen), pool.select(order[~np.isin(order, chosen)])


def keep_unlabelled(rows):
    """Writes the texts that vectors are trained on, those of the pool among them, and their vectors."""
    texts = [*rows.pool["text"], *rows.unlabelled]
    datasets.Dataset.from_dict({"text": texts}).to_parquet(UNLABELLED)

    def train():
        tokenizer = Tokenizer.train(texts, WORDS, True, True, "words")
        settings = {"dim": WIDTH, "window": 5, "epochs": 8, "min_count": 1, "seed": 0}
        words, vectors = train_vectors(tokenizer.words_of(texts), **settings)
        return {"words": np.array(words), "vectors": vectors}

    cached(VECTORS, train, lambda arrays: arrays, lambda arrays: arrays)


def settings(method, labels, choice):
    """Returns the config of one run: a recipe, and what the number of labels asks for."""
    config = recipe_of({"plain": "bilstm", "strong": "imdb_t0"}.get(method, "imdb_evidence"))
    config.data.source, config.data.test_share, config.devices = IN_MEMORY, 0.0, 1
    if method != "plain":
        config.model.embedding_dim = WIDTH
        config.embedding.evidence.orders = (1, 2, 3) if "evidence" in method or method == "strong" else ()
    if method in NEED_UNLABELLED:
        config.embedding.vectors, config.text.vocabulary_source = str(VECTORS), str(UNLABELLED)
    elif method != "plain":
        config.text.vocabulary_source, config.embedding.epochs = "", 15
    if method == "GloVe":
        config.embedding.vectors, config.model.embedding_dim = "glove-6b-50d", 50
        config.model.word_dropout, config.train.adversarial = 0.05, 1.0
    config.text.fill_vocabulary = True  # so that all seeds have one program
    if labels < max(SIZES):
        config.batch.size, config.train.epochs = CHOICES[choice][labels]
        config.batch.buckets = 1
    config.train.evaluate_every = config.train.epochs  # the last epoch is used: no row chooses one
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
    """Measures one case, where there is no record of it; a choice is measured on rows of the pool."""
    name = key(method, labels, seed, choice)
    labelled, left = drawn(rows.pool, labels, seed)
    measured = left.select(range(REPORTED)) if seed == TUNING else rows.reported
    chosen = choice or chosen_of(records, method, labels)
    if method == NAIVE_BAYES:
        penalty = {"penalty": PENALTIES[chosen]}
        pairs = [(list(part["text"]), part["label"]) for part in (labelled, measured)]
        records.measure(name, penalty, partial(measure_naive_bayes, *pairs, **penalty))
        return
    config = settings(method, labels, chosen)
    records.measure(name, recipe(config), partial(run, config, labelled, measured, seed, name))


def key(method, labels, seed, choice=""):
    """Returns the name of a record."""
    return f"{method} {labels}{choice and ' '}{choice}-{seed}"


def choices_of(method):
    """Returns the names of what is tried for a method."""
    return PENALTIES if method == NAIVE_BAYES else CHOICES


def chosen_of(records, method, labels):
    """Returns the choice of most accuracy on rows that are not reported; the largest size has that before."""
    labels = min(labels, max(TUNED))
    found = {name: records.lines.get(key(method, labels, TUNING, name)) for name in choices_of(method)}
    measured = {name: line["accuracy"] for name, line in found.items() if line}
    require(bool(measured), f"nothing is chosen for {method} at {labels} labels; run without --methods first")
    return max(measured, key=measured.get)


def main():
    """Measures what is missing, small sizes first, and writes the page after each run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", default=MOVIE_REVIEWS)
    parser.add_argument("--methods", default=",".join(METHODS), help="comma-separated")
    parser.add_argument("--labels", default=",".join(map(str, SIZES)), help="comma-separated")
    parser.add_argument("--seeds", default=",".join(map(str, SEEDS)), help="comma-separated")
    options = parser.parse_args()
    restart(1, 32)
    RUNS.mkdir(parents=True, exist_ok=True)
    jax.config.update("jax_compilation_cache_dir", str(RUNS / "compiled"))  # runs share programs
    rows, records = read_rows(options.source), Records(DOCS / "small_data.json")
    methods = [name for name in options.methods.split(",") if rows.unlabelled or name not in NEED_UNLABELLED]
    if rows.unlabelled:
        keep_unlabelled(rows)
    elif left_out := set(options.methods.split(",")) - set(methods):
        print(f"{options.source} has no unlabelled texts, which {', '.join(sorted(left_out))} need: left out")
    for labels in map(int, options.labels.split(",")):
        for method in methods:
            for choice in choices_of(method) if labels in TUNED else ():
                measure(records, rows, method, labels, TUNING, choice)
    for labels, seed in itertools.product(*(map(int, part.split(",")) for part in (options.labels, options.seeds))):
        for method in methods:
            measure(records, rows, method, labels, seed)
            write(records)


if __name__ == "__main__":
    main()
