"""What a long run holds: the slope that is fitted to it, and a small run, which holds no more at its end."""

import re

import numpy as np
import pytest

from rnn_jax.training.logger import Journal
from rnn_jax.training.loop import train_and_evaluate
from tests.helpers.jobs import tiny_config, write_reviews
from tests.stress import probe, soak
from tests.stress.growth import Series, broken, table


def a_run(an_hour, jump=300.0, seed=0):
    """Returns samples of two hours: after a jump in the first minutes, memory grows by so much an hour."""
    draw = np.random.default_rng(seed)
    times = np.arange(0, 7200, 30.0)
    sizes = jump * (times > 600) + an_hour * times / 3600 + draw.normal(0, 0.2, len(times))
    outside = [{"time": 1e9 + time, "resident": 900 + size} for time, size in zip(times, sizes, strict=True)]
    inside = [
        {"time": 1e9 + time, "step": time, "allocated": size, "array_size": 4.0}
        for time, size in zip(times, sizes, strict=True)
    ]
    return {"outside": outside, "inside": inside}


@pytest.mark.parametrize("an_hour", [0.0, 5.0, -7.0, 100.0])
def test_a_slope_is_that_after_warm_up(an_hour):
    series = Series(a_run(an_hour))
    assert series.hours == pytest.approx(2, rel=0.01)
    assert series.slope("resident") == pytest.approx(an_hour, abs=0.1)
    assert series.slope("allocated") == pytest.approx(an_hour, abs=0.1)


def test_a_leak_breaks_the_bound_and_one_that_was_freed_does_not():
    assert not broken({"flat": a_run(0.0)})
    freed = a_run(0.0)
    for sample in freed["inside"][100:130]:
        sample["allocated"] += 50
    assert not broken({"freed": freed})
    (line,) = broken({"flat": a_run(0.0), "leak": a_run(4.0)})
    assert re.fullmatch(r"leak: allocated grows by (3\.9|4\.0) an hour, more than 2\.0", line)


def test_the_table_has_what_was_measured():
    lines = table({"one": a_run(0.0)}).splitlines()
    assert lines[0] == "| | one | an hour |"
    assert "| their size, MiB | 4.00 | +0 |" in lines
    assert "| threads | - | - |" in lines


@pytest.mark.slow
def test_a_run_holds_no_more_at_its_end_than_in_two_epochs(tmp_path, monkeypatch):
    monkeypatch.setattr(Journal, "record", Journal.record)  # which `watch` changes
    reviews = write_reviews(tmp_path / "reviews.jsonl", 40)
    config = tiny_config(reviews, train__epochs=8, train__evaluate_every=1.0, log__every=1)
    probe.watch(tmp_path / "held")
    results = train_and_evaluate(config, tmp_path / "run")
    held = soak.read(tmp_path / "held")
    assert [line["step"] for line in held] == list(range(1, results["steps"] + 1))
    epoch = results["steps"] // 8
    for name in ("arrays", "array_size"):
        early, late = (max(line[name] for line in part) for part in (held[: 2 * epoch], held[-epoch:]))
        assert late <= early, f"{name}: {early} in the first two epochs, {late} in the last"
    assert soak.of_folder(tmp_path / "run")["checkpoints"] <= config.train.keep_checkpoints + 1
