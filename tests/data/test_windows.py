"""Windows of running text: every target once an epoch, against plain loops over the documents."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rnn_jax.data.windows import NOTHING, Windows

PROPERTY = settings(max_examples=40, derandomize=True, deadline=None)
SIZES = st.lists(st.integers(0, 30), min_size=1, max_size=25).filter(lambda sizes: max(sizes) > 1)
LANES, WINDOW, REVERSE = st.integers(1, 6), st.integers(1, 9), st.booleans()


def documents_of(sizes):
    """Returns documents whose word ids tell their document and place apart: 1000 * document + place + 1."""
    return [np.arange(1, size + 1, dtype=np.int32) + 1000 * index for index, size in enumerate(sizes)]


def make(sizes, lanes, window, reverse=False):
    return Windows(documents_of(sizes), lanes, window, reverse)


def epoch_of(windows, seed=0, epoch=0):
    count = windows.steps_per_epoch
    return [windows(seed, epoch * count + step) for step in range(count)]


def read(windows_in_turn):
    """Returns [(document, words read, words predicted)] of the lanes, one list a document, word by word."""
    found, current = [], {}
    for window in windows_in_turn:
        for lane, (row, length, fresh) in enumerate(
            zip(window.rows, window.lengths, window.fresh, strict=True)
        ):
            if fresh:
                current[lane] = (int(row), [], [])
                if row != NOTHING:
                    found.append(current[lane])
            assert current[lane][0] == row
            current[lane][1].extend(window.token_ids[lane, :length].tolist())
            current[lane][2].extend(window.targets[lane, :length].tolist())
    return found


def expected(sizes, reverse):
    """Returns what `read` finds, by document."""
    found = []
    for index, document in enumerate(documents_of(sizes)):
        words = document.tolist()[::-1] if reverse else document.tolist()
        if len(words) > 1:
            found.append((index, words[:-1], words[1:]))
    return found


def assert_equal(first, second):
    for ours, theirs in zip(first, second, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@PROPERTY
@given(SIZES, LANES, WINDOW, REVERSE, st.integers(0, 3), st.integers(0, 2))
def test_each_epoch_reads_each_document_in_order_and_predicts_each_word_once(
    sizes, lanes, window, reverse, seed, epoch
):
    windows = make(sizes, lanes, window, reverse)
    for turn in (epoch_of(windows, seed, epoch), list(windows.in_order())):
        assert len(turn) == windows.steps_per_epoch
        assert sorted(read(turn)) == expected(sizes, reverse)
    assert windows.predictions == sum(len(targets) for _, _, targets in expected(sizes, reverse))


@PROPERTY
@given(SIZES, LANES, WINDOW, REVERSE)
def test_windows_have_one_shape_and_are_empty_but_for_their_words(sizes, lanes, window, reverse):
    windows = make(sizes, lanes, window, reverse)
    assert windows.shapes == [(lanes, window)]
    for found in [*epoch_of(windows), *windows.one_of_each_shape()]:
        assert found.token_ids.shape == found.targets.shape == (lanes, window)
        assert [field.dtype for field in found] == [np.int32, np.int32, np.int32, bool, np.int32]
        for row, length, fresh, *words in zip(
            found.rows, found.lengths, found.fresh, found.token_ids, found.targets, strict=True
        ):
            assert all(not part[length:].any() for part in words)
            assert (length == 0) == (row == NOTHING)
            assert fresh or row != NOTHING


@PROPERTY
@given(SIZES, LANES, WINDOW)
def test_a_document_fills_its_windows_but_the_last_and_is_followed_at_once(sizes, lanes, window):
    turn = epoch_of(make(sizes, lanes, window))
    for lane in range(lanes):
        lengths, rows = [found.lengths[lane] for found in turn], [found.rows[lane] for found in turn]
        for step, length in enumerate(lengths[:-1]):
            assert length == window or rows[step + 1] != rows[step] or rows[step] == NOTHING
            assert length > 0 or lengths[step + 1] == 0


@PROPERTY
@given(SIZES, LANES, WINDOW)
def test_all_lanes_are_fresh_at_the_start_of_an_epoch(sizes, lanes, window):
    windows = make(sizes, lanes, window)
    for epoch in range(3):
        assert windows(0, epoch * windows.steps_per_epoch).fresh.all()


@PROPERTY
@given(SIZES, LANES, WINDOW, REVERSE, st.integers(0, 5))
def test_a_window_depends_on_seed_and_step_alone(sizes, lanes, window, reverse, seed):
    windows, other = (make(sizes, lanes, window, reverse) for _ in range(2))
    steps = list(range(3 * windows.steps_per_epoch))
    first = [windows(seed, step) for step in steps]
    random.Random(0).shuffle(steps)
    for step in steps:
        windows(seed + 1, step)  # a call between leaves no trace
        assert_equal(first[step], windows(seed, step))
        assert_equal(first[step], other(seed, step))


@PROPERTY
@given(SIZES, LANES, WINDOW)
def test_padding_waste_is_the_share_of_places_without_a_word(sizes, lanes, window):
    windows = make(sizes, lanes, window)
    turn = epoch_of(windows)
    places, words = sum(found.targets.size for found in turn), sum(found.lengths.sum() for found in turn)
    assert windows.padding_waste == pytest.approx(1 - words / places)


@PROPERTY
@given(SIZES, LANES, WINDOW)
def test_lanes_are_of_about_equal_length(sizes, lanes, window):
    """No lane is more than one document longer than the shortest: else that would have been given it."""
    turn = epoch_of(make(sizes, lanes, window))
    loads = [sum(found.lengths[lane] > 0 for found in turn) for lane in range(lanes)]
    longest_document = max(-(-(size - 1) // window) for size in sizes)
    assert max(loads) - min(loads) <= longest_document


def test_epochs_and_seeds_have_other_orders_and_other_neighbours():
    windows = make([9] * 64, 8, 4)
    epochs = [epoch_of(windows, seed, epoch) for seed in range(3) for epoch in range(3)]
    assert len({tuple(row for found in epoch for row in found.rows.tolist()) for epoch in epochs}) == 9
    assert len({frozenset(epoch[0].rows.tolist()) for epoch in epochs}) == 9


def test_a_document_longer_than_all_others_together_has_a_lane_of_its_own():
    windows = make([101, 3, 4, 2], 2, 10)
    turn = list(windows.in_order())
    assert windows.steps_per_epoch == 10
    assert {int(found.rows[0]) for found in turn} == {0}
    assert [int(found.rows[1]) for found in turn] == [1, 2, 3] + [NOTHING] * 7


def test_a_window_may_be_changed_without_changing_the_data():
    windows = make([7, 5], 2, 3)
    before, changed = windows(0, 0), windows(0, 0)
    for field in changed:
        field[:] = 1
    assert_equal(before, windows(0, 0))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([3], 0, 2), "lanes is 0; give at least 1"),
        (([3], 2, 0), "window is 0; give at least 1 word"),
        (([1, 0], 2, 2), "no documents of two words or more"),
        (([], 2, 2), "no documents of two words or more"),
    ],
)
def test_documents_that_cannot_be_laid_out_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        make(*arguments)


@pytest.mark.parametrize(("seed", "step"), [(-1, 0), (0, -1)])
def test_a_negative_seed_or_step_is_refused(seed, step):
    with pytest.raises(ValueError, match=f"seed is {seed} and step is {step}"):
        make([3], 2, 2)(seed, step)
