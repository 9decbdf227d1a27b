"""Files: written whole or not at all, and values kept on disk that are made again when they have to be."""

import numpy as np
import pytest

from rnn_jax.files import cached, leftovers, replacing

WORDS = {"ids": np.arange(5), "name": np.array([104, 105], np.uint8)}


def kept(path, made=WORDS):
    """Returns what `cached` gives, and whether it had to make it."""
    calls = []
    value = cached(path, lambda: calls.append(1) or made, dict, lambda arrays: {**arrays})
    return {name: array.tolist() for name, array in value.items()}, bool(calls)


EXPECTED = {name: array.tolist() for name, array in WORDS.items()}


def test_a_value_is_made_once_and_then_read(tmp_path):
    path = tmp_path / "new" / "words.npz"
    assert kept(path) == (EXPECTED, True)
    assert kept(path, made=None) == (EXPECTED, False)
    assert [file.name for file in path.parent.iterdir()] == ["words.npz"]


@pytest.mark.parametrize("size", [0, 1, 100, -1])
def test_a_torn_file_is_made_again(tmp_path, size):
    path = tmp_path / "words.npz"
    kept(path)
    path.write_bytes(path.read_bytes()[:size])
    assert kept(path) == (EXPECTED, True)
    assert kept(path) == (EXPECTED, False)


def test_a_file_that_cannot_be_unpacked_is_made_again(tmp_path):
    np.savez(tmp_path / "words.npz", other=np.zeros(2))
    value = cached(
        tmp_path / "words.npz", lambda: 7, lambda made: {"n": np.array(made)}, lambda a: int(a["n"])
    )
    assert value == 7


def test_a_cache_that_cannot_be_written_costs_nothing_but_time(tmp_path):
    (tmp_path / "file").write_text("in the way")
    assert kept(tmp_path / "file" / "words.npz") == (EXPECTED, True)
    assert (tmp_path / "file").read_text() == "in the way"


def test_a_value_that_cannot_be_made_says_why(tmp_path):
    with pytest.raises(ValueError, match="no texts"):
        cached(tmp_path / "words.npz", lambda: (_ for _ in ()).throw(ValueError("no texts")), dict, dict)


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "config.json"
    path.write_bytes(b"old")

    def write():
        with replacing(path) as file:
            file.write(b"ne")
            raise KeyError("full")

    with pytest.raises(KeyError):
        write()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_two_writers_of_one_process_each_write_the_whole_file(tmp_path):
    path = tmp_path / "config.json"
    with replacing(path) as one:
        with replacing(path) as other:
            one.write(b"one")
            other.write(b"the other")
            assert len(leftovers(path)) == 2
        assert path.read_bytes() == b"the other"
    assert path.read_bytes() == b"one"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_process_leaves_is_found_and_nothing_else(tmp_path):
    path = tmp_path / "config.json"
    for name in ("config.json.bak", "config.jsonl.1.tmp", "other.1.tmp"):
        (tmp_path / name).write_bytes(b"")
    there = set(tmp_path.iterdir())
    with replacing(path):
        assert leftovers(path) == set(tmp_path.iterdir()) - there != set()
    assert leftovers(path) == set()
