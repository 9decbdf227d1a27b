"""Targets: lists, separated strings and numbers as they are written, and what is refused."""

import json

import datasets
import numpy as np
import pytest

from rnn_jax.data.batches import Batches
from rnn_jax.data.in_memory import splits_of
from rnn_jax.data.splits import load_corpus
from rnn_jax.data.targets import check_target, read_targets, say_lists, standardised, strata
from rnn_jax.errors import InputError

COLUMNS = {"text_column": "text", "label_column": "label", "label_names": ()}
SHARES = {"validation_share": 0.2, "test_share": 0.2, "split_seed": 0}


def read(column, names=(), separator="", target="labels", feature=None, **others):
    return read_targets(target, {"train": column, **others}, feature, names, separator)


@pytest.mark.parametrize(
    ("column", "separator"),
    [
        ([["war", "love"], [], ["love", "love"], None], ""),
        ([("war", " love "), (), {"love"}, None], ""),
        (["war|love", "", " love ||love", None], "|"),
        (["love, war", " ", "love", None], ","),
    ],
)
def test_lists_and_separated_strings_are_the_same_labels(column, separator):
    found = read(column, separator=separator)
    assert found.names == ("love", "war")
    assert found.splits["train"].tolist() == [[1, 1], [0, 0], [1, 0], [0, 0]]


def test_numbers_as_labels_and_lists_of_class_labels_have_their_names():
    assert read([[3, 1], [1]]).values == [1, 3]
    feature = datasets.List(datasets.ClassLabel(names=["no", "yes", "never seen"]))
    found = read([[0, 1], [1]], feature=feature)
    assert found.names == ("no", "yes", "never seen")
    assert found.splits["train"].tolist() == [[1, 1, 0], [0, 1, 0]]


@pytest.mark.parametrize(
    ("column", "others", "message"),
    [
        (["a|b"], {}, "name what stands between the labels by data.separator"),
        ([1, 2], {}, "give a list of labels"),
        ([["a", 1]], {}, "strings and numbers"),
        ([[0.5]], {}, "a label is an integer or a string"),
        ([[], None], {}, "no text to train on has a label"),
        ([["a"]], {"test": [["b"]]}, r"split 'test' has labels \['b'\] that train does not have"),
    ],
)
def test_what_is_no_list_of_labels_is_refused(column, others, message):
    with pytest.raises(InputError, match=message):
        read(column, **others)


def test_labels_that_are_given_as_their_own_names_keep_them_in_any_order():
    found = read_targets("labels", {"train": [["love"], ["war", "love"]]}, None, ("war", "love"), "")
    assert (found.names, found.values) == (("war", "love"), ["war", "love"])
    assert found.splits["train"].tolist() == [[0, 1], [1, 1]]


def test_numbers_are_read_from_strings_and_a_row_without_one_is_named():
    found = read(["1.5", 2, -3e2], target="number").splits["train"]
    assert found.tolist() == [1.5, 2.0, -300.0]
    for odd in (None, "four", float("nan"), float("inf"), True):
        with pytest.raises(InputError, match=r"1 rows of split 'train' have none, such as row \[1\]"):
            read([1.0, odd, 2.0], target="number")
    with pytest.raises(InputError, match="one number alone"):
        read([2.0, 2.0], target="number")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("clas", "", ()), "data.target is 'clas'"),
        (("class", "|", ()), "set data.target to 'labels'"),
        (("number", "", ("a", "b")), "which has no names"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        check_target(*arguments)


@pytest.mark.parametrize(("label", "target"), [(["a", "b"], "'labels'"), (0.5, "'number'")])
def test_lists_and_numbers_in_place_of_classes_are_refused_with_the_target_to_set(tmp_path, label, target):
    rows = [{"text": f"film {n}", "label": label} for n in range(9)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(InputError, match=f"set data.target to {target}"):
        load_corpus(str(tmp_path / "a.jsonl"), **COLUMNS, **SHARES)


def test_classes_that_look_like_lists_are_said_and_others_are_not():
    lines = []
    say_lists(["war, love", "love", "war", "war, love"], lines.append)
    assert len(lines) == 1
    assert "data.separator to ','" in lines[0]
    rows = [{"text": f"film {n}", "label": ("a|b", "a", "b")[n % 3]} for n in range(30)]
    source, said = {"train": datasets.Dataset.from_list(rows)}, []
    load_corpus(source, **COLUMNS, **SHARES, say=said.append)
    assert "set data.target to 'labels' and data.separator to '|'" in said[0]
    lines.clear()
    say_lists(["war|peace", "love", "and/or", 3], lines.append)
    assert lines == []


def test_a_cut_has_its_share_of_rare_labels_and_of_all_sizes_of_numbers():
    assert strata(np.array([[1, 0], [1, 1], [0, 0]])).tolist() == [0, 1, 2]
    numbers = np.random.default_rng(0).permutation(100).astype(float)
    rows = [{"text": f"film {n}", "label": number} for n, number in enumerate(numbers)]
    corpus = load_corpus({"train": datasets.Dataset.from_list(rows)}, **COLUMNS, **SHARES, target="number")
    for split in (corpus.validation, corpus.test):
        assert np.bincount((split.labels // 10).astype(int)).tolist() == [2] * 10
    assert corpus.scale == (corpus.train.labels.mean(), corpus.train.labels.std())


def test_numbers_that_do_not_differ_once_the_splits_are_cut_are_refused():
    """One text of 100 has another number: where it is held out, there is nothing to learn."""
    rows = [{"text": f"film {n}", "label": 0.1 + (n == 7)} for n in range(100)]
    splits = {"train": datasets.Dataset.from_list(rows)}

    def spread(seed):
        shares = {"validation_share": 0.3, "test_share": 0.3, "split_seed": seed}
        try:
            return load_corpus(splits, **COLUMNS, **shares, target="number").scale[1]
        except InputError as error:
            return str(error)

    found = [spread(seed) for seed in range(12)]
    refused = [message for message in found if isinstance(message, str)]
    assert min(number for number in found if number not in refused) > 0.1
    assert "all 40 texts to train on have the number 0.1 once the splits are cut" in refused[0]
    assert "set another data.split_seed" in refused[0]


def test_a_number_that_float32_cannot_hold_is_refused_before_training():
    """As in a test split where 1e300 stands for none: the scores would fail after the last step."""
    assert standardised(np.array([1.0, 5.0]), (3.0, 2.0)).tolist() == [-1.0, 1.0]
    with pytest.raises(InputError, match=r"\[1e\+300\] is too far from 3, the mean"):
        standardised(np.array([1.0, 1e300]), (3.0, 2.0))


def test_numbers_too_large_for_a_standard_deviation_are_refused():
    rows = [{"text": f"film {n}", "label": 1e300 * n} for n in range(100)]
    with pytest.raises(InputError, match=r"numbers up to 9\.\de\+301, too large .* in another unit"):
        load_corpus({"train": datasets.Dataset.from_list(rows)}, **COLUMNS, **SHARES, target="number")


def test_equal_pairs_are_in_one_split_and_other_second_texts_make_other_pairs():
    rows = [{"text": "film", "other": f"take {n % 20}", "label": n % 20 % 2} for n in range(60)]
    source = {"train": datasets.Dataset.from_list(rows)}
    corpus = load_corpus(source, **COLUMNS, **SHARES, pair_column="other")
    sets = [set(split.texts) for split in (corpus.train, corpus.validation, corpus.test)]
    assert sum(map(len, sets)) == len(set.union(*sets)) == 20
    assert ("film", "take 3") in set.union(*sets)


def test_pairs_lie_side_by_side_in_a_batch():
    rows = [(np.array([5, 2]), np.array([7])), (np.array([3]), np.array([4, 4, 4]))]
    batches = Batches(rows, np.array([0, 1]), buckets=(2, 4), batch_size=2)
    short, long = batches.in_order()
    assert short.token_ids.tolist() == [[5, 2, 7, 0], [0, 0, 0, 0]]
    assert long.token_ids.tolist()[0] == [3, 0, 0, 0, 4, 4, 4, 0]
    assert long.lengths.tolist() == [[1, 3], [0, 0]]
    assert batches.shapes == [(2, 4), (2, 8)]
    assert batches.words.tolist() == [5, 2, 7, 3, 4, 4, 4]
    assert batches.padding_waste == pytest.approx(1 - 7 / (2 * 4 + 2 * 8))


@pytest.mark.parametrize("pairs", [[("a", "b"), ("c", None)], [["a", "b"], ["c", float("nan")]]])
def test_pairs_and_lists_of_labels_in_memory_become_columns(pairs):
    table = splits_of(pairs, [("x", "y"), []], None, "text", "label")["train"]
    assert table.to_list() == [
        {"text": "a", "pair": "b", "label": ["x", "y"]},
        {"text": "c", "pair": "", "label": []},
    ]
