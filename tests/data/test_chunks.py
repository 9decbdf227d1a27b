"""Ids that are looked up chunk by chunk, against the `tokenizers` library on whole texts."""

import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rnn_jax.data import chunks
from rnn_jax.data.tokenizer import PATTERNS, Tokenizer

PROPERTY = settings(max_examples=25, derandomize=True, deadline=None)
PARTS = ["a fine film", "<br />", "<BR\n>", "<br\u00a0/>", "DON'T", "n'tn't", "it's", "'sx", "a_b", " ", "\t"]
PARTS += [
    "\x1c",
    "\x85",
    "\u3000",
    "\u4e2d\u6587",
    "cafe\u0301",
    "\u017f",
    "\u212a",
    "\ud800",
    "\u2581",
    "[PAD]",
]
TEXTS = st.lists(st.lists(st.sampled_from(PARTS) | st.text(max_size=3), max_size=8).map("".join), max_size=4)


def trained(kind, lowercase=True, strip_html=True):
    texts = [part.encode("utf-8", "replace").decode() for part in PARTS]
    return Tokenizer.train(texts, 300 if kind == "bytes" else 200, lowercase, strip_html, kind)


def by_library(tokenizer, texts):
    encodable = [text.encode("utf-8", "replace").decode() for text in texts]
    return [tokenizer.backend.encode(text).ids for text in encodable]


@pytest.mark.parametrize("kind", PATTERNS)
@pytest.mark.parametrize(("lowercase", "strip_html"), [(True, True), (False, False)])
def test_ids_are_the_librarys_for_every_kind_of_words(kind, lowercase, strip_html):
    tokenizer = trained(kind, lowercase, strip_html)

    @PROPERTY
    @given(TEXTS)
    def check(texts):
        for _ in range(2):  # looked up the second time
            assert [row.tolist() for row in tokenizer.encode(texts)] == by_library(tokenizer, texts)
            assert [tokenizer.encode([text])[0].tolist() for text in texts] == by_library(tokenizer, texts)

    check()


def test_a_word_that_the_pattern_splits_is_split_though_the_vocabulary_has_it():
    tokenizer = Tokenizer.of_words(["ice-cream", "ice", "n't", "don't"], lowercase=True)
    for text in ("ice-cream", "don't", "Ice"):
        assert tokenizer.encode([text])[0].tolist() == tokenizer.backend.encode(text).ids


def test_what_is_kept_is_bounded_and_what_came_first_stays(monkeypatch):
    monkeypatch.setattr(chunks, "MOST", 8)
    tokenizer = trained("words")
    for first in range(0, 200, 5):
        texts = [" ".join(f"w{index}" for index in range(first, first + 5)), "x" * 100, "caf\u00e9 film"]
        assert [row.tolist() for row in tokenizer.encode(texts)] == by_library(tokenizer, texts)
        assert len(tokenizer._chunks) <= 8 + 7
    assert "w0" in tokenizer._chunks
    assert "x" * 100 not in tokenizer._chunks


def test_rows_belong_to_the_caller():
    tokenizer = trained("words")
    tokenizer.encode(["a fine film"])[0][:] = 0
    assert tokenizer.encode(["a fine film"])[0].tolist() == by_library(tokenizer, ["a fine film"])[0]


def test_a_copy_in_another_process_carries_no_chunks():
    tokenizer = trained("words")
    before = len(pickle.dumps(tokenizer))
    tokenizer.encode([f"word{index}" for index in range(500)])
    copy = pickle.loads(pickle.dumps(tokenizer))
    assert len(pickle.dumps(tokenizer)) == before
    assert copy.encode(["a fine film"])[0].tolist() == tokenizer.encode(["a fine film"])[0].tolist()
