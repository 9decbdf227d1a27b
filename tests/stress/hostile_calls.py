"""Hostile commands, settings and arrays: each case is refused with the documented error, or works."""

import contextlib
import io
import random
import sys
from pathlib import Path
from typing import Any

import numpy as np

from configs import language_model, lstm
from rnn_jax import cli
from rnn_jax.config import flatten
from rnn_jax.convert import frameworks as convert
from rnn_jax.training.loop import check_config
from tests.stress import hostile_files as files
from tests.stress.hostile_tables import Case
from tests.stress.hostile_use import VALUES, Refused, predictor, trained


def command_case(rng: random.Random, folder: Path) -> Case:
    """Returns a case of a command line, as `rnn-jax` reads it, in this process."""
    suffix = rng.choice((".csv", ".jsonl", ".parquet", ".txt", ""))
    path = folder / f"data{suffix}"
    content = files.csv_bytes(rng, files.rows(rng, 0.2))
    path.write_bytes(files.damaged(rng, content)[1] if rng.random() < 0.5 else content)
    arguments = _arguments(rng, folder, path)

    def run() -> None:
        out, errors = io.TextIOWrapper(io.BytesIO(), "utf-8"), io.StringIO()
        stdin = io.TextIOWrapper(io.BytesIO(path.read_bytes()), "utf-8")
        code: Any = 0
        kept = sys.stdin
        try:
            sys.stdin = stdin
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
                cli.main(arguments)
        except SystemExit as ended:
            code = ended.code or 0
        finally:
            sys.stdin = kept
        said = errors.getvalue()
        assert code in (0, 2), f"exit code {code}"
        assert "Traceback" not in said
        if code:
            assert said.startswith(("rnn-jax: ", "usage: ")), said[:300]
            raise Refused(said)

    return f"rnn-jax {arguments[0][:8] or '(nothing)'}", run


def _arguments(rng: random.Random, folder: Path, path: Path) -> list[str]:
    paths = str(path), str(folder), "", "\0", "~nobody/x.csv", "x" * 5000, "/dev/null", "./no.csv", "a\nb.csv"
    place = rng.choice(paths)
    workdir = str(trained()) if rng.random() < 0.8 else place
    heat, seed = str(rng.choice((1, "nan", "inf", 0, -1, "1e-45"))), str(rng.choice((0, -1, 10**30, "x")))
    outs = str(folder / "v.txt"), "", "/proc/v.txt", str(folder), str(path), "\0.vec"
    count = str(rng.choice((1, 2, 0, -5)))
    texts = rng.choice((files.text(rng), "\udcff", "-", "--x")), files.text(rng)
    prompt = rng.choice(("a film", "", "\udcff a", "\0"))
    random_words = ["--prompt", prompt, "--seed", seed, "--temperature", heat, "--words", count]
    commands = (
        ["predict", "--workdir", workdir, "--input", place, "--format", rng.choice(("table", "jsonl", "x"))],
        ["predict", "--workdir", workdir, *texts],
        ["evaluate", "--workdir", workdir, "--data", place, "--split", rng.choice(("train", "", "x"))],
        ["sample", "--workdir", str(trained(True)), *random_words, "--top-k", rng.choice("039")],
        [
            "vectors",
            "--data",
            place,
            "--out",
            rng.choice(outs),
            "--dim",
            count,
            "--min-count",
            "1",
            "--seed",
            seed,
        ],
        ["export", "--workdir", workdir, "--out", rng.choice(outs)],
        [rng.choice(("", "predict", "x", "--help")), *[rng.choice(("--which", "--workdir", "9" * 5000))] * 2],
    )
    return rng.choice(commands)


def setting_case(rng: random.Random, folder: Path) -> Case:
    """Returns a case of a config, of which one to three settings have another value."""
    room = rng.choice((lstm, language_model))
    config = room.get_config()
    config.unlock()
    keys = rng.sample(list(flatten(config.to_dict())), rng.randrange(1, 4))
    for key in keys:
        types = TypeError, ValueError, KeyError, AttributeError  # of ConfigDict, which refuses some itself
        with contextlib.suppress(*types), config.ignore_type():
            config.update_from_flattened_dict({key: rng.choice(VALUES)})
    return "values of any type", lambda: check_config(config) and None


def conversion_case(rng: random.Random, folder: Path) -> Case:
    """Returns a case of arrays of other frameworks."""
    good = predictor().params["encoder"]
    torch = convert.to_torch(good)
    odd = np.full((4, 4), np.nan), np.array(["a"]), np.array([None]), np.zeros((0, 4)), np.zeros((10**6, 0))
    arrays: tuple = (None, 3, "x", np.zeros((2, 2)), [[1], [1, 2]], np.float32(1), {}, [], *odd)
    framework = rng.choice(("torch", "keras", "linen", "nnx", "haiku", "equinox", "x", "nnx_separate"))
    source: Any = rng.choice(
        (_array_changed(rng, good, arrays), _array_changed(rng, torch, arrays), good, torch, *arrays)
    )
    functions = {
        "from_cells": lambda: convert.from_cells(source, framework),
        "to_cells": lambda: convert.to_cells(source, framework),
        "from_torch": lambda: convert.from_torch(source),
        "to_torch": lambda: convert.to_torch(source),
        "from_keras": lambda: convert.from_keras(source),
        "to_keras": lambda: convert.to_keras(source),
    }
    name = rng.choice(list(functions))
    return f"{name}", lambda: functions[name]() and None


def _array_changed(rng: random.Random, tree, arrays):
    key = rng.choice(list(tree))
    inner = tree[key]
    new = (
        _array_changed(rng, inner, arrays)
        if isinstance(inner, dict) and rng.random() < 0.9
        else rng.choice(arrays)
    )
    changed = {**tree, key: new}
    if rng.random() < 0.1:
        changed[
            rng.choice((3, "", "cell", "layers_0", "weight_ih_l99", "layers_99999999999999999999", None))
        ] = new
    return changed
