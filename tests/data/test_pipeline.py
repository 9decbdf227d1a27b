"""The data of a run: texts to train on may be cut shorter than texts to test on."""

import json

import numpy as np
import pytest

import train_loop
from rnn_jax.data.pipeline import load_data
from rnn_jax.data.tokenizer import truncate
from rnn_jax.errors import InputError
from tests.helpers.jobs import tiny_config


def write(path, lengths):
    """Writes a text for each length, of words that are numbered from its start, with labels in turn."""
    texts = [
        " ".join(f"{path.stem}{index}x{word}" for word in range(size)) for index, size in enumerate(lengths)
    ]
    rows = [{"text": text, "label": index % 2} for index, text in enumerate(texts)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def load(folder, train, test, **text):
    folder.mkdir()
    write(folder / "train.jsonl", train)
    write(folder / "test.jsonl", test)
    config = tiny_config(folder)
    config.text.update(text)
    return load_data(config.data, config.text, 4, 2, folder / "cache")


TRAIN = [*range(1, 61), *range(1, 61)]
TEST = [5, 17, 33, 47, 48, 60]


def test_texts_to_train_on_are_cut_shorter_and_others_are_not(tmp_path):
    data = load(tmp_path / "data", TRAIN, TEST, max_length=48, train_length=20, truncate="head_tail")
    whole = load(tmp_path / "whole", TRAIN, TEST, max_length=1000)
    kept = truncate(whole.train.examples, 20, "head_tail")
    assert [row.tolist() for row in data.train.examples] == [row.tolist() for row in kept]
    for split in ("validation", "test"):
        kept = truncate(getattr(whole, split).examples, 48, "head_tail")
        assert [row.tolist() for row in getattr(data, split).examples] == [row.tolist() for row in kept]
    assert max(data.test.lengths) == 48 == data.train.buckets[-1]
    assert data.train.buckets == data.validation.buckets == data.test.buckets == data.task["buckets"]
    assert [size for size in data.train.buckets if size <= 20] == [16, 20]
    assert max(size for _, size in data.train.shapes) == 20


def test_without_a_length_for_training_both_are_cut_alike(tmp_path):
    found = [
        load(tmp_path / str(length), TRAIN, TEST, max_length=48, train_length=length) for length in (0, 48)
    ]
    assert found[0].digest() == found[1].digest()
    assert found[0].task == found[1].task
    assert np.max(found[0].train.lengths) == np.max(found[0].test.lengths) == 48


def test_there_is_a_padded_length_for_texts_longer_than_any_to_train_on(tmp_path):
    data = load(tmp_path / "data", [3, 5] * 20, TEST, max_length=48, train_length=20)
    assert data.train.buckets[-1] == 48
    assert sum(len(rows.rows[rows.rows >= 0]) for rows in data.test.in_order()) == len(TEST)


def test_a_length_for_training_beyond_that_for_all_is_refused_before_anything_is_read(tmp_path):
    config = tiny_config(tmp_path / "nowhere", text__max_length=48, text__train_length=49)
    with pytest.raises(InputError, match=r"text\.train_length is 49, more than text\.max_length, 48"):
        train_loop.train_and_evaluate(config, tmp_path / "run")


def test_a_vocabulary_source_in_another_encoding_has_a_cure_that_reaches_it(tmp_path):
    (tmp_path / "words.csv").write_bytes("text\nun été à la plage, où il a plu déjà\n".encode("cp1252"))
    with pytest.raises(InputError, match=r"text\.vocabulary_source: could not read .*words\.csv") as error:
        load(tmp_path / "data", TRAIN, TEST, vocabulary_source=str(tmp_path / "words.csv"))
    assert str(error.value).endswith("it looks like cp1252: save it as UTF-8")


@pytest.mark.parametrize("folded", [True, False])
def test_bytes_of_folded_texts_are_said_to_be_folded(tmp_path, folded):
    rows = [{"text": f"A film {n}<br />", "label": n % 2} for n in range(20)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = tiny_config(tmp_path / "rows.jsonl")
    config.text.update(tokenizer="bytes", vocab_size=300, lowercase=folded, strip_html=folded)
    data = load_data(config.data, config.text, 4, 1, tmp_path / "cache")
    assert ("text.lowercase and text.strip_html: texts are changed" in data.describe()) == folded
    assert "vocabulary: 258" in data.describe()
    assert "unknown: 0.00%" in data.describe()
    assert bytes((data.train.examples[0] - 2).tolist()).startswith(b"a film" if folded else b"A film")


HAN = "电影院里看的房间很大早餐太差了演员好"


@pytest.mark.parametrize("name", ["auto", "words", "characters", "bpe", "unigram"])
def test_every_tokeniser_says_how_much_of_the_validation_texts_it_does_not_know(tmp_path, name):
    known = [{"text": "".join(HAN[(n + k * n) % 17] for k in range(9)), "label": n % 2} for n in range(40)]
    strange = [{"text": "жзик лмно " + "п" * (n + 1), "label": n % 2} for n in range(5)]
    for split, rows in (("train", known), ("validation", strange), ("test", known[:3])):
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = tiny_config(tmp_path)
    config.text.update(tokenizer=name, vocab_size=60)
    data = load_data(config.data, config.text, 4, 1, tmp_path / "cache")
    assert ("most letters are of scripts without spaces" in data.describe()) == (name == "auto")
    read = np.concatenate(data.validation.examples)
    assert f"unknown: {(read == 1).mean():.2%} of the words of the validation texts" in data.describe()
    assert ". WARNING: that is much; raise text.vocab_size" in data.describe()
    config.data.source = str(tmp_path / "train.jsonl")
    held = load_data(config.data, config.text, 4, 1, tmp_path / "cache")
    assert ("WARNING" in held.describe()) == (name == "words"), "sentences of known characters are known"
