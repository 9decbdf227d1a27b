"""The files of reviews of other films: no text of validation is in another file."""

import sys

import datasets
import pandas as pd

from benchmarks import films
from rnn_jax.data.splits import fold


def test_validation_has_the_last_rows_of_each_class_and_shares_no_text(monkeypatch, tmp_path):
    texts = [f"text {number}" for number in range(18)] + ["Text  3", "text 19"]
    train = datasets.Dataset.from_dict({"text": texts, "label": [number % 2 for number in range(20)]})
    unlabelled = datasets.Dataset.from_dict({"text": ["TEXT 17", "no label"], "label": [-1, -1]})
    monkeypatch.setattr(films, "read_source", lambda name: {"train": train, "unsupervised": unlabelled})
    monkeypatch.setattr(sys, "argv", ["films"])
    monkeypatch.chdir(tmp_path)
    films.main()
    names = ("by_film/train", "by_film/validation", "train_and_unlabelled/train", "unlabelled")
    training, validation, together, others = (pd.read_csv(tmp_path / f"{name}.csv") for name in names)
    assert set(validation["text"]) == {*(f"text {number}" for number in range(12, 18)), "Text  3", "text 19"}
    assert training["text"].tolist() == [f"text {number}" for number in range(12) if number != 3]
    assert training["label"].tolist() == [number % 2 for number in range(12) if number != 3]
    assert others["text"].tolist() == ["no label"]
    assert together["text"].tolist() == [*training["text"], "no label"]
    assert not {fold(text) for text in validation["text"]} & {fold(text) for text in together["text"]}
