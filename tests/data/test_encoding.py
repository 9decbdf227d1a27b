"""The cache of encoded texts: equal to a fresh encoding, keyed by all that determines it, never torn."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rnn_jax.data import encoding
from rnn_jax.data.encoding import default_cache, encode_splits
from rnn_jax.data.tokenizer import Tokenizer

SPLITS = {"train": ["One two.", "", "two<br />Three"], "test": ["four one"]}
SETTINGS = {"vocab_size": 10, "lowercase": True, "strip_html": True}


def encode(cache, splits=SPLITS, vocabulary_texts=None, **changes):
    texts = splits["train"] if vocabulary_texts is None else vocabulary_texts
    return encode_splits(splits, texts, cache=cache, **{**SETTINGS, **changes})


def assert_same(first, second):
    assert first[0].to_json() == second[0].to_json()
    assert first[1].keys() == second[1].keys()
    for name in first[1]:
        for ours, theirs in zip(first[1][name], second[1][name], strict=True):
            assert ours.dtype == theirs.dtype == np.int32
            np.testing.assert_array_equal(ours, theirs)


def forbid_training(monkeypatch):
    def fail(*arguments, **keywords):
        pytest.fail("trained again in place of reading the cache")

    monkeypatch.setattr(Tokenizer, "train", fail)


def test_each_split_is_encoded_with_the_vocabulary_of_the_given_texts(tmp_path):
    tokenizer, rows = encode(tmp_path)
    assert tokenizer.words == ["[PAD]", "[UNK]", "two", ".", "one", "three"]
    assert [row.tolist() for row in rows["train"]] == [[4, 2, 3], [], [2, 5]]
    assert [row.tolist() for row in rows["test"]] == [[1, 4]]


def test_a_second_call_reads_the_cache_and_equals_the_first(tmp_path, monkeypatch):
    first = encode(tmp_path / "new" / "folder")
    forbid_training(monkeypatch)
    assert_same(first, encode(tmp_path / "new" / "folder"))


@settings(max_examples=20, derandomize=True, deadline=None)
@given(st.dictionaries(st.sampled_from(["train", "validation", "test"]), st.lists(st.text()), min_size=1))
def test_any_texts_come_back_from_the_cache_equal(tmp_path_factory, splits):
    cache = tmp_path_factory.mktemp("cache")
    texts = [text for split in splits.values() for text in split]
    first = encode(cache, splits, texts)
    with pytest.MonkeyPatch.context() as monkeypatch:
        forbid_training(monkeypatch)
        assert_same(first, encode(cache, splits, texts))


CHANGES = {
    "vocab_size": {"vocab_size": 11},
    "lowercase": {"lowercase": False},
    "strip_html": {"strip_html": False},
    "vocabulary": {"vocabulary_texts": ["one"]},
    "a character": {"splits": {**SPLITS, "test": ["four One"]}},
    "one text cut into two": {"splits": {**SPLITS, "test": ["four", " one"]}},
    "a word moved to the next text": {"splits": {**SPLITS, "train": ["One", " two.", SPLITS["train"][2]]}},
    "a text moved to another split": {
        "splits": {"train": SPLITS["train"][:2], "test": ["two<br />Three", "four one"]}
    },
    "the order": {"splits": {**SPLITS, "train": SPLITS["train"][::-1]}},
    "a split left out": {"splits": {"train": SPLITS["train"]}},
    "a split's name": {"splits": {"train": SPLITS["train"], "tests": SPLITS["test"]}},
    "a lone surrogate": {"splits": {**SPLITS, "test": ["four one\ud800"]}},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_whatever_changes_the_result_changes_the_key(tmp_path, change):
    vocabulary = {"vocabulary_texts": SPLITS["train"]}
    encode(tmp_path, **vocabulary)
    encode(tmp_path, **{**vocabulary, **change})
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("name", ["WORD_PATTERN", "LINE_BREAK"])
def test_a_change_of_the_tokenisers_rules_changes_the_key(tmp_path, monkeypatch, name):
    encode(tmp_path)
    monkeypatch.setattr(encoding, name, "other")
    encode(tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def test_another_version_of_the_library_changes_the_key(tmp_path, monkeypatch):
    encode(tmp_path)
    monkeypatch.setattr("tokenizers.__version__", "0.0.0")
    encode(tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("kept", [0, 1, 50, 300, -60, -1])
def test_a_torn_cache_is_made_again(tmp_path, monkeypatch, kept):
    first = encode(tmp_path)
    (file,) = tmp_path.iterdir()
    content = file.read_bytes()
    file.write_bytes(content[:kept])
    assert_same(first, encode(tmp_path))
    forbid_training(monkeypatch)
    assert_same(first, encode(tmp_path))


@pytest.mark.parametrize("place", range(0, 2000, 97))
def test_a_cache_with_a_flipped_byte_is_never_believed(tmp_path, place):
    first = encode(tmp_path)
    (file,) = tmp_path.iterdir()
    content = bytearray(file.read_bytes())
    content[place] ^= 0xFF
    file.write_bytes(content)
    assert_same(first, encode(tmp_path))


def test_a_cache_that_cannot_be_written_fails_nothing(tmp_path):
    (tmp_path / "file").write_text("in the way")
    assert_same(encode(tmp_path / "file"), encode(tmp_path))
    assert (tmp_path / "file").read_text() == "in the way"


def test_a_full_disk_fails_nothing_and_leaves_no_half_of_a_file(tmp_path, monkeypatch):
    def savez(file, **arrays):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    first = encode(tmp_path / "other")
    monkeypatch.setattr(np, "savez", savez)
    assert_same(first, encode(tmp_path / "full"))
    assert list((tmp_path / "full").iterdir()) == []


def test_a_vocabulary_beyond_65_535_ids_comes_back_equal(tmp_path, monkeypatch):
    texts = [
        " ".join(f"w{word}" for word in range(start, start + 10_000)) for start in range(0, 70_000, 10_000)
    ]
    first = encode(tmp_path, {"train": texts}, texts, vocab_size=100_000)
    assert first[0].vocab_size == 70_002
    assert sorted(np.concatenate(first[1]["train"]).tolist()) == list(range(2, 70_002))
    forbid_training(monkeypatch)
    assert_same(first, encode(tmp_path, {"train": texts}, texts, vocab_size=100_000))


@pytest.mark.parametrize("words", [65_533, 65_534])
def test_ids_at_the_edge_of_16_bits_come_back_equal(tmp_path, words):
    texts = [" ".join(f"w{word}" for word in range(words))]
    first = encode(tmp_path, {"train": texts}, texts, vocab_size=70_000)
    assert_same(first, encode(tmp_path, {"train": texts}, texts, vocab_size=70_000))
    assert max(first[1]["train"][0]) == words + 1


def test_the_default_cache_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("RNN_JAX_CACHE", str(tmp_path / "own"))
    assert default_cache() == tmp_path / "own"
    monkeypatch.delenv("RNN_JAX_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert default_cache() == tmp_path / "xdg" / "rnn_jax"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert default_cache() == tmp_path / "home" / ".cache" / "rnn_jax"
