"""Word vectors as arrays: each form gives the vectors of the text file, and nothing is unpickled."""

import pickle
import zipfile

import numpy as np
import pytest

from rnn_jax.errors import InputError
from rnn_jax.vectors.arrays import kept_vectors, table_of
from rnn_jax.vectors.lookup import coverage, read_vectors
from rnn_jax.vectors.readers import write_vectors
from rnn_jax.vectors.words import first_words

WORDS = ["film", "résumé", "Good"]
TABLE = np.array([[0.5, -1], [2, 0.25], [3, 4]], np.float32)
VOCABULARY = ["[PAD]", "[UNK]", "film", "résumé", "good", "dull"]


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was loaded",))


def npz(folder, words=WORDS, table=TABLE, name="v.npz"):
    np.savez(folder / name, words=np.array(words), vectors=table)
    (folder / f"{name}.npz").rename(folder / name) if not name.endswith(".npz") else None
    return folder / name


def npy(folder, mark="", words="v.txt"):
    np.save(folder / "v.npy", TABLE.astype(np.float64))
    (folder / words).write_text(mark + "\n".join(WORDS) + "\n", encoding="utf-8")
    return folder / "v.npy"


def text(folder, name):
    write_vectors(folder / "v.txt", WORDS, TABLE)
    return (folder / "v.txt").rename(folder / name)


FORMS = {
    "npz": npz,
    "npz of bytes": lambda folder: npz(folder, [word.encode() for word in WORDS]),
    "npz of halves": lambda folder: npz(folder, table=TABLE.astype(np.float16)),
    "npy": npy,
    "npy and a byte order mark": lambda folder: npy(folder, "\ufeff"),
    "npy and a named file": lambda folder: f"{npy(folder, words='w.list')}:w.list",
    "kv that is npz": lambda folder: npz(folder, name="v.kv"),
    "kv that is text": lambda folder: text(folder, "v.kv"),
    "text": lambda folder: text(folder, "v.vec"),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_has_the_same_vectors(tmp_path, form):
    found = read_vectors(str(FORMS[form](tmp_path)), VOCABULARY)
    assert found.table[2:4].tolist() == TABLE[:2].tolist()
    assert found.found.tolist() == [False, False, True, True, False, False]


@pytest.mark.parametrize("form", FORMS)
def test_words_that_only_stand_in_another_case_are_said(tmp_path, form):
    source = str(FORMS[form](tmp_path))
    for _ in range(2):  # made, and from the cache
        found = read_vectors(source, VOCABULARY, tmp_path / "cache")
        assert found.other_case == (("good", "Good"),)
        line = coverage(found, VOCABULARY, np.array([0, 0, 9, 1, 5, 1])).describe()
        assert "only another case has a vector for 1 of them, such as 'good' ('Good')" in line
    found = read_vectors(source, [*VOCABULARY, "Good"])
    assert found.found[-1]
    assert found.other_case == (), "the words that are wanted as written are not seen as another case"


def test_a_byte_order_mark_does_not_cost_the_first_word_of_a_list(tmp_path):
    path = text(tmp_path, "v.vec")
    for start in (b"", path.read_bytes().split(b"\n", 1)[0] + b"\n"):
        content = start + path.read_bytes().split(b"\n", 1)[1]
        (tmp_path / "w.txt").write_bytes(b"\xef\xbb\xbf" + content)
        assert first_words(str(tmp_path / "w.txt"), 2) == WORDS[:2]
        assert read_vectors(str(tmp_path / "w.txt"), VOCABULARY).found[2]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_words_beside_an_array_stand_in_lines_that_a_line_feed_ends(tmp_path, end):
    words = ["film", "\x85", "\u2028", "a\x0bb", "", "actor"]
    np.save(tmp_path / "v.npy", np.arange(12, dtype=np.float32).reshape(6, 2))
    for last in ("", end):
        (tmp_path / "v.txt").write_bytes((end.join(words) + last).encode())
        found = read_vectors(str(tmp_path / "v.npy"), ["[PAD]", "[UNK]", "\u2028", "actor"])
        assert found.table[2:].tolist() == [[4, 5], [10, 11]]
    (tmp_path / "v.txt").write_bytes("été à la plage\n".encode("cp1252") * 6)
    with pytest.raises(InputError, match=r"embedding\.vectors: could not read .*v\.txt.*: save it as UTF-8$"):
        read_vectors(str(tmp_path / "v.npy"), ["[PAD]", "[UNK]", "film"])


def refused(folder, name):
    path = folder / name
    if name == "pickle.kv":
        path.write_bytes(pickle.dumps(Bomb()))
    elif name == "objects.npz":
        np.savez(path, words=np.array(WORDS, object), vectors=TABLE, allow_pickle=True)
    elif name == "objects.npy":
        np.save(path, np.array([Bomb()], object), allow_pickle=True)
        (folder / "objects.txt").write_text("a\n")
    elif name == "alone.npy":
        np.save(path, TABLE)
    elif name == "short.npy":
        np.save(path, TABLE)
        (folder / "short.txt").write_text("film\n")
    elif name == "one.npz":
        np.savez(path, vectors=TABLE)
    else:  # a header that announces more than there is
        header = (
            b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999, 2), }"
        )
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a.npy", header.ljust(127) + b"\n")
    return str(path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("pickle.kv", r"is a pickle, which is never unpickled; in Python, write .*save_word2vec_format"),
        ("objects.npz", r"holds Python objects, which are not unpickled"),
        ("objects.npy", r"is no array of numbers"),
        ("alone.npy", r"needs one file of its words, .* there are 0 beside it of alone.txt"),
        ("short.npy", r"has vectors float32\[3, 2\] and 1 words"),
        ("one.npz", r"holds vectors float32\[3, 2\]; give one array of words and one of vectors"),
        ("huge.npz", r"is cut off or damaged"),
    ],
)
def test_what_is_no_table_of_words_is_refused(tmp_path, name, message):
    with pytest.raises(InputError, match=message):
        read_vectors(refused(tmp_path, name), VOCABULARY)


class Keyed:
    index_to_key, vectors = WORDS, TABLE


@pytest.mark.parametrize(
    "given",
    [dict(zip(WORDS, TABLE, strict=True)), (WORDS, TABLE), (np.array(WORDS), TABLE.tolist()), Keyed()],
)
def test_vectors_in_memory_are_those_of_the_file_that_is_kept_of_them(tmp_path, given):
    path = kept_vectors(tmp_path, *table_of(given))
    assert path == kept_vectors(tmp_path, *table_of((WORDS, TABLE))), "equal vectors are one file"
    assert path != kept_vectors(tmp_path, *table_of((WORDS, 2 * TABLE)))
    assert read_vectors(str(path), VOCABULARY).table[2:4].tolist() == TABLE[:2].tolist()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (7, "is a int; give a file, a mapping"),
        ({"a": [1, 2], "b": [1]}, "vectors of several lengths"),
        ({}, r"has 0 words and a table \[0\]"),
        ((["a"], TABLE), r"has 1 words and a table \[3, 2\]"),
        ((["a", "a", "b"], TABLE), "has a word twice"),
        (([1, 2, 3], TABLE), r"has the word \[1\]; a word is a string"),
        ({"a": [np.nan]}, "numbers that are not finite"),
    ],
)
def test_vectors_in_memory_that_cannot_be_are_refused(given, message):
    with pytest.raises(InputError, match=message):
        table_of(given)
