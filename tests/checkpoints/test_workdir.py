"""Settings and the folder of a run: what is refused, and that files are whole."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from rnn_jax import settings
from rnn_jax.checkpoints.workdir import (
    CONFIG,
    check_workdir,
    fresh_workdir,
    open_workdir,
    read_json,
    save_task,
    write_text,
)
from rnn_jax.config import changes, check_settings, flatten
from rnn_jax.data.tokenizer import Tokenizer
from rnn_jax.errors import InputError

KNOWN = {"model": {"hidden": 32, "dropout": 0.5, "cell": "lstm"}, "names": ("a",), "seed": 0}


def test_flattening_keeps_every_leaf_under_its_dotted_name():
    assert flatten(KNOWN) == {
        "model.hidden": 32,
        "model.dropout": 0.5,
        "model.cell": "lstm",
        "names": ("a",),
        "seed": 0,
    }


@pytest.mark.parametrize(
    "settings", [KNOWN, KNOWN | {"names": []}, KNOWN | {"model": KNOWN["model"] | {"dropout": 0}}]
)
def test_settings_of_the_right_types_pass(settings):
    check_settings(settings, KNOWN, {"seed": 0}, "configs/lstm.py")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (KNOWN | {"sed": 1}, r"config\.sed is not a setting of configs/lstm\.py\. Did you mean 'seed'"),
        (KNOWN | {"model": KNOWN["model"] | {"hiden": 1}}, r"model\.hiden is not.*'model\.hidden'"),
        (KNOWN | {"seed": "0"}, r"config\.seed is '0', a str; give a int"),
        (KNOWN | {"seed": 0.5}, r"config\.seed is 0\.5, a float; give a int"),
        (KNOWN | {"seed": True}, r"config\.seed is True, a bool"),
        (KNOWN | {"names": "a"}, r"config\.names is 'a', a str; give a tuple"),
        ({"model": KNOWN["model"], "seed": 0}, r"config\.names is missing"),
        (KNOWN | {"seed": -1}, r"config\.seed is -1; give at least 0"),
    ],
)
def test_settings_are_refused_with_the_key_the_value_and_the_fix(settings, message):
    with pytest.raises(InputError, match=message):
        check_settings(settings, KNOWN, {"seed": 0}, "configs/lstm.py")


def test_setting_that_is_no_number_is_not_above_its_least():
    with pytest.raises(InputError, match=r"config\.share is inf; give a finite number"):
        check_settings({"share": float("inf")}, {"share": 1.0}, {}, "it")
    with pytest.raises(InputError, match=r"config\.share is nan; give at least 0\.1"):
        check_settings({"share": float("nan")}, {"share": 0.5}, {"share": 0.1}, "configs/lstm.py")


def test_changes_name_each_key_that_differs_in_any_way():
    new = {"model": {"hidden": 64, "dropout": 0.5}, "names": ("a",), "seed": 0, "extra": 1}
    assert changes(KNOWN, KNOWN) == []
    assert changes(KNOWN, new) == [
        "extra: '(absent)' -> 1",
        "model.cell: 'lstm' -> '(absent)'",
        "model.hidden: 32 -> 64",
    ]


def make(workdir, config):
    with open_workdir(workdir, config):
        pass


def test_workdir_is_made_once_and_opened_again_with_the_same_config(tmp_path):
    workdir = tmp_path / "deep" / "run"
    make(workdir, KNOWN)
    saved = (workdir / "config.json").read_bytes()
    make(workdir, KNOWN)  # the tuple was saved as a list, and is no change
    assert (workdir / "config.json").read_bytes() == saved
    assert json.loads(saved)["model"]["hidden"] == 32
    (workdir / "checkpoints" / "7").mkdir(parents=True)
    with pytest.raises(InputError, match=r"another config \(seed: 0 -> 1\)"):
        make(workdir, KNOWN | {"seed": 1})
    assert (workdir / "config.json").read_bytes() == saved


@pytest.mark.parametrize("what", ["checkpoints/7", "damaged/7", "results.json"])
def test_a_config_can_be_mended_until_something_is_saved(tmp_path, what):
    make(tmp_path / "run", KNOWN)
    (tmp_path / "run" / "checkpoints").mkdir()
    check_workdir(tmp_path / "run", KNOWN | {"seed": 1})
    make(tmp_path / "run", KNOWN | {"seed": 1})
    assert json.loads((tmp_path / "run" / "config.json").read_text())["seed"] == 1
    (tmp_path / "run" / what).mkdir(parents=True)
    with pytest.raises(InputError, match=r"another config \(seed: 1 -> 2\)"):
        check_workdir(tmp_path / "run", KNOWN | {"seed": 2})


def test_a_run_under_way_is_not_taken_from_its_process(tmp_path):
    with (
        open_workdir(tmp_path / "run", KNOWN),
        pytest.raises(InputError, match="another run is under way"),
    ):
        make(tmp_path / "run", KNOWN | {"seed": 1})
    assert json.loads((tmp_path / "run" / "config.json").read_text()) == json.loads(json.dumps(KNOWN))


@pytest.mark.parametrize("content", ["[]", "{}", '{"data": "1"}', '{"data": "1", "buckets": [6], "more": 0}'])
def test_the_task_of_a_begun_run_has_to_be_the_same(tmp_path, content):
    tokenizer, task = Tokenizer.train(["a b"], 9, True, True), {"data": "1", "buckets": (6,)}
    save_task(tmp_path, tokenizer, **task)
    save_task(tmp_path, tokenizer, True, **task)
    (tmp_path / "task.json").write_text(content)
    with pytest.raises(InputError, match="another --workdir"):
        save_task(tmp_path, tokenizer, True, **task)
    assert (tmp_path / "task.json").read_text() == content
    save_task(tmp_path, tokenizer, **task)
    (tmp_path / "task.json").unlink()
    save_task(tmp_path, tokenizer, True, **task)
    assert json.loads((tmp_path / "task.json").read_text()) == {"data": "1", "buckets": [6]}


def test_check_writes_nothing(tmp_path):
    check_workdir(tmp_path / "run", KNOWN)
    assert list(tmp_path.iterdir()) == []


def test_folder_or_file_that_is_no_run_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    for path in (tmp_path, tmp_path / "thesis.tex"):
        with pytest.raises(InputError, match=r"is no run of rnn_jax \(it has no config\.json\)"):
            make(path, KNOWN)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_text_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "results.json"
    write_text(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "new \ud800")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
    write_text(path, "é")
    assert path.read_text(encoding="utf-8") == "é"
    assert list(tmp_path.iterdir()) == [path]


def test_crash_while_writing_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "config.json"
    write_text(path, "old")
    seen = []

    def crash(source, target):
        seen.append((Path(source).read_text(), Path(target).read_text()))
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", crash)
    with pytest.raises(KeyboardInterrupt):
        write_text(path, "new")
    assert seen == [("new", "old")]  # the new text was whole before it took the place of the old
    assert path.read_text() == "old"


@pytest.mark.parametrize("name", ["config.json.tmp", "config.json.123.tmp"])
def test_run_killed_while_it_saved_its_config_can_be_started_again(tmp_path, name):
    (tmp_path / name).write_text('{"seed"')
    make(tmp_path, KNOWN)
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "lock"}


def test_workdir_keeps_other_runs_out_while_it_is_open(tmp_path):
    workdir = tmp_path / "run"
    with open_workdir(workdir, KNOWN):
        for enter in (check_workdir, make):
            with pytest.raises(InputError, match=r"another run is under way in .*run; wait"):
                enter(workdir, KNOWN)
    check_workdir(workdir, KNOWN)
    make(workdir, KNOWN)


@pytest.mark.slow
def test_process_that_is_killed_lets_go_of_its_workdir(tmp_path):
    program = (
        "import os, sys; from pathlib import Path; from rnn_jax.checkpoints.workdir import open_workdir\n"
        "with open_workdir(Path(sys.argv[1]), {}):\n    os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False).returncode == -9
    assert (tmp_path / "lock").exists()
    make(tmp_path, {})


def test_folder_that_cannot_be_written_is_refused_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, mode, **_: Path(path) != tmp_path)
    with pytest.raises(InputError, match=rf"workdir is .*deep, but {tmp_path} cannot be written to"):
        check_workdir(tmp_path / "run" / "deep", KNOWN)


def test_folder_of_a_finished_run_need_not_be_written(tmp_path, monkeypatch):
    make(tmp_path, KNOWN)
    monkeypatch.setattr("os.access", lambda path, mode, **_: False)
    with pytest.raises(InputError, match="cannot be written to"):
        check_workdir(tmp_path, KNOWN)
    (tmp_path / "results.json").write_text("{}")
    check_workdir(tmp_path, KNOWN)


@pytest.mark.parametrize("content", ["", "{", b"\xff\xfe".decode("latin-1")])
def test_broken_json_is_named(tmp_path, content):
    (tmp_path / "task.json").write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=r"task\.json cannot be read"):
        read_json(tmp_path / "task.json")
    with pytest.raises(InputError, match=r"none\.json cannot be read"):
        read_json(tmp_path / "none.json")


def test_fresh_workdirs_differ(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = []
    for _ in range(3):
        found.append(fresh_workdir("bilstm"))
        found[-1].mkdir(parents=True)
    assert len(set(found)) == 3
    assert all(str(path).startswith("runs/bilstm-") for path in found)


def test_run_begun_before_a_setting_existed_goes_on_with_its_default_alone(tmp_path, monkeypatch):
    monkeypatch.setitem(settings.ADDED, "classify", {"model.new": 0.0})
    with open_workdir(tmp_path, {"task": "classify", "model": {"hidden": 8}}):
        pass
    with open_workdir(tmp_path, {"task": "classify", "model": {"hidden": 8, "new": 0.0}}):
        assert read_json(tmp_path / CONFIG)["model"] == {"hidden": 8}
    (tmp_path / "checkpoints" / "7").mkdir(parents=True)
    with (
        pytest.raises(InputError, match=r"model.new: 0.0 -> 0.5"),
        open_workdir(tmp_path, {"task": "classify", "model": {"hidden": 8, "new": 0.5}}),
    ):
        pass
