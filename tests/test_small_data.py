"""The benchmark of few labels: rows that share no text, ratios that count right, a page of its records."""

import datasets
import numpy as np
import pytest

from benchmarks import small_data, small_data_page
from benchmarks.naive_bayes import PENALTY, NaiveBayesSVM
from benchmarks.records import Records
from rnn_jax.data.splits import fold
from rnn_jax.training.automatic import METHODS, RANKED
from rnn_jax.training.loop import check_config

RECORDS = Records(small_data.DOCS / "small_data.json")


@pytest.fixture
def source(monkeypatch):
    """60 labelled texts, the last one a second time, and one that is not labelled."""
    texts = [f"text {number}" for number in range(59)] + ["Text  3"]
    train = datasets.Dataset.from_dict({"text": texts, "label": [number % 2 for number in range(60)]})
    other = datasets.Dataset.from_dict({"text": ["no label"]})
    splits = {"train": train, "unsupervised": other, "test": train}
    monkeypatch.setattr(small_data, "read_source", lambda name: splits)
    monkeypatch.setattr(small_data, "REPORTED", 20)
    return small_data.read_rows("any")


def test_the_last_rows_of_each_class_are_reported_and_the_test_split_is_left_out(source):
    folded = [{fold(text) for text in part["text"]} for part in (source.pool, source.reported)]
    assert not folded[0] & folded[1]
    assert source.pool["text"][:] == [f"text {number}" for number in range(40) if number != 3]
    assert sorted(source.reported["label"]) == [0] * 10 + [1] * 10
    assert source.unlabelled == ["no label"]
    pool, chosen_on = small_data.apart(source.pool, 20)
    assert set(chosen_on["text"]) == {f"text {number}" for number in range(20, 40)}
    assert not set(pool["text"]) & set(chosen_on["text"])


def test_labels_are_drawn_of_each_class_alike_and_others_for_another_seed(source):
    labelled = small_data.drawn(source.pool, 10, seed=0)
    assert (len(labelled), sum(labelled["label"])) == (10, 5)
    assert set(small_data.drawn(source.pool, 10, seed=1)["text"]) != set(labelled["text"])
    assert len(small_data.drawn(source.pool, 1000, seed=0)) == len(source.pool)
    numbers = [int(text.split()[1]) for text in labelled["text"]]
    assert numbers == sorted(numbers)  # neighbours stay in one fold of evidence


def test_the_ratios_are_those_of_naive_bayes():
    model = NaiveBayesSVM(penalty=1.0).fit(["good film", "good good", "bad film"], [1, 1, 0])
    place = model.counter.vocabulary_
    p, q = {"good": 2, "film": 1, "good film": 1, "good good": 1}, {"bad": 1, "film": 1, "bad film": 1}
    names = sorted({*p, *q})
    total = [sum(1 + counts.get(name, 0) for name in names) for counts in (p, q)]
    for name in names:
        expected = np.log((1 + p.get(name, 0)) / total[0]) - np.log((1 + q.get(name, 0)) / total[1])
        assert model.ratios[place[name]] == pytest.approx(expected)
    assert model.predict(["a good one", "BAD"]).tolist() == [1, 0]


@pytest.mark.parametrize("method", [name for name in small_data_page.METHODS if name != "NB-SVM"])
def test_every_case_has_settings_that_can_be_used(method):
    for labels in small_data.SIZES:
        config = small_data.settings(method, labels)
        assert check_config(config)
        assert config.data.test_share == 0


def test_pooling_and_c_are_the_best_of_those_that_were_tried():
    for method in small_data.TRIED:
        for labels in small_data.TUNED:
            found = small_data.tried(RECORDS, method, labels)
            assert set(found) == set(small_data.choices_of(method))
            own = small_data.settings(method, labels).model.pooling
            noise = 0.002  # of a method that is indifferent to it
            assert found["mean" if own == "mean" else "own pooling"] >= max(found.values()) - noise
    found = small_data.tried(RECORDS, "NB-SVM", 500)
    assert small_data.PENALTIES[max(found, key=found.get)] == PENALTY


def test_the_page_has_the_mean_of_what_is_finished():
    runs = [{"accuracy": accuracy, "cpu": 10.0} for accuracy in (0.7, 0.72, 0.74)]
    found = {("plain", 100): runs, ("NB-SVM", 500): runs[:1]}
    lines = small_data_page.table(found, (100, 500), small_data_page.accuracy_of).splitlines()
    assert lines[2:] == ["| plain | 72.0 ± 2.0 | - |", "| NB-SVM | - | 70.0 (1) |"]
    assert small_data_page.choice_cell({"mean": 0.7, "own": 0.65}) == "**mean 70.0**, own 65.0"
    assert small_data_page.seconds(runs) == "10"


def test_the_ranking_puts_the_cheaper_of_two_equal_ones_first():
    found = {
        ("evidence", 500): [{"accuracy": value, "cpu": 20} for value in (0.80, 0.82, 0.84)],
        ("word2vec", 500): [{"accuracy": 0.81, "cpu": 10}],
        ("plain", 500): [{"accuracy": 0.7, "cpu": 1}],
    }
    assert small_data_page.ranking(found, 500)[:3] == ("word2vec", "evidence", "plain")
    found["word2vec", 500][0]["accuracy"] = 0.79
    assert small_data_page.ranking(found, 500)[:3] == ("evidence", "word2vec", "plain")


@pytest.mark.parametrize("size", small_data.SIZES)
def test_auto_ranks_as_was_measured(size):
    found = small_data.reported(RECORDS)
    if not all(found[method, size] for method in METHODS):
        pytest.skip(f"not every method is measured at {size} labels")
    assert RANKED[size] == small_data_page.ranking(found, size)
