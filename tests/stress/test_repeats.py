"""The training program twice with one seed: the same bits, whatever Python's hashes and the caches."""

import json

import pytest

from tests.stress.determinism import broken, compared, jobs, table
from tests.stress.repeats import computed, finish, start, timeless
from tests.stress.trial import job


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bits_in_two_processes(tmp_path):
    pytest.importorskip("gensim")
    job(tmp_path / "reviews.jsonl")
    wanted = jobs(tmp_path / "reviews.jsonl", cells=("gru",), dtypes=("bfloat16",))
    places = [tmp_path / name for name in ("2-one", "2-again")]
    processes = [start(place, wanted, devices=2, hashes=1 + n) for n, place in enumerate(places)]
    for process, place in zip(processes, places, strict=True):
        finish(process, place)
    found = compared(tmp_path)
    assert found["nothing, 2 devices"] == {name: SAME for name in wanted}
    assert not broken(found)
    assert "| nothing, 2 devices | bfloat16 | 1 of 1 | 0 | 0 |" in table(found)
    assert_told_apart(places, next(iter(wanted)))


SAME = {"equal": True, "parameters": 0.0, "loss": 0.0}


def assert_told_apart(places, name):
    """One bit of a digest, or the last digit of one loss, and the runs are no longer equal."""
    one, other = (place / name for place in places)
    for path in ("metrics.jsonl", "checkpoints/27/digests/metadata"):
        whole = (one / path).read_text()
        place = whole.index('"loss": 0.') + 12 if path.startswith("metrics") else whole.index('": "') + 5
        digit = "1" if whole[place] != "1" else "2"
        (one / path).write_text(whole[:place] + digit + whole[place + 1 :])
        assert computed(one) != computed(other), path
        (one / path).write_text(whole)
        assert computed(one) == computed(other)


def test_only_times_are_left_out():
    line = {"step": 3, "loss": 0.5, "examples_per_second": 7.0, "seconds": {"train": 1.0}}
    assert timeless([line, {"deep": [line]}]) == [
        {"step": 3, "loss": 0.5},
        {"deep": [{"step": 3, "loss": 0.5}]},
    ]
    assert json.loads(json.dumps(timeless(line))) == timeless(line)
