"""The folder of one run: its name, and the files that make it readable without the training code."""

import itertools
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, TypeAlias

from filelock import FileLock, Timeout

from rnn_jax.checkpoints.checkpoints import DAMAGED, FOLDER
from rnn_jax.config import changes
from rnn_jax.data.tokenizer import Tokenizer
from rnn_jax.errors import InputError, require
from rnn_jax.files import leftovers, read_text, replacing
from rnn_jax.settings import completed

Json: TypeAlias = Any  # what json.loads returns: it is checked before it is used

CLASSIFY, LANGUAGE, TAG = "classify", "language", "tag"  # the kinds of runs: config.task
CONFIG, TOKENIZER, TASK, METRICS, RESULTS = (
    "config.json",
    "tokenizer.json",
    "task.json",
    "metrics.jsonl",
    "results.json",
)
REPORT = "report.html"  # the page of a run or of a saved model: rnn_jax.report
PARAMS = "model.safetensors"  # of a saved model, a folder without checkpoints: rnn_jax.inference.model_folder
EVIDENCE = "evidence.safetensors"  # of a classifier that reads n-grams: rnn_jax/data/evidence.py
EFFECTIVE = os.access in os.supports_effective_ids  # whether os.access can ask as opening a file does
LOCK = "lock"  # held by the process that trains; the file stays in the folder


def fresh_workdir(name: str) -> Path:
    """Returns a path under runs/ that does not exist yet, named after `name` and the time.

    >>> fresh_workdir("bilstm").parent.name
    'runs'
    """
    stem = f"{name}-{datetime.now():%Y%m%d-%H%M%S}"
    names = itertools.chain([stem], (f"{stem}-{number}" for number in itertools.count(1)))
    return next(path for path in (Path("runs", name) for name in names) if not path.exists())


def check_run(argument: str, workdir: Path) -> None:
    """Raises InputError unless the folder, given as `argument`, is that of a run or of a saved model."""
    require(
        (workdir / CONFIG).is_file() and ((workdir / FOLDER).is_dir() or is_saved_model(workdir)),
        f"{argument} is {str(workdir)!r}, which is not the folder of a run: it needs {CONFIG} and {FOLDER}/, "
        f"or {PARAMS} where a model was saved",
    )


def is_saved_model(folder: Path) -> bool:
    """Returns whether a folder holds what `model.save` writes: one model, and no checkpoints."""
    return (folder / PARAMS).is_file() and not (folder / FOLDER).is_dir()


def has_begun(workdir: Path) -> bool:
    """Returns whether a run in a folder has results or a checkpoint, be it a damaged one."""
    saved = itertools.chain.from_iterable((workdir / name).glob("[0-9]*") for name in (FOLDER, DAMAGED))
    return (workdir / RESULTS).exists() or any(saved)


def check_workdir(workdir: Path, config: Mapping[str, object]) -> None:
    """Raises InputError unless the folder is new, empty, or that of a run with the same config.

    A run that ended before anything was saved may go on with another config, so that what was wrong can be
    mended. A folder that cannot be written, or in which a run is under way, is refused too. The folder of a
    finished run is taken in any case, because nothing is added to it.
    """
    _check_config(workdir, config)
    if (workdir / RESULTS).exists():
        return
    there = next(folder for folder in (workdir, *workdir.absolute().parents) if folder.exists())
    for folder in (there, workdir / FOLDER):
        writable = not folder.exists() or os.access(folder, os.W_OK | os.X_OK, effective_ids=EFFECTIVE)
        require(writable, f"workdir is {workdir}, but {folder} cannot be written to; give another --workdir")
    if (workdir / LOCK).exists():
        with _hold(workdir):
            pass


def _check_config(workdir: Path, config: Mapping[str, object]) -> bool:
    """Returns whether the config is still to be saved; raises InputError as `check_workdir` does."""
    require(
        not is_saved_model(workdir),
        f"{workdir} holds a saved model, not a run; give another --workdir, "
        f"and --from {workdir} to start from the model",
    )
    saved = workdir / CONFIG
    if saved.exists():
        found = read_json(saved)
        require(isinstance(found, dict), f"{saved} is no config of rnn_jax; give a new or empty folder")
        different = changes(completed(found), completed(json.loads(json.dumps(config))))
        require(
            not different or not has_begun(workdir),
            f"{workdir} holds a run with another config ({'; '.join(different)}); "
            "give those values to resume it, or another --workdir for a new run; a new run that starts from "
            f"this one's parameters: rnn-jax train --from {workdir} --workdir NEW, or rnn_jax.fit(..., "
            f"start={str(workdir)!r})",
        )
        return bool(different)
    empty = not workdir.exists() or (
        # A run that was killed before it saved its config leaves these.
        workdir.is_dir() and set(workdir.iterdir()) <= {workdir / LOCK, *leftovers(saved)}
    )
    require(
        empty, f"{workdir} exists and is no run of rnn_jax (it has no {CONFIG}); give a new or empty folder"
    )
    return True


@contextmanager
def open_workdir(workdir: Path, config: Mapping[str, object]) -> Iterator[None]:
    """Makes a folder the folder of a run, saves the config in it, and keeps other runs out while it is open.

    A process that dies lets go of the folder.

    Args:
      workdir: a folder as `check_workdir` takes it.
      config: the settings of the run, nested dicts of JSON values.

    Raises:
      InputError: another run is under way in it, or it belongs to another config (the message names the
        keys), or to something else.

    >>> import tempfile
    >>> workdir = Path(tempfile.mkdtemp())
    >>> with open_workdir(workdir, {"seed": 0}):
    ...     sorted(path.name for path in workdir.iterdir())
    ['config.json', 'lock']
    """
    _check_config(workdir, config)
    workdir.mkdir(parents=True, exist_ok=True)
    with _hold(workdir):
        if _check_config(workdir, config):  # again: another run may have come first
            for torn in leftovers(workdir / CONFIG):
                torn.unlink()
            write_json(workdir / CONFIG, config)
        yield


@contextmanager
def _hold(workdir: Path) -> Iterator[None]:
    try:
        held = FileLock(workdir / LOCK, timeout=0).acquire()
    except Timeout as error:
        raise InputError(
            f"another run is under way in {workdir}; wait for its end, or give another --workdir"
        ) from error
    with held:
        yield


def save_task(workdir: Path, tokenizer: Tokenizer, begun: bool = False, **task: object) -> None:
    """Saves what turns text into batches (tokenizer.json, buckets) and predictions into names (task.json).

    Raises:
      InputError: the run has `begun` with another task: the rest of it would be trained on other data.
    """
    if begun and (workdir / TASK).exists():
        check_task(workdir, task)
    write_text(workdir / TOKENIZER, tokenizer.to_json())
    write_json(workdir / TASK, task)


def check_task(workdir: Path, task: Mapping[str, object]) -> None:
    """Raises InputError unless the run in a folder has this task: its labels, buckets and digest of data."""
    found = read_json(workdir / TASK)
    require(isinstance(found, dict), f"{workdir / TASK} is no task of rnn_jax; give another --workdir")
    changed = "; ".join(changes(found, json.loads(json.dumps(task))))
    require(
        not changed,
        f"the run in {workdir} began with other data, or with another version of rnn_jax ({changed}); "
        "give it the texts and labels that it began with, or another --workdir",
    )


def write_json(path: Path, value: object) -> None:
    """Writes indented JSON, whole or not at all."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    """Writes a UTF-8 file, whole or not at all."""
    with replacing(path) as file:
        file.write(text.encode("utf-8"))


def read_results(workdir: Path, measures: Sequence[str]) -> dict[str, Json]:
    """Returns what results.json holds.

    Raises:
      InputError: that is no report of a run, or one without a number for each of `measures`.
    """
    path = workdir / RESULTS
    results = read_json(path)
    known = isinstance(results, dict) and isinstance(results.get("seconds"), dict)
    measured = known and all(isinstance(results.get(name), int | float) for name in measures)
    require(measured, f"{path} is no report of a run; delete it, and the run is tested again")
    return results


def read_json(path: Path) -> Json:
    """Returns the JSON value in a file. Raises InputError, naming the file, where it is missing or broken."""
    try:
        return json.loads(read_text(path))
    except InputError:
        raise
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error
