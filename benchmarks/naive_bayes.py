"""NB-SVM: a linear classifier of naive Bayes' log-count ratios, the n-gram baseline of the accuracy pages.

Run `python -m benchmarks.naive_bayes --source FOLDER`: it prints the accuracy on the tenth of the training
split on which the recipes of configs/imdb_t*.py choose their epoch. Wang and Manning (2012), Baselines and
Bigrams; the counts and the classifier are scikit-learn's. No network of ours is in it.
"""

import argparse
import time

import numpy as np
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.svm import LinearSVC

from rnn_jax.data.splits import load_corpus

ORDERS = (1, 3)  # from words to trigrams
WORDS = r"\w+|[^\w\s]"  # signs count as words
SMOOTHING = 1.0
PENALTY = 0.01  # C, chosen by benchmarks/small_data.py on rows that no page reports
LEAST = 1  # texts that have an n-gram


class NaiveBayesSVM:
    """Fits on texts and labels 0 and 1, and predicts labels of other texts."""

    def __init__(self, penalty=PENALTY, least=LEAST):
        self.counter = CountVectorizer(
            ngram_range=ORDERS, binary=True, min_df=least, token_pattern=WORDS, preprocessor=_plain
        )
        self.classifier = LinearSVC(C=penalty)

    def fit(self, texts, labels):
        """Returns itself, with the ratios r = log(p / |p|) - log(q / |q|) of the n-grams of these texts."""
        present, labels = self.counter.fit_transform(texts), np.asarray(labels)
        p, q = (SMOOTHING + np.asarray(present[labels == label].sum(axis=0)).ravel() for label in (1, 0))
        self.ratios = np.log(p / p.sum()) - np.log(q / q.sum())
        self.classifier.fit(present.multiply(self.ratios).tocsr(), labels)
        return self

    def predict(self, texts):
        """Returns the label of each text."""
        return self.classifier.predict(self.counter.transform(texts).multiply(self.ratios).tocsr())


def _plain(text):
    return text.replace("<br />", " ").lower()


def measure(train, test, **settings):
    """Returns the accuracy on `test`, (texts, labels), after fitting on `train`; processor seconds."""
    began = time.process_time()
    model = NaiveBayesSVM(**settings).fit(*train)
    accuracy = float(np.mean(model.predict(test[0]) == np.asarray(test[1])))
    seconds = round(time.process_time() - began, 1)
    return {"accuracy": accuracy, "cpu": seconds, "n_grams": len(model.ratios)}


def main():
    """Prints the accuracy on the validation split of the recipes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", default="stanfordnlp/imdb")
    names = {"text_column": "text", "label_column": "label", "label_names": ()}
    shares = {"validation_share": 0.1, "test_share": 0.0, "split_seed": 0}
    corpus = load_corpus(parser.parse_args().source, **names, **shares)
    found = measure(corpus.train, corpus.validation)
    rows = len(corpus.train.texts), len(corpus.validation.texts)
    print("{} rows to train, {} to measure on".format(*rows), found)


if __name__ == "__main__":
    main()
