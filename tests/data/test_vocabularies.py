"""Pieces of words: what is learned, how it splits, that it reads back equal, and what is not believed."""

import json
import subprocess
import sys

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from rnn_jax.data.tokenizer import Tokenizer, tokenizer_kind
from rnn_jax.data.vocabularies import MARK, SUBWORDS
from rnn_jax.errors import InputError

PROPERTY = settings(max_examples=30, derandomize=True, deadline=None)
STEMS, ENDS = ("film", "act", "dull", "great", "mov"), ("", "s", "er", "ing", "ed")
ENGLISH = [f"a {stem}{end}, and {end}{stem}!" for stem in STEMS for end in ENDS for _ in range(4)]
CHINESE = ["这部电影很好看。", "电影太差了。", "房间很大", "很好看的房间"] * 9
KINDS = ("words", "scripts", "characters", *SUBWORDS)


def train(kind, texts=ENGLISH, vocab_size=60, **options):
    return Tokenizer.train(
        texts, vocab_size, **{"lowercase": True, "strip_html": True, "kind": kind} | options
    )


@pytest.fixture(scope="module", params=KINDS)
def tokenizer(request):
    return train(request.param)


@pytest.mark.parametrize("kind", SUBWORDS)
@pytest.mark.parametrize("texts", [ENGLISH, CHINESE], ids=["English", "Chinese"])
def test_a_frequent_word_is_few_pieces_and_a_word_never_seen_is_known_by_its_pieces(kind, texts):
    tokenizer = train(kind, texts)
    known, new = ("films", "dulling") if texts is ENGLISH else ("很好看的房间", "大电影")
    pieces = dict(zip(("known", "new"), tokenizer.words_of([known, new]), strict=True))
    assert len(pieces["known"]) < len(known)
    assert "[UNK]" not in pieces["new"]
    assert "".join(pieces["new"]).replace(MARK, "") == new
    assert "[UNK]" in tokenizer.words_of(["ж"])[0], "only a character that was never seen is unknown"
    assert tokenizer.words_of([new + "\n"]) == tokenizer.words_of([f" {new}"])


@pytest.mark.parametrize("kind", SUBWORDS)
@pytest.mark.parametrize("vocab_size", [30, 45])
def test_vocab_size_counts_padding_and_the_unknown_and_is_never_exceeded(kind, vocab_size):
    tokenizer = train(kind, vocab_size=vocab_size)
    assert tokenizer.vocab_size <= vocab_size
    assert tokenizer.words[:2] == ["[PAD]", "[UNK]"]


def test_of_more_characters_than_ids_the_least_frequent_are_unknown_to_pairs_and_refused_by_a_unigram_model():
    assert train("bpe", CHINESE, 10).vocab_size == 10
    with pytest.raises(
        InputError, match=r"vocab_size is 10, fewer than the characters .* text.tokenizer to 'bpe'"
    ):
        train("unigram", CHINESE, 10)


@pytest.mark.parametrize("kind", SUBWORDS)
@pytest.mark.parametrize("texts", [[], [""], ["a"]])
def test_hardly_any_text_is_enough(kind, texts):
    assert train(kind, texts, 10).encode(["a", ""])[1].size == 0


def test_a_tokeniser_reads_back_equal_in_every_way(tokenizer):
    again = Tokenizer.from_json(tokenizer.to_json())
    assert (again.kind, again.words) == (tokenizer.kind, tokenizer.words)
    texts = [*ENGLISH[::7], "Filmish [PAD] [UNK] don't \u2581 ж", ""]
    for ours, theirs in zip(tokenizer.encode(texts), again.encode(texts), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    library = tokenizers.Tokenizer.from_str(tokenizer.to_json())
    assert library.encode(texts[1]).ids == tokenizer.encode(texts)[1].tolist()


@PROPERTY
@given(st.lists(st.text(max_size=12), max_size=4))
def test_no_text_contains_padding_and_its_words_are_cut_out_of_it(tokenizer, texts):
    for text in ["[PAD] [UNK][PAD]", *texts]:
        ids, words = tokenizer.spell(text)
        assert 0 not in ids
        assert len(ids) == len(words)
        place = 0
        encodable = text.encode("utf-8", "replace").decode("utf-8")
        for word in words:
            place = encodable.index(word, place)  # in their order
        np.testing.assert_array_equal(ids, tokenizer.encode([text])[0])


def test_a_filled_vocabulary_reads_texts_as_before(tokenizer):
    filled = tokenizer.filled(90)
    assert filled.vocab_size == 90
    assert Tokenizer.from_json(filled.to_json()).words == filled.words
    np.testing.assert_array_equal(filled.encode(ENGLISH)[3], tokenizer.encode(ENGLISH)[3])


JOINED = {
    "words": "a film , and film !",
    "scripts": "a film , and film !",
    "characters": "afilm,andfilm!",
    "bpe": "a film , and film !",
    "unigram": "a film , and film !",
}


def test_words_are_joined_as_the_tokeniser_splits(tokenizer):
    words = tokenizer.words_of(["A film, and film!"])[0]
    assert tokenizer.joined(words) == JOINED[tokenizer.kind]
    assert tokenizer.joined(words[1:], after=tokenizer.joined(words[:1])) == JOINED[tokenizer.kind]


def test_scripts_without_spaces_are_joined_without_and_other_words_with_them():
    tokenizer = train("scripts", CHINESE)
    assert tokenizer_kind("auto", CHINESE) == "scripts"
    assert tokenizer.joined(["好", "看", "dvd", "player", "。"], after="很") == "很好看dvd player。"


SCRIPT = """
import json, sys
sys.path.insert(0, {root!r})
from tests.data.test_vocabularies import CHINESE, train
print(train("unigram", CHINESE + ["rare characters: 甲乙丙丁戊己庚辛"]).to_json())
"""


@pytest.mark.slow
def test_every_process_learns_the_same_unigram_model(request):
    script = SCRIPT.format(root=str(request.config.rootpath))
    run = [sys.executable, "-c", script]
    first, second = (subprocess.run(run, capture_output=True, check=True).stdout for _ in range(2))
    assert first == second


def test_the_order_of_a_unigram_model_is_that_of_scores_and_then_of_letters():
    learned = json.loads(train("unigram").to_json())["model"]["vocab"][2:]
    assert learned == sorted(learned, key=lambda entry: (-entry[1], entry[0]))


def broken(kind, **changes):
    value = json.loads(train(kind).to_json())
    value["model"] |= changes
    return json.dumps(value)


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        ("bpe", {"merges": [["a", "zzz"]]}, "no pair of known pieces"),
        ("bpe", {"merges": 7}, "no list of pairs"),
        ("bpe", {"dropout": 0.5}, "of another kind"),
        ("bpe", {"vocab": {"[PAD]": 0, "[UNK]": 2}}, "not 0, 1, 2"),
        ("unigram", {"vocab": [["[PAD]", 0.0], ["[UNK]", 0.0], ["", -1.0]]}, "no list of pieces"),
        ("unigram", {"vocab": [["[PAD]", 0.0], ["[UNK]", 0.0], ["a", None]]}, "no list of pieces"),
        ("unigram", {"vocab": [["[PAD]", 0.0], ["[UNK]", 0.0], ["a", -1.0], ["a", -2.0]]}, "stands twice"),
        ("unigram", {"unk_id": 5}, "of another kind"),
        ("words", {"merges": []}, "of another kind"),
    ],
)
def test_what_was_not_learned_here_is_refused(kind, changes, message):
    with pytest.raises(InputError, match=message):
        Tokenizer.from_json(broken(kind, **changes))
