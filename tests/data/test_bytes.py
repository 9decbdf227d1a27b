"""Bytes as words: each text and its bytes are the same, whatever is in it, and the library's file agrees."""

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers.pre_tokenizers import ByteLevel

from rnn_jax.data.tokenizer import Tokenizer, tokenizer_kind
from rnn_jax.data.vocabularies import BYTES
from rnn_jax.errors import InputError

PROPERTY = settings(max_examples=60, derandomize=True, deadline=None)
RAW = {"lowercase": False, "strip_html": False}
TEXTS = [
    "A film.<br /><br />",
    " \x00\t\x1c\u2028\n",
    "naïve 电影 😀 e\u0301 ﷽",
    "[PAD] [UNK] \u0120",
    "",
    "İİ ΣΑΣ ẞ",
]


def bytes_of(vocab_size=258, **options):
    return Tokenizer.train(["no text is looked at"], vocab_size, kind="bytes", **RAW | options)


@PROPERTY
@given(st.text(max_size=30))
def test_the_ids_of_a_text_are_its_bytes_and_give_it_back(text):
    tokenizer = bytes_of()
    encodable = text.encode("utf-8", "replace")
    ids = tokenizer.encode([text])[0]
    assert ids.dtype == np.int32
    assert bytes((ids - 2).tolist()) == encodable
    assert tokenizer.joined(tokenizer.words_of([text])[0]) == encodable.decode()
    spelt, words = tokenizer.spell(text)
    np.testing.assert_array_equal(spelt, ids)
    assert len(words) == len(ids)
    assert "".join(words) == encodable.decode()


@pytest.mark.parametrize("lowercase", [False, True])
@pytest.mark.parametrize("strip_html", [False, True])
def test_the_library_reads_the_saved_file_as_we_read_texts(lowercase, strip_html, tmp_path):
    tokenizer = bytes_of(10_000, lowercase=lowercase, strip_html=strip_html)
    library = tokenizers.Tokenizer.from_str(tokenizer.to_json())
    (tmp_path / "tokenizer.json").write_text(tokenizer.to_json())
    again = Tokenizer.load(tmp_path / "tokenizer.json")
    assert (again.kind, again.words) == ("bytes", tokenizer.words)
    for text in [*TEXTS, "".join(TEXTS)]:
        ids = tokenizer.encode([text])[0].tolist()
        assert library.encode(text).ids == again.encode([text])[0].tolist() == ids
        assert again.spell(text)[0].tolist() == ids


def test_case_and_line_breaks_are_folded_where_the_settings_say_so():
    def read(text, **options):
        return bytes((bytes_of(**options).encode([text])[0] - 2).tolist())

    assert read("A<br />É") == "A<br />É".encode()
    assert read("A<br />É", lowercase=True, strip_html=True) == "a é".encode()


def test_the_vocabulary_is_all_bytes_in_their_order_whatever_the_texts_and_the_size():
    assert sorted(BYTES) == sorted(ByteLevel.alphabet())
    for size in (258, 30_000):
        tokenizer = bytes_of(size)
        assert tokenizer.vocab_size == 258
        assert tokenizer.words == ["[PAD]", "[UNK]", *BYTES]
    assert bytes_of().filled(300).words[-1] == "[UNUSED 299]"
    with pytest.raises(InputError, match=r"text\.vocab_size is 257, but bytes have 258 ids; raise it"):
        bytes_of(257)
    assert tokenizer_kind("bytes", ["很好看的电影"]) == "bytes"


def test_a_file_whose_bytes_have_other_numbers_is_refused():
    saved = bytes_of().to_json()
    swapped = saved.replace('"A": 67', '"A": 68').replace('"B": 68', '"B": 67')
    assert swapped != saved
    with pytest.raises(InputError, match="another kind"):
        Tokenizer.from_json(swapped)


def test_what_a_model_writes_is_decoded_and_half_a_character_is_marked():
    tokenizer = bytes_of()
    first, *_ = tokenizer.words_of(["é"])[0]
    assert tokenizer.joined([first, *tokenizer.words_of(["n"])[0]], after="caf") == "caf\ufffdn"
    assert tokenizer.joined(["[UNK]", "[PAD]"], after="a") == "a"
