"""Texts and labels in memory: every form of them becomes the same table, and what fits none is refused."""

import datasets
import numpy as np
import pandas as pd
import pytest

from rnn_jax.data.in_memory import are_words, splits_of, texts_in
from rnn_jax.errors import InputError

TEXTS, LABELS = ["dull film", "fine film", "007"], [0, 1, 1]
ROWS = [{"text": text, "label": label} for text, label in zip(TEXTS, LABELS, strict=True)]
NAMES = "text", "label"

FORMS = {
    "lists": lambda: (TEXTS, LABELS),
    "tuples": lambda: (tuple(TEXTS), tuple(LABELS)),
    "numpy": lambda: (np.array(TEXTS), np.array(LABELS, np.int8)),
    "a column of a matrix": lambda: (np.array(TEXTS)[:, None], np.array(LABELS)[:, None]),
    "objects of numpy": lambda: (np.array(TEXTS, object), np.array(LABELS)),
    "pandas": lambda: (pd.Series(TEXTS, index=[5, 3, 9]), pd.Series(LABELS, dtype="category")),
    "one-column frames": lambda: (pd.DataFrame({"a": TEXTS}), pd.DataFrame({"b": LABELS})),
    "columns of datasets": lambda: tuple(datasets.Dataset.from_list(ROWS)[name] for name in NAMES),
    "generators": lambda: ((text for text in TEXTS), (label for label in LABELS)),
    "a frame": lambda: (pd.DataFrame(ROWS), None),
    "a dataset": lambda: (datasets.Dataset.from_list(ROWS), None),
    "rows": lambda: (ROWS, None),
    "generated rows": lambda: ((row for row in ROWS), None),
    "a stream": lambda: (datasets.Dataset.from_list(ROWS).to_iterable_dataset(), None),
    "pairs": lambda: (zip(TEXTS, LABELS, strict=True), None),
    "splits": lambda: (datasets.DatasetDict(train=datasets.Dataset.from_list(ROWS)), None),
    "splits of frames": lambda: ({"train": pd.DataFrame(ROWS)}, None),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_the_same_table(form):
    splits = splits_of(*FORMS[form](), None, *NAMES)
    assert list(splits) == ["train"]
    assert splits["train"].to_list() == ROWS


@pytest.mark.parametrize("own", [(["new"], [1]), pd.DataFrame({"text": ["new"], "label": [1]})])
def test_a_validation_split_of_its_own(own):
    splits = splits_of(TEXTS, LABELS, own, *NAMES)
    assert splits["train"].to_list() == ROWS
    assert splits["validation"].to_list() == [{"text": "new", "label": 1}]


def test_the_splits_and_label_names_of_a_dataset_are_kept():
    feature = datasets.ClassLabel(names=["bad", "good"])
    whole = datasets.Dataset.from_list(ROWS).cast_column("label", feature)
    splits = splits_of(datasets.DatasetDict(train=whole, test=whole), None, None, *NAMES)
    assert list(splits) == ["train", "test"]
    assert splits["train"].features["label"].names == ["bad", "good"]


@pytest.mark.parametrize("labels", [[True, False, True], ["a", "b", "c"], [[1], [1, 2], []], [0.5, 1.0, 2.0]])
def test_labels_keep_their_type(labels):
    assert splits_of(TEXTS, labels, None, *NAMES)["train"]["label"][:] == labels


@pytest.mark.parametrize("nothing", [None, float("nan"), pd.NA, pd.NaT, np.nan])
def test_a_missing_text_is_none_in_training_and_empty_in_use(nothing):
    assert splits_of(["a", nothing], [0, 1], None, *NAMES)["train"]["text"][:] == ["a", None]
    assert list(texts_in(["a", nothing])) == ["a", ""]
    assert list(texts_in(pd.Series(["a", nothing], dtype=object))) == ["a", ""]


@pytest.mark.parametrize("nothing", [None, float("nan"), pd.NA])
def test_rows_may_lack_a_text_or_a_label_as_columns_may(nothing):
    rows = [{"text": "a"}, {"text": nothing, "label": "x"}, {"text": "b", "label": nothing}]
    assert splits_of(rows, None, None, *NAMES)["train"].to_list() == [
        {"text": "a", "label": None},
        {"text": None, "label": "x"},
        {"text": "b", "label": None},
    ]


@pytest.mark.parametrize(
    ("texts", "labels", "message"),
    [
        (TEXTS, [0, 1], "there are 3 texts and 2 labels"),
        ("a film", [0], "texts is one string, 'a film'"),
        ([], [], "there are no texts"),
        (["a", 7], [0, 1], "text 1 is '7', a int"),
        ([b"a"], [0], "a bytes; give strings"),
        (np.array([["a", "b"]]), [0], r"texts has the shape \(1, 2\); give one column"),
        (datasets.Dataset.from_dict({"text": TEXTS}), LABELS, r"shape \(3, 1\); give one column, such as"),
        (TEXTS, [0, 1, "a"], "label holds int, str, which no column can"),
        ([{"text": "a", "label": 1}, {"text": "b", "label": "x"}], None, "label holds int, str, which no"),
    ],
)
def test_what_is_no_table_is_refused(texts, labels, message):
    with pytest.raises(InputError, match=message):
        splits_of(texts, labels, None, *NAMES)


def test_a_stream_of_texts_is_read_as_it_is_asked_for():
    read = []
    texts = texts_in(read.append(number) or str(number) for number in range(10))
    assert next(texts) == "0"
    assert read == [0]


WORDS, TAGS = [["Dogs", "bark"], ["Run"]], [["NOUN", "VERB"], ["VERB"]]
SENTENCES = [{"tokens": words, "tags": tags} for words, tags in zip(WORDS, TAGS, strict=True)]
WORD_FORMS = {
    "lists": lambda: (WORDS, TAGS),
    "tuples": lambda: (tuple(map(tuple, WORDS)), list(map(tuple, TAGS))),
    "numpy": lambda: (list(map(np.array, WORDS)), list(map(np.array, TAGS))),
    "pandas": lambda: (pd.Series(WORDS), pd.Series(TAGS)),
    "generators": lambda: ((words for words in WORDS), (tags for tags in TAGS)),
    "a frame": lambda: (pd.DataFrame(SENTENCES), None),
    "a dataset": lambda: (datasets.Dataset.from_list(SENTENCES), None),
    "generated rows": lambda: ((row for row in SENTENCES), None),
    "pairs": lambda: (zip(WORDS, TAGS, strict=True), None),
    "splits": lambda: (datasets.DatasetDict(train=datasets.Dataset.from_list(SENTENCES)), None),
}


@pytest.mark.parametrize("form", WORD_FORMS)
def test_every_form_of_tagged_words_is_known_and_the_same_table(form):
    known, *given = are_words(*WORD_FORMS[form]())
    assert known
    assert splits_of(*given, None, "tokens", "tags", words=True)["train"].to_list() == SENTENCES


@pytest.mark.parametrize("form", FORMS)
def test_texts_are_not_taken_for_words_and_none_is_lost(form):
    known, *given = are_words(*FORMS[form]())
    assert not known
    assert splits_of(*given, None, *NAMES)["train"].to_list() == ROWS


@pytest.mark.parametrize(
    "given",
    [
        (TEXTS, [["a"], ["a", "b"], []]),  # several labels of a text
        ([("a text", "another")], [1]),  # two texts with one label
        ([("a text", ["a", "b"])], None),
        ([], []),
        ("texts.csv", None),
    ],
)
def test_lists_on_one_side_alone_are_no_tagged_words(given):
    assert not are_words(*given)[0]


def test_a_text_among_sentences_is_named():
    with pytest.raises(InputError, match="sentence 1 is 'Run', a str; give lists of words"):
        splits_of([["Dogs"], "Run"], TAGS, None, "tokens", "tags", words=True)
