"""Batches as a pure function of (seed, step): every example once an epoch, in shapes of the buckets only."""

import random
from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rnn_jax.data.batches import ROUND_TO, Batches, bucket_lengths

PROPERTY = settings(max_examples=40, derandomize=True, deadline=None)
BUCKETS = (4, 8, 20)
LENGTHS = st.lists(st.integers(0, BUCKETS[-1]), min_size=1, max_size=40)
SIZES = st.integers(1, 9)


def make(lengths, batch_size, buckets=BUCKETS):
    """Returns batches whose word ids tell their example and place apart: 1000 * example + place + 1."""
    rows = [
        np.arange(1, length + 1, dtype=np.int32) + 1000 * example for example, length in enumerate(lengths)
    ]
    labels = np.arange(len(rows), dtype=np.int32) % 3
    return Batches(rows, labels, buckets, batch_size)


def check(batch, lengths, batch_size):
    """Holds a batch against plain loops over the examples that it says it has."""
    assert batch.token_ids.shape[0] == batch_size
    for row, ids, length, label, weight in zip(
        batch.rows, batch.token_ids, batch.lengths, batch.labels, batch.weights, strict=True
    ):
        if row == -1:
            assert (weight, length, ids.any()) == (0, 0, False)
        else:
            words = [1000 * row + place + 1 for place in range(lengths[row])]
            assert ids.tolist() == words + [0] * (len(ids) - len(words))
            assert (weight, length, label) == (1, lengths[row], row % 3)
    assert [array.dtype for array in batch[:5]] == [np.int32, np.int32, np.int32, np.float32, np.int32]
    assert batch.evidence == ()
    assert batch.inputs == {}


def examples(batches):
    return sorted(int(row) for batch in batches for row in batch.rows if row >= 0)


def assert_equal(first, second):
    for ours, theirs in zip(first, second, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@PROPERTY
@given(LENGTHS, SIZES, st.integers(0, 5))
def test_a_batch_depends_on_seed_and_step_alone(lengths, batch_size, seed):
    batches = make(lengths, batch_size)
    steps = list(range(3 * batches.steps_per_epoch))
    first = [batches(seed, step) for step in steps]
    random.Random(0).shuffle(steps)
    other = make(lengths, batch_size)
    for step in steps:
        batches(seed + 1, step)  # a call between leaves no trace
        assert_equal(first[step], batches(seed, step))
        assert_equal(first[step], other(seed, step))


@PROPERTY
@given(LENGTHS, SIZES, st.integers(0, 5), st.integers(0, 3))
def test_each_epoch_has_each_example_exactly_once(lengths, batch_size, seed, epoch):
    batches = make(lengths, batch_size)
    count = batches.steps_per_epoch
    found = [batches(seed, epoch * count + step) for step in range(count)]
    assert examples(found) == list(range(len(lengths)))
    assert sum(batch.weights.sum() for batch in found) == len(lengths)
    for batch in found:
        check(batch, lengths, batch_size)


@PROPERTY
@given(LENGTHS, SIZES)
def test_in_order_has_each_example_exactly_once_shortest_bucket_first(lengths, batch_size):
    found = list(make(lengths, batch_size).in_order())
    assert examples(found) == list(range(len(lengths)))
    sizes = [batch.token_ids.shape[1] for batch in found]
    assert sizes == sorted(sizes)
    for batch in found:
        check(batch, lengths, batch_size)


@PROPERTY
@given(LENGTHS, SIZES)
def test_the_shapes_are_those_of_the_buckets_that_occur_and_no_others(lengths, batch_size):
    batches = make(lengths, batch_size)
    tightest = {min(size for size in BUCKETS if size >= length) for length in lengths}
    expected = [(batch_size, size) for size in sorted(tightest)]
    assert batches.shapes == expected
    assert [batch.token_ids.shape for batch in batches.one_of_each_shape()] == expected
    trained = {batches(0, step).token_ids.shape for step in range(2 * batches.steps_per_epoch)}
    assert trained == {batch.token_ids.shape for batch in batches.in_order()} == set(expected)


@PROPERTY
@given(LENGTHS, SIZES)
def test_padding_waste_is_the_share_of_places_without_a_word(lengths, batch_size):
    batches = make(lengths, batch_size)
    places = words = 0
    for step in range(batches.steps_per_epoch):
        batch = batches(0, step)
        places += batch.token_ids.size
        words += (batch.token_ids != 0).sum()
    assert batches.padding_waste == pytest.approx(1 - words / places)


def test_epochs_and_seeds_have_different_orders_and_different_batches():
    batches = make([7] * 64, 8)
    orders = {
        tuple(int(row) for step in range(8) for row in batches(seed, 8 * epoch + step).rows)
        for seed in range(3)
        for epoch in range(3)
    }
    assert len(orders) == 9
    assert len({frozenset(order[:8]) for order in orders}) == 9


def test_an_epoch_mixes_the_buckets():
    batches = make([3] * 64 + [18] * 64, 4)
    sizes = [batches(0, step).token_ids.shape[1] for step in range(32)]
    assert sum(first != second for first, second in pairwise(sizes)) > 4


def test_a_batch_may_be_changed_without_changing_the_data():
    batches = make([3, 2], 2)
    before = batches(0, 0)
    changed = batches(0, 0)
    changed.token_ids[:] = changed.labels[:] = changed.rows[:] = 9
    assert_equal(before, batches(0, 0))


def test_examples_of_no_words_are_batched_with_weight_1():
    batches = make([0, 0, 0], 2)
    assert batches.shapes == [(2, 4)]
    found = list(batches.in_order())
    assert examples(found) == [0, 1, 2]
    assert [batch.weights.tolist() for batch in found] == [[1, 1], [1, 0]]
    assert batches.padding_waste == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([3, 21], 2), "an example has 21 words, the last bucket 20"),
        (([3], 0), "batch_size is 0"),
        (([], 2), "there are no examples"),
    ],
)
def test_examples_that_cannot_be_batched_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        make(*arguments)


def test_another_number_of_labels_than_examples_is_refused():
    with pytest.raises(ValueError, match="there are 2 labels for 1 examples"):
        Batches([np.array([5])], np.array([0, 1]), BUCKETS, 2)


@pytest.mark.parametrize(("seed", "step"), [(-1, 0), (0, -1)])
def test_a_negative_seed_or_step_is_refused(seed, step):
    with pytest.raises(ValueError, match=f"seed is {seed} and step is {step}"):
        make([3], 2)(seed, step)


@PROPERTY
@given(st.lists(st.integers(0, 2000), min_size=1), st.integers(1, 600), st.integers(1, 8))
def test_bucket_lengths_are_few_ascending_and_end_at_max_length(lengths, max_length, count):
    buckets = bucket_lengths(lengths, max_length, count)
    assert list(buckets) == sorted(set(buckets))
    assert len(buckets) <= count
    assert buckets[-1] == max_length
    assert buckets[0] > 0
    assert all(type(size) is int for size in buckets)
    assert all(size % ROUND_TO == 0 for size in buckets[:-1])


@PROPERTY
@given(st.lists(st.integers(0, 150), min_size=1, max_size=30), st.integers(1, 120), st.integers(1, 4))
def test_no_other_buckets_pad_the_texts_less(lengths, max_length, count):
    def places(buckets):
        return sum(buckets[np.searchsorted(buckets, min(length, max_length))] for length in lengths)

    shorter = range(ROUND_TO, max_length, ROUND_TO)
    every = ((*some, max_length) for many in range(count) for some in combinations(shorter, many))
    assert places(bucket_lengths(lengths, max_length, count)) == min(map(places, every))


def test_buckets_of_very_many_lengths_are_chosen_from_some_of_them():
    buckets = bucket_lengths(range(0, 2**20, 7), 2**20, 4)
    assert np.allclose(buckets, np.arange(1, 5) * 2**18, rtol=0.01)


def test_there_are_no_more_buckets_than_lengths_and_one_for_longer_texts():
    assert bucket_lengths([0, 0, 0, 40], max_length=100, count=9) == (16, 48, 100)
    assert bucket_lengths([20, 30], max_length=32, count=9) == (32,)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([3], 10, 0), "buckets is 0"),
        (([3], 0, 2), "max_length is 0"),
        (([], 10, 2), "there are no lengths"),
    ],
)
def test_buckets_that_cannot_be_chosen_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        bucket_lengths(*arguments)
