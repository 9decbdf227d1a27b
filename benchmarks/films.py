"""IMDB's training split, cut so that validation has other films than training.

Run `python -m benchmarks.films [--source FOLDER]` in the folder where the files shall lie. It writes
by_film/, whose validation split is the last two fifths of each class of the source's training split;
train_and_unlabelled/, the texts of by_film's training split and the unlabelled ones, for vocabularies,
vectors and language models; and unlabelled.csv. No text of validation is in another file. The test split is
not read.
"""

import argparse
from pathlib import Path

import datasets
import numpy as np

from rnn_jax.data.sources import read_source
from rnn_jax.data.splits import fold

SHARE = 0.4  # of each class, to choose on


def apart(data, count):
    """Returns the rows but for the last `count`, and those: half of each class, in the source's order.

    Reviews lie film by film, so the last ones are of films that the others do not have. A text that stands in
    both stays in the last rows alone.
    """
    labels = np.asarray(data["label"])
    last = np.concatenate([np.flatnonzero(labels == label)[-(count // 2) :] for label in (0, 1)])
    return without(data, data.select(last)), data.select(last)


def without(data, others):
    """Returns the rows whose text is not one of others, whatever the case and the spaces."""
    known = {fold(text) for text in others["text"]}
    return data.select([row for row, text in enumerate(data["text"]) if fold(text) not in known])


def main():
    """Writes the files; those that exist are replaced."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", default="stanfordnlp/imdb")
    source = read_source(parser.parse_args().source)
    labelled = source["train"].select_columns(["text", "label"])
    train, validation = apart(labelled, int(SHARE * len(labelled)))
    unlabelled = without(source["unsupervised"].select_columns(["text"]), validation)
    texts = datasets.concatenate_datasets([train.select_columns(["text"]), unlabelled])
    files = {
        "by_film/train.csv": train,
        "by_film/validation.csv": validation,
        "train_and_unlabelled/train.csv": texts,
        "unlabelled.csv": unlabelled,
    }
    for path, rows in files.items():
        Path(path).parent.mkdir(exist_ok=True)
        rows.to_csv(path)
        print(f"{path}: {len(rows):,} texts")


if __name__ == "__main__":
    main()
