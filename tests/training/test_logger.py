"""What a run says while it trains, and what is measured."""

import importlib.util
import json
import time
from pathlib import Path

import numpy as np
import pytest

from rnn_jax.data.batches import Batch
from rnn_jax.errors import InputError
from rnn_jax.models.metrics import LanguageMetrics, Metrics
from rnn_jax.training.logger import Journal, Meter, NonFiniteLossError, Stopwatch


def lines(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def test_metrics_are_json_lines_and_plain_lines_off_a_terminal(tmp_path, capsys):
    with Journal(tmp_path, 10, 0, tensorboard=False) as journal:
        journal.record(2, "train", {"loss": 0.5, "accuracy": 0.25})
        journal.record(4, "train", {"loss": 0.25, "accuracy": 0.5})
        journal.record(4, "validation", {"loss": 0.75})
        journal.say("a [bold]word[/bold]")
    assert lines(tmp_path) == journal.history
    assert lines(tmp_path)[0] == {"step": 2, "split": "train", "loss": 0.5, "accuracy": 0.25}
    output = capsys.readouterr().out
    assert "step 2/10  train       loss 0.5  accuracy 0.25" in output
    assert "s left" in output
    assert "a [bold]word[/bold]" in output
    assert "\x1b" not in output


def test_the_time_left_waits_for_steps_enough_to_tell_it_from(tmp_path, capsys):
    with Journal(tmp_path, 1000, 50, tensorboard=False) as journal:
        journal.record(100, "train", {"loss": 0.5})
        journal.record(101, "validation", {"loss": 0.5})  # which took longer than the one step before it
        assert "s left" not in capsys.readouterr().out
        journal.record(150, "train", {"loss": 0.25})
        assert "s left" in capsys.readouterr().out


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full, the disk that is always full")
def test_a_full_disk_is_told_with_the_file(tmp_path):
    with Journal(tmp_path, 10, 0, tensorboard=False) as journal:
        journal.file.close()
        journal.file = open("/dev/full", "w")  # noqa: SIM115  # the journal closes it
        with pytest.raises(OSError, match="No space left on device; metrics cannot be written: '/dev/full'"):
            journal.record(2, "train", {"loss": 0.5})


def test_resumed_run_drops_later_lines_and_one_that_was_cut_short(tmp_path):
    with Journal(tmp_path, 10, 0, tensorboard=False) as journal:
        for step in (2, 4, 6):
            journal.record(step, "train", {"loss": 1.0 / step})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 8, "spl')
    with Journal(tmp_path, 10, 4, tensorboard=False) as journal:
        assert [line["step"] for line in journal.history] == [2, 4]
        journal.record(6, "train", {"loss": 7.0})
    assert [(line["step"], line["loss"]) for line in lines(tmp_path)] == [(2, 0.5), (4, 0.25), (6, 7.0)]


def test_terminal_gets_a_bar_with_the_metrics(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich then takes any output for a terminal
    monkeypatch.setenv("COLUMNS", "150")
    with Journal(tmp_path, 10, 0, tensorboard=False) as journal:
        journal.record(5, "train", {"loss": 0.5, "accuracy": 0.25})
        journal.record(5, "validation", {"loss": 0.75})
    output = capsys.readouterr().out
    assert "5/10" in output
    assert "loss 0.5  accuracy 0.25" in output
    assert "validation" in output
    assert "step 5/10  train" not in output


def test_resuming_that_is_killed_at_once_loses_no_line(tmp_path, monkeypatch):
    with Journal(tmp_path, 10, 0, tensorboard=False) as journal:
        journal.record(2, "train", {"loss": 0.5})

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", killed)
    with pytest.raises(KeyboardInterrupt):
        Journal(tmp_path, 10, 2, tensorboard=False)
    assert [line["step"] for line in lines(tmp_path)] == [2]


def test_tensorboard_has_the_scalars(tmp_path):
    pytest.importorskip("tensorboardX", reason="the extra 'tensorboard' is not installed")
    with Journal(tmp_path, 10, 0, tensorboard=True) as journal:
        journal.record(2, "train", {"loss": 0.5})
    (events,) = (tmp_path / "tensorboard").iterdir()
    assert b"train/loss" in events.read_bytes()


def test_tensorboard_that_is_not_installed_is_said_with_the_fix(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install -e '\.\[tensorboard\]'"):
        Journal(tmp_path, 10, 0, tensorboard=True)
    assert list(tmp_path.iterdir()) == []


class Lazy:
    """A device value that notes when it is fetched."""

    def __init__(self, value, fetched, step):
        self.value, self.fetched, self.step = value, fetched, step

    def __float__(self):
        self.fetched.append(self.step)
        return self.value


class Spy:
    def __init__(self):
        self.lines = []

    def record(self, step, split, values):
        self.lines.append((step, split, values))


def batch_of(rows):
    rows = np.array([*rows, -1], np.int32)
    return Batch(np.zeros((3, 2)), np.zeros(3), np.zeros(3), (rows >= 0).astype(np.float32), rows)


def meter_of(spy, every=2):
    return Meter(spy, every, lambda step: 0.1 * step, lambda: "checkpoints/40")


def test_metrics_are_fetched_one_step_late_and_averaged_over_examples():
    spy, fetched = Spy(), []
    meter = meter_of(spy)
    for step, (loss, hits) in enumerate([(2.0, 1), (4.0, 2), (9.0, 0)], start=1):
        confusion = np.array([[hits, 2 - hits], [0, 0]])
        meter.push(step, batch_of([1, 2]), Metrics(Lazy(loss, fetched, step), confusion))
        assert fetched == list(range(1, step))
    ((step, split, values),) = spy.lines
    assert (step, split) == (2, "train")
    assert values["loss"] == pytest.approx((2 + 4) / 4)
    assert values["accuracy"] == pytest.approx(3 / 4)
    assert values["learning_rate"] == pytest.approx(0.1)
    assert values["examples_per_second"] > 0
    meter.flush()
    assert spy.lines[1][:2] == (3, "train")
    assert spy.lines[1][2]["loss"] == pytest.approx(9 / 2)
    meter.flush()
    assert len(spy.lines) == 2


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_loss_that_is_not_finite_names_step_examples_and_checkpoint(loss):
    meter = meter_of(Spy())
    meter.push(41, batch_of([7, 19]), Metrics(loss, np.eye(2)))
    with pytest.raises(
        NonFiniteLossError, match=r"at step 41, on training examples \[7, 19\].*checkpoints/40"
    ):
        meter.flush()
    with pytest.raises(NonFiniteLossError, match="on validation after step 44"):
        meter_of(Spy()).evaluated(44, {"loss": loss})


def test_stopwatch_adds_up_phases_even_through_errors():
    clock = Stopwatch("train", "eval")
    for _ in range(2):
        with clock("train"):
            time.sleep(0.01)
    with pytest.raises(KeyboardInterrupt), clock("eval"):
        raise KeyboardInterrupt
    assert 0.02 <= clock.seconds["train"] < 1
    assert 0 < clock.seconds["eval"] < 0.1
    clock.add({"train": 10.0})
    assert clock.seconds["train"] > 10


def test_words_of_a_language_model_are_metered_as_examples_are():
    spy = Spy()
    meter = meter_of(spy)
    for step, (loss, words) in enumerate([(6.0, 3), (4.0, 2)], start=1):
        meter.push(step, batch_of([1, 2]), LanguageMetrics(np.float32(loss), np.float32(words)))
    meter.flush()
    ((step, split, values),) = spy.lines
    assert (step, split) == (2, "train")
    assert list(values) == ["loss", "perplexity", "words_per_second", "learning_rate"]
    assert values["loss"] == pytest.approx((6 + 4) / 5)
    assert values["perplexity"] == pytest.approx(np.exp(2))
