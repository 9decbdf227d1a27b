"""The tokeniser against token lists written by hand and against the `tokenizers` library on whole texts."""

import json
import time

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from rnn_jax.data.tokenizer import PAD, UNK, Tokenizer, truncate

PROPERTY = settings(max_examples=30, derandomize=True, deadline=None)
# Text of the pieces that the rules are about, and of any character at all.
FRAGMENTS = st.sampled_from(
    [
        "<br />",
        "<BR>",
        "<br/>",
        "<br  />",
        "<br\n />",
        "<br",
        " ",
        " ",
        "/>",
        "don't",
        "IT'S",
        "'",
        "ΣΑΣ",
        "İ",
    ]
)
TEXTS = st.lists(FRAGMENTS | st.text(max_size=4), max_size=12).map("".join)


def train(*texts, vocab_size=1000, lowercase=True, strip_html=True):
    return Tokenizer.train(texts, vocab_size, lowercase, strip_html)


def tokens(text, **options):
    """Returns the words of one text, by way of a vocabulary of that text alone."""
    tokenizer = train(text, **options)
    return [tokenizer.words[index] for index in tokenizer.encode([text])[0]]


def library_text(text):
    return text.encode("utf-8", "replace").decode("utf-8")


def test_pad_is_0_and_unknown_is_1():
    tokenizer = train("one two two")
    assert (PAD, UNK) == (0, 1)
    assert tokenizer.words == ["[PAD]", "[UNK]", "two", "one"]
    assert tokenizer.encode(["two three one"])[0].tolist() == [2, UNK, 3]


def test_the_most_frequent_words_are_kept_and_ties_go_by_their_characters():
    tokenizer = train("pear pear fig apple", "fig kiwi", vocab_size=5)
    assert tokenizer.words[2:] == ["fig", "pear", "apple"]  # apple and kiwi are met once each


def test_the_vocabulary_does_not_depend_on_the_order_of_the_texts():
    texts = ["b a", "c a d", "d e f b"]
    assert train(*texts).words == train(*reversed(texts)).words


@pytest.mark.parametrize(("vocab_size", "expected"), [(3, 3), (4, 4), (5, 5), (6, 5), (100, 5)])
def test_vocab_size_counts_pad_and_unknown_and_is_never_exceeded(vocab_size, expected):
    assert train("one two three", vocab_size=vocab_size).vocab_size == expected


@pytest.mark.parametrize("vocab_size", [-1, 0, 2])
def test_a_vocabulary_without_room_for_a_word_is_refused(vocab_size):
    with pytest.raises(ValueError, match=f"vocab_size is {vocab_size}"):
        train("one", vocab_size=vocab_size)


def test_case_is_folded_only_on_request():
    assert tokens("Good GOOD good", lowercase=True) == ["good"] * 3
    assert tokens("Good GOOD good", lowercase=False) == ["Good", "GOOD", "good"]


@pytest.mark.parametrize("line_break", ["<br />", "<br/>", "<br>", "<BR />", "<br  />", "<br\n/>"])
def test_line_breaks_are_removed_only_on_request(line_break):
    text = f"one{line_break}two {line_break} three"
    assert tokens(text, strip_html=True) == ["one", "two", "three"]
    mark = [character for character in line_break.lower().replace("br", "b") if not character.isspace()]
    mark = ["br" if part == "b" else part for part in mark]
    assert tokens(text, strip_html=False) == ["one", *mark, "two", *mark, "three"]


def test_a_line_break_that_is_none_is_kept():
    assert tokens("a <br b <b> <broad>") == ["a", "<", "br", "b", "<", "b", ">", "<", "broad", ">"]


def test_each_punctuation_mark_is_a_token():
    assert tokens('Well... "so-so", 7/10!') == [
        "well", ".", ".", ".", '"', "so", "-", "so", '"', ",", "7", "/", "10", "!"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("don't", "do n't"),
        ("can't won't couldn't've", "ca n't wo n't could n't 've"),
        ("it's I'm we're you'll he'd they've", "it 's i 'm we 're you 'll he 'd they 've"),
        ("'salad' o'clock the boys'", "' salad ' o ' clock the boys '"),
        ("DON'T", "do n't"),
    ],
)
def test_contractions_split_as_in_the_penn_treebank(text, expected):
    assert tokens(text) == expected.split()


def test_upper_case_contractions_split_too_where_case_is_kept():
    assert tokens("DON'T It'S", lowercase=False) == ["DO", "N'T", "It", "'S"]


def test_no_text_contains_padding():
    tokenizer = train("[PAD] [UNK] [pad] [unk]", "[PAD][PAD]", lowercase=False)
    for lookalike in ("[PAD]", "[UNK]", "x[PAD]x", "[ PAD ]"):
        assert PAD not in tokenizer.encode([lookalike])[0]
    words = [tokenizer.words[index] for index in tokenizer.encode(["[PAD] [UNK]"])[0]]
    assert words == ["[", "PAD", "]", "[", "UNK", "]"]


@PROPERTY
@given(st.lists(TEXTS, max_size=3), TEXTS)
def test_no_text_contains_padding_whatever_it_is(training, text):
    assert PAD not in train(*training, text).encode([text])[0]


@pytest.mark.parametrize("text", ["", " ", "\n\t \r", "\u00a0\u2003", "<br />", "<br /> <br>"])
def test_a_text_of_no_words_is_an_empty_row(text):
    row = train("some words").encode(["some", text, "words"])[1]
    assert row.shape == (0,)
    assert row.dtype == np.int32


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("good 😀😀!", ["good", "😀", "😀", "!"]),
        ("a\0b", ["a", "\0", "b"]),
        ("x\ud800 y\udfff", ["x", "?", "y", "?"]),
        ("cafe\u0301 caf\u00e9", ["cafe\u0301", "caf\u00e9"]),
        ("हिन्दी Σ", ["हिन्दी", "\u03c3"]),
        ("1_000 a_b", ["1_000", "a_b"]),
        ("one\u2028two\u00a0three", ["one", "two", "three"]),
    ],
)
def test_unusual_characters_have_a_defined_answer(text, expected):
    assert tokens(text) == expected


def test_a_text_of_100_000_words_takes_less_than_a_second():
    text = " ".join(f"word{index % 5000}," for index in range(50_000))
    tokenizer = train("word1 , word2")
    start = time.perf_counter()
    row = tokenizer.encode([text])[0]
    assert time.perf_counter() - start < 1
    assert len(row) == 100_000


@pytest.mark.parametrize("unit", ["x", "'", "n", "<br ", "\u0301", "[PAD]"])
def test_no_text_of_half_a_million_characters_takes_more_than_linear_time(unit):
    start = time.perf_counter()
    train("x").encode([unit * (500_000 // len(unit))])
    assert time.perf_counter() - start < 10


@pytest.mark.parametrize("wrong", [None, 7, b"bytes", float("nan"), ["nested"]])
def test_a_text_that_is_no_string_is_named_by_its_position(wrong):
    with pytest.raises(TypeError, match=r"text 2 is .* not a string"):
        train("one").encode(["one", "two", wrong])


def test_a_string_in_place_of_a_list_is_refused():
    with pytest.raises(TypeError, match="give a list"):
        train("one").encode("one two")


def test_no_texts_give_no_rows():
    assert train("one").encode([]) == []


@PROPERTY
@given(st.lists(TEXTS, max_size=5), st.booleans(), st.booleans())
def test_ids_are_those_of_the_tokenizers_library_on_the_whole_text(texts, lowercase, strip_html):
    tokenizer = train(*texts[::2], lowercase=lowercase, strip_html=strip_html)
    library = tokenizers.Tokenizer.from_str(tokenizer.to_json())
    for row, text in zip(tokenizer.encode(texts), texts, strict=True):
        assert row.tolist() == library.encode(library_text(text)).ids


@PROPERTY
@given(st.lists(TEXTS, max_size=5), st.integers(3, 20))
def test_the_vocabulary_is_that_of_the_tokenizers_librarys_own_trainer(texts, vocab_size):
    ours = train(*texts, vocab_size=vocab_size)
    library = tokenizers.Tokenizer.from_str(ours.to_json())
    trainer = tokenizers.trainers.WordLevelTrainer(
        vocab_size=vocab_size, special_tokens=["[PAD]", "[UNK]"], show_progress=False
    )
    library.train_from_iterator(map(library_text, texts), trainer)
    expected = library.get_vocab()
    assert ours.words == sorted(expected, key=expected.get)


@PROPERTY
@given(st.lists(TEXTS, max_size=5), st.booleans(), st.booleans())
def test_a_saved_tokeniser_reads_back_equal(tmp_path_factory, texts, lowercase, strip_html):
    tokenizer = train(*texts, lowercase=lowercase, strip_html=strip_html)
    path = tmp_path_factory.mktemp("saved") / "tokenizer.json"
    path.write_text(tokenizer.to_json(), encoding="utf-8")
    loaded = Tokenizer.load(path)
    assert loaded.words == tokenizer.words
    assert loaded.to_json() == tokenizer.to_json()
    probes = [*texts, "Never Met <br /> don't"]
    for ours, theirs in zip(tokenizer.encode(probes), loaded.encode(probes), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def foreign(model=None, special=("[PAD]", "[UNK]"), added=False):
    words = {word: index for index, word in enumerate((*special, "x"))}
    backend = tokenizers.Tokenizer(model or tokenizers.models.WordLevel(words, unk_token="x"))
    if added:
        backend = tokenizers.Tokenizer.from_str(train("x").to_json())
        backend.add_special_tokens(["[PAD]"])
    return backend.to_str()


@pytest.mark.parametrize(
    "content",
    {
        "empty": "",
        "half": train("one two").to_json()[:200],
        "other JSON": json.dumps({"vocab": ["a"]}),
        "ids 0 and 1 are words": foreign(special=("a", "b")),
        "no split into words": foreign(),
        "byte pairs": foreign(tokenizers.models.BPE({"[PAD]": 0, "[UNK]": 1, "x": 2}, [])),
        "reads [PAD] in a text as padding": foreign(added=True),
    }.items(),
    ids=lambda item: item[0],
)
def test_a_broken_or_foreign_tokeniser_is_refused_with_its_path(tmp_path, content):
    path = tmp_path / "tokenizer.json"
    path.write_text(content[1])
    with pytest.raises(ValueError, match=r"tokenizer\.json holds no tokeniser of rnn_jax"):
        Tokenizer.load(path)


def test_a_missing_or_binary_tokeniser_is_refused(tmp_path):
    with pytest.raises(ValueError, match="holds no tokeniser"):
        Tokenizer.load(tmp_path / "none.json")
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="holds no tokeniser"):
        Tokenizer.load(tmp_path / "binary.json")


def list_truncate(words, size, keep):
    if len(words) <= size:
        return words
    head = {"head": size, "tail": 0, "head_tail": size // 4}[keep]
    return [word for place, word in enumerate(words) if place < head or place >= len(words) - (size - head)]


@pytest.mark.parametrize("keep", ["head", "tail", "head_tail"])
@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 8, 20])
def test_truncation_keeps_the_words_that_a_list_comprehension_keeps(keep, size):
    lists = [list(range(100, 100 + length)) for length in range(13)]
    cut = truncate([np.array(words, dtype=np.int32) for words in lists], size, keep)
    assert [row.tolist() for row in cut] == [list_truncate(words, size, keep) for words in lists]
    assert all(row.dtype == np.int32 for row in cut)


def test_an_unknown_truncation_is_refused_with_the_nearest():
    with pytest.raises(
        ValueError, match=r"truncate is 'heads'.*head, tail, head_tail.*Did you mean 'head'\?"
    ):
        truncate([], 4, "heads")


@pytest.mark.parametrize("size", [0, -3])
def test_truncation_to_no_words_is_refused(size):
    with pytest.raises(ValueError, match=f"max_length is {size}"):
        truncate([], size, "head")
