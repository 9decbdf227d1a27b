"""The data of a language model: what is held out, what is never read, and which way it is read."""

import json

import pytest

from rnn_jax.data.pipeline import load_documents
from rnn_jax.errors import InputError
from tests.data.test_windows import read

TEXT = {"vocab_size": 100, "lowercase": True, "strip_html": True}


def write(path, texts):
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))


def load(source, cache, reverse=False, share=0.25):
    settings = {"source": str(source), "text_column": "text", "validation_share": share, "split_seed": 0}
    return load_documents(settings, TEXT, 2, 3, reverse, cache)


def texts_of(windows, words):
    """Returns the texts that windows read, with the last words, which are only predicted."""
    return sorted(
        " ".join(words[index] for index in [*read_, predicted[-1]])
        for _, read_, predicted in read(windows.in_order())
    )


def test_all_texts_but_those_of_the_test_split_are_read_and_no_text_stands_in_both_parts(tmp_path):
    texts = [f"w{number} is text a" for number in range(20)]
    write(tmp_path / "data" / "train.jsonl", texts[:10] + texts[:5])  # five of them twice
    write(tmp_path / "data" / "unsupervised.jsonl", texts[10:])
    write(tmp_path / "data" / "test.jsonl", ["never read"] * 3)
    data = load(tmp_path / "data", tmp_path / "cache")
    words = data.tokenizer.words
    train, held = texts_of(data.train, words), texts_of(data.validation, words)
    assert len(train) + len(held) == 25
    assert len(held) == 6
    assert not set(train) & {text for text in held if "[UNK]" not in text}
    assert {text.split()[0] for text in held} == {"[UNK]"}  # words of held-out texts alone are not in it
    assert not {"never", "read"} & set(words)
    assert data.uses.sum() == sum(len(text.split()) for text in train)
    assert "words to predict: " in data.describe()
    assert "unknown: 25.00% of the words of the documents held out. WARNING" in data.describe()


def test_backward_windows_read_each_text_from_its_end(tmp_path):
    texts = [f"begin the {number} end" for number in range(8)]
    write(tmp_path / "texts.jsonl", texts)
    data = load(tmp_path / "texts.jsonl", tmp_path / "cache", reverse=True)
    words = data.tokenizer.words
    for text in texts_of(data.train, words):
        assert text.split()[0] == "end"
        assert text.split()[2:] == ["the", "begin"]


def test_shares_that_leave_nothing_are_refused(tmp_path):
    write(tmp_path / "texts.jsonl", ["a b c"] * 9)
    with pytest.raises(InputError, match="leaves 9 of 9 texts to train on and 0 held out"):
        load(tmp_path / "texts.jsonl", tmp_path / "cache")
    write(tmp_path / "short.jsonl", ["a", "b", "c", "d"])
    with pytest.raises(InputError, match="no documents of two words or more"):
        load(tmp_path / "short.jsonl", tmp_path / "cache")
