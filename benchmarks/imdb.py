"""The recipes of configs/imdb_t*.py on the official IMDB split, whole programs, and docs/imdb.md from them.

Run `python -m benchmarks.imdb`; needs the extra `vectors`, and the hub or `--source FOLDER` with the splits
train, test and unsupervised. Each run is a process of its own with an empty cache, timed from outside: from
raw text to the tested model. What finished runs measured is kept in docs/imdb.json: it can be stopped and
started. No two runs of it at once.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import rnn_jax
from benchmarks import naive_bayes
from benchmarks.records import Records, cores_of, recipe, summary
from benchmarks.report import machine, replace_section
from benchmarks.results import spread
from rnn_jax.data.sources import ROTTEN_TOMATOES, read_source

RECIPES = {
    "imdb_t0": "at most 10 minutes",
    "imdb_t1": "the 25,000 labelled reviews alone",
    "imdb_t2": "frozen GloVe, 50 numbers a word",
    "imdb_t3": "frozen word2vec of the 75,000 texts",
    "imdb_t4": "two language models, and soft labels of the 50,000 unlabelled reviews",
}
BASELINE, N_GRAMS = "nb_svm", {"orders": list(naive_bayes.ORDERS), "penalty": naive_bayes.PENALTY}
PUBLISHED = {  # what papers say of the 25,000 test reviews, in %
    "NB-SVM of bigrams (Wang and Manning 2012)": 91.2,
    "LSTM that begins as a language model (Dai and Le 2015)": 92.8,
    "LSTMs of regions, with embeddings from unlabelled text (Johnson and Zhang 2016)": 94.1,
    "LSTM that begins as a language model, adversary (Miyato et al. 2017)": 93.8,
    "LSTM that begins as a language model, virtual adversary (Miyato et al. 2017)": 94.1,
    "ULMFiT: a language model of three LSTMs, in both directions (Howard and Ruder 2018) [1]": 95.4,
}
RUNS, PAGE, RECORDS = Path("runs", "imdb"), Path("docs", "imdb.md"), Path("docs", "imdb.json")
SECONDS = "seconds.json"  # in the folder of a run, when its program has ended
HEADER = """Make this table again: `python -m benchmarks.imdb`; a part of it: `--recipes imdb_t0 --seeds 0`.
{machine}.

| recipe | seeds | test, % | validation, % | sentences, % | parameters trained | seconds | cores |
|---|---|---|---|---|---|---|---|
"""


def settings(name):
    """Returns in what a recipe differs from configs/lstm.py, but for the seed and where its texts lie."""
    config = rnn_jax.recipe(name)
    return recipe(config, ("seed", "data.source", "text.vocabulary_source", "data.soft_labels"))


def run(name, seed, source):
    """Returns what one run measured, and the seconds of its program and of those that must run before."""
    key, changes, before = f"{name}-{seed}", {"seed": seed, "data.source": source}, 0.0
    if name in ("imdb_t0", "imdb_t3"):
        changes["text.vocabulary_source"] = source
    if name == "imdb_t4":
        below, before = prepare(seed, source)
        changes |= below
    found = measured(name, key, changes)
    return found | {"wall": round(before + found["wall"], 1), "sentences": on_sentences(RUNS / key)}


def measured(name, key, changes):
    """Returns what a run of a config with changed settings measured, in runs/imdb/KEY, and its seconds."""
    line = run_program(name, key, changes)
    return summary(json.loads((RUNS / key / "results.json").read_text())) | {"wall": line["wall"]}


def prepare(seed, source):
    """Trains what imdb_t4 needs: returns the settings that say where it lies, and the seconds of it all.

    The vectors of imdb_t0, two language models on them, a teacher on these that has no soft labels, and what
    it says of the unlabelled reviews.
    """
    common = {"seed": seed, "data.source": source}
    vectors, teacher = f"imdb_t0-{seed}", f"imdb_teacher-{seed}"
    steps = [step("imdb_t0", vectors, common | {"text.vocabulary_source": source})]
    common["embedding.from_workdir"], take = RUNS / vectors, ["embedding"]
    for direction in ("forward", "backward"):
        key = f"imdb_lm_{direction}-{seed}"
        steps.append(step("imdb_lm", key, common | {"direction": direction}))
        take.append(("encoder", f"contextual/{direction}_rnn", str(RUNS / key)))
    common |= {"embedding.take": tuple(take), "text.vocabulary_source": source}
    steps.append(step("imdb_t4", teacher, common | {"data.soft_labels": ""}))
    soft_labels, seconds = labelled_by(RUNS / teacher, seed, source)
    return common | {"data.soft_labels": soft_labels}, seconds + sum(line["wall"] for line in steps)


def labelled_by(teacher, seed, source):
    """Writes what a teacher says of the unlabelled reviews; returns the file, and the seconds."""
    began, out, unlabelled = time.perf_counter(), RUNS / f"soft-{seed}.parquet", RUNS / "unlabelled.parquet"
    read_source(source)["unsupervised"].select_columns(["text"]).to_parquet(unlabelled)
    command = [sys.executable, "-m", "rnn_jax.cli", "predict", "--probabilities", f"--input={unlabelled}"]
    subprocess.run([*command, f"--out={out}", f"--workdir={teacher}"], check=True)
    return out, time.perf_counter() - began


def step(name, key, changes):
    """Returns the seconds of a program that another one needs; it runs if it did not yet."""
    ended = Records(RUNS / key / SECONDS)
    return ended.lines[key] if ended.has(key, settings(name)) else run_program(name, key, changes)


def run_program(name, key, changes):
    """Trains a config with changed settings in runs/imdb/KEY; returns the record of its seconds."""
    workdir, cache = RUNS / key, RUNS / f"cache-{key}"
    for left in (workdir, cache):  # by an interrupted one, which would not be timed whole
        shutil.rmtree(left, ignore_errors=True)
    command = [sys.executable, "train_loop.py", f"--config=configs/{name}.py", f"--workdir={workdir}"]
    command += [f"--config.{setting}={value}" for setting, value in changes.items()]

    def seconds():
        began = time.perf_counter()
        subprocess.run(command, check=True, env=os.environ | {"RNN_JAX_CACHE": str(cache)})
        return {"wall": round(time.perf_counter() - began, 1)}

    return Records(workdir / SECONDS).measure(key, settings(name), seconds)


def on_sentences(workdir):
    """Returns the accuracy on the Rotten Tomatoes sentences, which are of another kind than the reviews."""
    rows = read_source(ROTTEN_TOMATOES)["train"]
    return rnn_jax.load(workdir).evaluate(rows["text"], rows["label"]).summary()["accuracy"]


def row(name, runs):
    """Returns the table's line of one recipe."""
    others = [run["sentences"] for run in runs if "sentences" in run]
    on_others = spread(others) if others else "-"
    return (
        f"| `{name}`: {RECIPES[name]} | {len(runs)} | **{spread([run['accuracy'] for run in runs])}** "
        f"| {spread([run['validation'] for run in runs])} | {on_others} | {runs[0]['trained_parameters']:,} "
        f"| {statistics.mean(run['wall'] for run in runs):,.0f} | {cores_of(runs)} |\n"
    )


def table(records):
    """Returns the table of all that is measured."""
    lines = []
    for name in RECIPES:
        runs = records.of(name, settings(name))
        lines += [row(name, runs)] if runs else []
    return (HEADER.format(machine=machine()) + "".join(lines)).rstrip()


def n_grams(source):
    """Returns what NB-SVM, the baseline without a network, measures: all of train to fit, test to test."""
    parts = read_source(source)
    rows = [(parts[name]["text"][:], parts[name]["label"][:]) for name in ("train", "test")]
    return naive_bayes.measure(*rows)


def ladder(records):
    """Returns the table of our recipes beside NB-SVM and what papers say, from the least to the best."""
    found = dict(PUBLISHED)
    for name, what in RECIPES.items():
        runs = records.of(name, settings(name))
        if runs:
            accuracy = 100 * statistics.mean(run["accuracy"] for run in runs)
            found[f"**`{name}`: {what}**"] = round(accuracy, 1)
    for line in records.of(BASELINE, N_GRAMS):
        found["**NB-SVM of words to trigrams, scikit-learn, run here**"] = round(100 * line["accuracy"], 1)
    lines = [f"| {name} | {value:.1f} |" for name, value in sorted(found.items(), key=lambda row: row[1])]
    return "\n".join(["| method | test, % |", "|---|---|", *lines])


def main():
    """Measures what is missing, a seed at a time, and writes the tables after each run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", default="stanfordnlp/imdb")
    every = ",".join([*RECIPES, BASELINE])
    parser.add_argument("--recipes", default=every, help=f"comma-separated (default: {every})")
    parser.add_argument("--seeds", default="0,1,2", help="comma-separated")
    options = parser.parse_args()
    RUNS.mkdir(parents=True, exist_ok=True)
    records, seeds = Records(RECORDS), [int(seed) for seed in options.seeds.split(",")]
    for seed in seeds:
        for name in options.recipes.split(","):
            if name != BASELINE:
                records.measure(f"{name}-{seed}", settings(name), partial(run, name, seed, options.source))
            elif seed == 0:  # it draws nothing
                records.measure(f"{name}-0", N_GRAMS, partial(n_grams, options.source))
            page = replace_section(PAGE.read_text(), "recipes", table(records))
            PAGE.write_text(replace_section(page, "ladder", ladder(records)))


if __name__ == "__main__":
    main()
