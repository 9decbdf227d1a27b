"""Several processes that train one network: as one process would, and they end together."""

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from rnn_jax.data.batches import Batches
from rnn_jax.data.windows import Windows
from rnn_jax.distributed.processes import AUTO, SILENCE, Membership, Roll, membership
from rnn_jax.errors import InputError
from tests.helpers.members import KILL, STOP

ROOT = Path(__file__).parents[2]
PACE = {"examples_per_second", "words_per_second"}


@pytest.mark.parametrize(
    ("given", "environment", "message"),
    [
        (
            ("a:1", None, None),
            {},
            r"give --processes \(JAX_NUM_PROCESSES\), --process \(JAX_PROCESS_ID\) too",
        ),
        ((None, 2, 0), {}, r"give --coordinator \(JAX_COORDINATOR_ADDRESS\) too"),
        ((None, None, None), {"JAX_PROCESS_ID": "0"}, r"give --coordinator .*, --processes"),
        (("a", 2, 0), {}, r"--coordinator is 'a'; give the host of process 0 and a free port"),
        (("a:0", 2, 0), {}, r"--coordinator is 'a:0'"),
        (("a:70000", 2, 0), {}, r"--coordinator is 'a:70000'"),
        (("a:1", 0, 0), {}, r"--processes is 0; give at least 1"),
        (("a:1", 2, 2), {}, r"--process is 2; of 2 processes it is one of 0 to 1"),
        (("a:1", 2, -1), {}, r"--process is -1"),
        (("a:1", None, 0), {"JAX_NUM_PROCESSES": "two"}, r"JAX_NUM_PROCESSES is 'two'; give a number"),
    ],
)
def test_what_cannot_be_one_of_several_processes_is_refused(given, environment, message):
    with pytest.raises(InputError, match=message):
        membership(*given, environment)


def test_flags_come_before_the_environment_and_one_process_is_alone():
    environment = {"JAX_COORDINATOR_ADDRESS": "a:1", "JAX_NUM_PROCESSES": "4", "JAX_PROCESS_ID": "3"}
    assert membership(None, None, None, environment) == Membership("a:1", 4, 3)
    assert membership("b:2", 2, 0, environment) == Membership("b:2", 2, 0)
    assert membership("[::1]:2", 2, 1, {}) == Membership("[::1]:2", 2, 1)
    assert membership(AUTO, None, None, {}) == Membership(AUTO, None, None)
    assert membership(None, None, None, {}) is membership("a:1", 1, 0, {}) is None


def test_a_process_is_lost_when_it_says_nothing_new_for_too_long():
    roll = Roll(3, now=0.0)
    assert roll.silent({"0": "1", "1": "1"}, SILENCE - 1) == []
    assert roll.silent({"0": "2", "1": "1"}, SILENCE + 1) == ["2"]
    assert roll.silent({"0": "3", "1": "1", "2": "1"}, 2 * SILENCE) == ["1"]


def test_shares_of_a_batch_are_its_rows_in_one_order():
    rng = np.random.default_rng(0)
    rows = [rng.integers(2, 9, length).astype(np.int32) for length in rng.integers(0, 20, 43)]
    labels = np.arange(43, dtype=np.int32)

    def batches(share=slice(None)):
        return Batches(rows, labels, (7, 20), 6, share)

    parts = [batches(slice(start, start + 2)) for start in (0, 2, 4)]
    for step in range(2 * batches().steps_per_epoch):
        shares = zip(*(part(3, step) for part in parts), strict=True)
        for whole, share in zip(batches()(3, step), shares, strict=True):
            np.testing.assert_array_equal(np.concatenate(share), whole)


def test_shares_of_a_window_are_its_lanes():
    documents = [np.arange(2, 2 + size, dtype=np.int32) for size in (30, 4, 9, 1, 17, 5)]
    parts = [Windows(documents, 4, 5, share=share) for share in (slice(0, 2), slice(2, 4))]
    whole = Windows(documents, 4, 5)
    for step in range(2 * whole.steps_per_epoch):
        shares = zip(*(part(0, step) for part in parts), strict=True)
        for lanes, share in zip(whole(0, step), shares, strict=True):
            np.testing.assert_array_equal(np.concatenate(share), lanes)


@pytest.fixture(scope="module")
def ends(tmp_path_factory):
    """The folder of all runs of tests.helpers.members, and how each process ended."""
    folder = tmp_path_factory.mktemp("members")
    done = subprocess.run(
        [sys.executable, "-m", "tests.helpers.members", folder / "runs"],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    return folder / "runs", json.loads(done.stdout)


def curve(workdir):
    """Returns the lines of a run's metrics, all but the pace."""
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name not in PACE} for line in lines]


def ending(workdir):
    results = json.loads((workdir / "results.json").read_text())
    steps = [path for path in (workdir / "checkpoints").iterdir() if path.name == str(results["steps"])]
    digests = json.loads((steps[0] / "digests" / "metadata").read_text())
    return results["loss"], results["best_step"], digests["params"], digests["progress"]


@pytest.mark.slow
def test_runs_cut_and_resumed_with_two_one_and_two_processes_end_with_the_bits_of_one(ends):
    folder, runs = ends
    assert runs["alone"]["codes"] == [0], runs["alone"]["said"]
    assert runs["two"]["codes"] == [0, 0], runs["two"]["said"]
    assert ending(folder / "shared") == ending(folder / "alone")
    whole = {(line["step"], line["split"]): line for line in curve(folder / "alone")}
    resumed = {(line["step"], line["split"]): line for line in curve(folder / "shared")}
    assert all(resumed[key] == whole[key] for key in whole if key[1] == "validation")


@pytest.mark.slow
def test_language_models_train_in_two_processes_as_in_one(ends):
    folder, runs = ends
    assert runs["words, two"]["codes"] == [0, 0], runs["words, two"]["said"]
    assert curve(folder / "words two") == curve(folder / "words alone") != []
    assert ending(folder / "words two") == ending(folder / "words alone")


@pytest.mark.slow
def test_a_signal_to_one_process_ends_all_after_the_same_step_which_is_saved(ends):
    _, runs = ends
    asked = runs["two, asked"]
    assert asked["codes"] == [143, 143], asked["said"]
    steps = [said.split("SIGTERM: ended after step ")[1].split(",")[0] for said in asked["said"]]
    assert steps[0] == steps[1]
    assert int(steps[0]) >= STOP
    assert f"steps {steps[0]} to" in runs["one, asked"]["said"][0]  # where one process went on


@pytest.mark.slow
def test_a_process_that_is_killed_ends_the_other_which_says_how_to_go_on(ends):
    _, runs = ends
    killed = runs["two, killed"]
    assert killed["codes"] == [1, -9], killed["said"]
    assert killed["ended"][0] - killed["ended"][1] < 60
    assert "another process has ended" in killed["said"][0]
    assert "goes on from its last checkpoint" in killed["said"][0]
    begin = int(runs["two"]["said"][0].split("steps ")[1].split(" to")[0])
    assert 0 < KILL - 3 <= begin <= KILL


@pytest.mark.slow
def test_process_0_alone_writes_and_speaks(ends):
    folder, runs = ends
    first, second = ((folder / f"written{index}").read_text() for index in range(2))
    assert "config.json" in first
    assert "encoded-" in first
    assert str(folder) not in second
    lines = [line for line in runs["two"]["said"][1].splitlines() if line and not line.startswith("[Gloo]")]
    assert len(lines) == 1
    assert "process 1 of 2 waits for the others" in lines[0]


@pytest.mark.slow
def test_a_batch_that_the_processes_cannot_share_is_refused_by_all(ends):
    folder, runs = ends
    assert runs["uneven"]["codes"] == [1, 1]
    for said in runs["uneven"]["said"]:
        assert "batch.size is 7, which 2 devices of 2 processes cannot share equally" in said
    assert not (folder / "uneven").exists()


@pytest.mark.slow
def test_a_process_that_waits_in_vain_says_so():
    program = "from rnn_jax.distributed import *\nwith joined(Membership('127.0.0.1:9', 2, 1), 3): 0"
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 1
    assert "not all of 2 processes have come at 127.0.0.1:9 within 3 s" in done.stderr
    assert time.monotonic() - began < 60
