"""Hostile runs and texts: each case is refused with the documented error, or works."""

import functools
import json
import random
import shutil
import tempfile
from pathlib import Path
from typing import Any

import jax
import numpy as np

from rnn_jax.inference.predictor import load
from rnn_jax.inference.writer import load_language_model
from tests.helpers.runs import make_language_run, make_run
from tests.stress import hostile_files as files
from tests.stress.hostile_tables import Case

FILES = ("config.json", "task.json", "tokenizer.json", "checkpoint")
NUMBERS = True, 0, -1, 10**9, 10**30, 1.5, float("nan"), float("inf")
NESTED: tuple = [], [1], ["a"], {}, {"a": 1}, {"get": 1}, {"a.b": 1}, {"__class__": 1}
VALUES = (None, *NUMBERS, "", "x", "a\0b", "../..", "9" * 5000, *NESTED)
TEXTS = ["a great film", "dull", ""]


class Refused(Exception):
    """Bad input ended as it should, in another way than by an InputError."""


@functools.cache
def trained(language: bool = False) -> Path:
    """Returns the folder of a run, made once in this process."""
    folder = Path(tempfile.mkdtemp()) / "run"
    make_language_run(folder) if language else make_run(folder, bidirectional=False)
    return folder


@functools.cache
def predictor():
    """Returns a classifier whose model reads forward."""
    return load(trained())


def run_case(rng: random.Random, folder: Path) -> Case:
    """Returns a case of a run's folder in which a file is damaged or has other values."""
    language = rng.random() < 0.15
    workdir = folder / "run"
    shutil.copytree(trained(language), workdir)
    name = rng.choice(FILES)
    if language and name == "task.json":
        name = "tokenizer.json"
    path = workdir / name
    if name == "checkpoint":
        path = rng.choice(sorted(file for file in (workdir / "checkpoints").rglob("*") if file.is_file()))
    kind = "another value"
    if name == "checkpoint" or rng.random() < 0.3:
        kind, content = files.damaged(rng, path.read_bytes())
        path.write_bytes(content)
    elif rng.random() < 0.15:
        kind = _put(rng, path)
    else:
        path.write_text(json.dumps(_changed(rng, json.loads(path.read_text()))))

    def run() -> None:
        which, fallback = rng.choice(("best", "last", 2, 9, "x")), rng.random() < 0.2
        if language:
            load_language_model(workdir, which, fallback).write("a film", 2, 1.0, 2, 0)
            return
        found = load(workdir, which, fallback)
        if kind != "another value" or rng.random() < 0.3:
            _check(found.predict(TEXTS).probabilities, len(TEXTS))
        if name == "checkpoint":
            saved = load(trained(), found.step).params
            assert all(map(np.array_equal, jax.tree.leaves(found.params), jax.tree.leaves(saved)))

    return f"{name}: {kind}", run


def _put(rng: random.Random, path: Path) -> str:
    path.unlink()
    kind = rng.choice(("a folder", "a symlink to itself", "a device", "missing", "nested deeply"))
    if kind == "a folder":
        path.mkdir()
    elif kind in ("a symlink to itself", "a device"):
        path.symlink_to(path if kind == "a symlink to itself" else "/dev/zero")
    elif kind == "nested deeply":
        path.write_text("[" * 10**6)
    return kind


def _changed(rng: random.Random, value):
    """Returns a JSON value in which one place, however deep, is another value, missing, or there twice."""
    if not isinstance(value, dict | list) or not value or rng.random() < 0.08:
        return rng.choice(VALUES)
    keys = list(value) if isinstance(value, dict) else range(len(value))
    key = rng.choice([*keys])
    if rng.random() < 0.1:
        return [each for place, each in enumerate(value) if place != key] if isinstance(value, list) else {
            name: each for name, each in value.items() if name != key
        }  # fmt: skip
    if isinstance(value, dict) and rng.random() < 0.1:
        return {**value, rng.choice(("a.b", "get", "__init__", "", "x", "\ud800")): rng.choice(VALUES)}
    changed = list(value) if isinstance(value, list) else dict(value)
    changed[key] = _changed(rng, value[key])
    return changed


def _check(probabilities: np.ndarray, count: int) -> None:
    assert probabilities.shape[0] == count
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)


def text_case(rng: random.Random, folder: Path) -> Case:
    """Returns a case of texts to predict, at once, alone and word by word."""
    texts: Any = [rng.choice((files.text(rng), *files.UNENCODABLE)) for _ in range(rng.randrange(5))]
    odd = rng.random() < 0.1
    if odd:
        texts = rng.choice((texts, [*texts, None], "one text", [b"bytes"], [["a"]], [1.5], None, 3))

    def run() -> None:
        try:
            found = predictor().predict(texts)
        except TypeError as error:  # documented, for what is no list of strings
            if odd and ("string" in str(error) or "len()" in str(error)):
                raise Refused(str(error)) from error
            raise
        _check(found.probabilities, len(texts)) if texts else None
        for text, row in zip(texts, found.probabilities, strict=True):
            readable = text.encode("utf-8", "replace").decode()
            alone = predictor().predict([readable]).probabilities[0]
            np.testing.assert_allclose(alone, row, atol=1e-5)
            if len(text) < 100:
                stream = predictor().stream()
                stream.feed(text)
                if stream.length <= predictor().config.text.max_length:
                    np.testing.assert_allclose(stream.probabilities, row, atol=1e-5)

    return "wrong types" if odd else "odd texts", run
