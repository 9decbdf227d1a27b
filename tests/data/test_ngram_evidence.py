"""Evidence of n-grams: the ratios of a plain dictionary, and no training text that sees its own label."""

import math
from collections import Counter

import jax.numpy as jnp
import numpy as np
import pytest

from rnn_jax.data.batches import Batches
from rnn_jax.data.evidence import (
    Evidence,
    Ngrams,
    _folds_of,
    check_evidence,
    evidence_from_arrays,
    fit_evidence,
    ratio_targets,
)
from rnn_jax.errors import InputError
from rnn_jax.models.evidence import look_up

SETTINGS = {"orders": (1, 2, 3), "folds": 3, "smoothing": 0.5, "min_count": 2}
WORDS = 7  # a small vocabulary, so that trigrams repeat


def texts(count, seed=0, words=WORDS, longest=9):
    rng = np.random.default_rng(seed)
    return [rng.integers(2, words, rng.integers(0, longest + 1)).astype(np.int32) for _ in range(count)]


def ngrams(row, order):
    """Returns the n-gram that ends at each word, None where it would begin before the text."""
    return [
        tuple(row[end - order + 1 : end + 1].tolist()) if end >= order - 1 else None
        for end in range(len(row))
    ]


def plain_ratios(rows, targets, order, smoothing, min_count):
    """Returns {n-gram: K log-count ratios} by counting texts in dictionaries."""
    everyone = Counter(gram for row in rows for gram in {*ngrams(row, order)} - {None})
    kept = {gram for gram, count in everyone.items() if count >= min_count}
    ratios = {gram: [] for gram in kept}
    for column in range(targets.shape[1]):
        counts = Counter(), Counter()
        for row, target in zip(rows, targets[:, column], strict=True):
            counts[int(target)].update({*ngrams(row, order)} & kept)
        totals = [sum(count[gram] + smoothing for gram in kept) for count in counts]
        for gram in kept:
            p, q = ((counts[side][gram] + smoothing) / totals[side] for side in (1, 0))
            ratios[gram].append(math.log(p) - math.log(q))
    return ratios


def plain_features(row, ratios_by_order, columns):
    """Returns [words, F], not yet scaled."""
    none = [0.0] * columns
    return np.array(
        [
            [value for order, ratios in ratios_by_order.items() for value in ratios.get(gram_at[order], none)]
            for gram_at in ({o: ngrams(row, o)[t] for o in ratios_by_order} for t in range(len(row)))
        ]
    ).reshape(len(row), len(ratios_by_order) * columns)


def rows_of(found, rows):
    """Returns the evidence of every text, [words, F] each."""
    return [found.padded([index], 1, len(row))[0] for index, row in enumerate(rows)]


def targets_of(kind, count):
    rng = np.random.default_rng(9)
    if kind == "several":
        return rng.integers(0, 2, (count, 2))
    return ratio_targets(rng.integers(0, kind, count), kind)


@pytest.mark.parametrize("kind", [2, 3, "several"])
@pytest.mark.parametrize("orders", [(1, 2, 3), (2,)])
def test_evidence_is_that_of_a_plain_dictionary(kind, orders):
    whole = texts(60)
    read = [row[-6:] for row in whole]  # cut, as a long text is
    targets, settings = targets_of(kind, 60), {**SETTINGS, "orders": orders}
    counting = {"smoothing": 0.5, "min_count": 2}
    evidence, found = fit_evidence(whole, read, targets, WORDS, **settings)
    assert set(found.chosen) == {0, 1, 2}
    assert {
        row.tobytes(): {*found.chosen[[other.tobytes() == row.tobytes() for other in whole]]} for row in whole
    } == {row.tobytes(): {fold} for row, fold in zip(whole, found.chosen, strict=True)}
    expected = []
    for row, fold in zip(read, found.chosen, strict=True):
        others = [index for index in range(60) if found.chosen[index] != fold]
        seen = [whole[index] for index in others]
        ratios = {order: plain_ratios(seen, targets[others], order, **counting) for order in orders}
        expected.append(plain_features(row, ratios, targets.shape[1]))
    spread = np.concatenate(expected).std(axis=0)
    for ours, plain in zip(rows_of(found, read), expected, strict=True):
        np.testing.assert_allclose(ours, plain / spread, rtol=1e-4, atol=1e-5)
    ratios = {order: plain_ratios(whole, targets, order, **counting) for order in orders}
    for row in texts(9, seed=5):
        plain = plain_features(row, ratios, targets.shape[1]) / spread
        np.testing.assert_allclose(evidence.features(row), plain, rtol=1e-4, atol=1e-5)


def test_a_training_text_does_not_see_its_own_label():
    rows, labels = texts(80, seed=1), np.arange(80) % 2
    copies = Counter(row.tobytes() for row in rows)
    alone = [index for index in range(0, 80, 2) if {copies[rows[index + k].tobytes()] for k in (0, 1)} == {1}]
    _, before = fit_evidence(rows, rows, ratio_targets(labels, 2), WORDS, **SETTINGS)
    changes = []
    for index in alone[::4]:
        flipped = labels.copy()
        flipped[index : index + 2] = 1, 0  # both stay the same text of their class, and so in the same fold
        evidence, after = fit_evidence(rows, rows, ratio_targets(flipped, 2), WORDS, **SETTINGS)
        own = [found.padded([index], 1, len(rows[index]))[0] for found in (before, after)]
        assert np.abs(own[0]).max() > 0.1
        largest = [np.abs(each).max(axis=0) + 1e-9 for each in own]  # the scale, which all texts share
        np.testing.assert_allclose(own[1], own[0] * largest[1] / largest[0], rtol=1e-4, atol=1e-6)
        changes.append(np.abs(evidence.features(rows[index]) - own[1]).max())
    assert len(changes) > 3
    assert min(changes) > 0.01  # the table of all texts, which others read, does see it


@pytest.mark.parametrize("by_label", [False, True])
def test_neighbours_of_one_subject_do_not_tell_each_others_labels(by_label):
    """40 films with a name each, whose 10 reviews have one label and are random but for the name."""
    rng = np.random.default_rng(4)
    films = np.repeat(np.arange(40), 10)
    rows = [np.array([100 + film, *rng.integers(2, 100, 9)], np.int32) for film in films]
    labels = rng.permutation(np.arange(40) % 2)[films]
    if by_label:  # as files of classes are read
        order = np.argsort(labels, kind="stable")
        rows, labels = [rows[index] for index in order], labels[order]
    settings = {**SETTINGS, "orders": (1,), "folds": 5}
    evidence, found = fit_evidence(rows, rows, ratio_targets(labels, 2), 200, **settings)
    names = np.array([features[0, 0] for features in rows_of(found, rows)])
    assert (names == 0).mean() > 0.7  # a film on the edge of a fold is in both
    assert all(evidence.features(row)[0, 0] != 0 for row in rows)


def test_folds_have_each_class_alike_and_equal_texts_together():
    rng = np.random.default_rng(5)
    rows = texts(300, seed=5, words=40)
    rows[200:220] = rows[0:20]
    targets = np.sort(rng.choice(3, 300, p=[0.9, 0.07, 0.03]))
    fold_of = _folds_of(rows, ratio_targets(targets, 3), 3)
    np.testing.assert_array_equal(fold_of[200:220], fold_of[0:20])
    shares = [(fold_of[targets == kind] == fold).mean() for kind in range(3) for fold in range(3)]
    assert 0.15 < min(shares) <= max(shares) < 0.5


def test_labels_at_random_are_not_told_by_evidence_of_training_texts_nor_of_others():
    rng = np.random.default_rng(2)
    rows = [rng.integers(2, 400, 30).astype(np.int32) for _ in range(1600)]
    labels = rng.permutation(np.arange(1600) % 2)
    train, held = slice(0, 1200), slice(1200, None)
    settings = {**SETTINGS, "folds": 5}
    evidence, found = fit_evidence(rows[train], rows[train], ratio_targets(labels[train], 2), 400, **settings)

    def accuracy(features, truth):
        return ((np.array([each.sum() for each in features]) > 0) == truth).mean()

    assert 0.42 < accuracy(rows_of(found, rows[train]), labels[train]) < 0.58
    assert 0.42 < accuracy([evidence.features(row) for row in rows[held]], labels[held]) < 0.58
    # What a text would know of itself: without cross-fitting a network learns this, and nothing else.
    assert accuracy([evidence.features(row) for row in rows[train]], labels[train]) > 0.8


@pytest.mark.parametrize("orders", [(1, 3), (1,), (3,)])
def test_an_order_of_which_no_ngram_is_kept_has_no_evidence(orders):
    """Each text has a word that all share, and one of its own; no text has three words."""
    rows, labels = [np.array([2, 3 + number], np.int32) for number in range(8)], np.arange(8) % 2
    settings = {**SETTINGS, "orders": orders, "min_count": 2}
    evidence, found = fit_evidence(rows, rows, ratio_targets(labels, 2), WORDS, **settings)
    kept = [len(grams) for grams, _ in evidence.tables]
    assert kept == [{1: 1, 3: 0}[order] for order in orders]
    assert evidence.features(rows[0]).shape == found.padded([0], 1, 2)[0].shape == (2, len(orders))
    again = evidence_from_arrays(evidence.to_arrays(), "file", WORDS, len(orders))
    np.testing.assert_array_equal(again.features(rows[0]), evidence.features(rows[0]))
    tables = [(jnp.asarray(grams), jnp.asarray(ratios)) for grams, ratios in evidence.tables]
    looked_up = np.asarray(look_up(tables, rows[0][None], np.array([2])))[0]
    np.testing.assert_array_equal(looked_up, evidence.features(rows[0]))
    assert evidence.describe()


def test_padding_has_no_evidence_and_the_bucket_changes_none():
    rows, labels = texts(12, seed=3), np.arange(12) % 2
    _evidence, found = fit_evidence(rows, rows, ratio_targets(labels, 2), WORDS, **SETTINGS)
    by_bucket = []
    for buckets in ((9,), (4, 6, 32)):
        seen = {}
        for batch in Batches(rows, labels, buckets, 5, evidence=found).in_order():
            for place, row in enumerate(batch.rows):
                length = batch.lengths[place]
                assert not batch.evidence[place, length:].any()
                if row >= 0:
                    seen[int(row)] = batch.evidence[place, :length].tolist()
        by_bucket.append(seen)
    assert by_bucket[0] == by_bucket[1]
    assert len(by_bucket[0]) == 12
    assert "evidence" not in Batches(rows, labels, (9,), 5)(0, 0).inputs


def test_jax_looks_up_what_numpy_does():
    rows = texts(60)
    evidence, _ = fit_evidence(rows, rows, targets_of(3, 60), WORDS + 5, **SETTINGS)
    tables = [(jnp.asarray(grams), jnp.asarray(ratios)) for grams, ratios in evidence.tables]
    others = [*texts(20, seed=8, words=WORDS + 5), np.zeros(0, np.int32)]
    ids = np.full((len(others), 12), 3, np.int32)  # padding may be anything
    for place, row in enumerate(others):
        ids[place, : len(row)] = row
    lengths = np.array([len(row) for row in others])
    found = np.asarray(look_up(tables, ids, lengths))
    for place, row in enumerate(others):
        np.testing.assert_array_equal(found[place, : len(row)], evidence.features(row))
        assert not found[place, len(row) :].any()
    for size in (0, 1, 2):  # tables that binary search has to end on
        few = Ngrams(*(array[:size] for array in evidence.tables[0]))
        part = look_up([tuple(map(jnp.asarray, few))], ids[:1], lengths[:1])[0, : lengths[0]]
        np.testing.assert_array_equal(part, Evidence(WORDS + 5, (few,)).features(others[0]))


def test_arrays_of_a_file_are_checked():
    rows = texts(30)
    evidence, _ = fit_evidence(rows, rows, targets_of(2, 30), WORDS, **SETTINGS)
    arrays = evidence.to_arrays()
    again = evidence_from_arrays(arrays, "file", WORDS, 3)
    np.testing.assert_array_equal(again.features(rows[0]), evidence.features(rows[0]))
    grams, ratios = arrays["2"]["grams"], arrays["2"]["ratios"]
    for bad in (
        {"grams": grams[::-1].copy(), "ratios": ratios},
        {"grams": grams + 50, "ratios": ratios},
        {"grams": grams[:3], "ratios": ratios},
        {"grams": grams, "ratios": ratios * np.float32(np.nan)},
        {"grams": grams, "ratios": ratios.astype(np.float64)},
        {"grams": grams},
    ):
        with pytest.raises(InputError, match="no evidence of n-grams"):
            evidence_from_arrays({**arrays, "2": bad}, "file", WORDS, 3)
    with pytest.raises(InputError, match="no evidence of n-grams"):
        evidence_from_arrays({**arrays, "x": arrays["2"]}, "file", WORDS, 3)
    with pytest.raises(InputError, match="another network"):
        evidence_from_arrays(arrays, "file", WORDS, 6)


@pytest.mark.parametrize("orders", [(0,), (2, 1), (1, 1), (1.0,), ("1",), (True,), (5,)])
def test_orders_that_cannot_be_are_refused(orders):
    with pytest.raises(InputError, match=r"embedding\.evidence\.orders"):
        check_evidence(orders, 30_000)
