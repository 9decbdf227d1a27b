"""A saved run, read for use: its config and the parameters of a checkpoint."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from rnn_jax.checkpoint import Checkpoints
from rnn_jax.errors import InputError, choose, require
from rnn_jax.settings import flatten
from rnn_jax.workdir import CLASSIFY, CONFIG, LANGUAGE, check_run, read_json

USES = {  # what a run of each kind is, and how it is used
    CLASSIFY: "a classifier: use rnn_jax.load, rnn-jax predict, rnn-jax evaluate and rnn-jax export",
    LANGUAGE: "a language model, which has no labels: use rnn_jax.load_language_model and rnn-jax sample, or "
    "start a classifier from it with config.embedding.from_workdir; rnn-jax export takes classifiers alone",
}


def read_config(workdir: Path, task: str, needed: Sequence[str]) -> ConfigDict:
    """Returns the config of a run.

    Args:
      task: the kind of run that it has to be, of `USES`.
      needed: keys that it has to have.

    Raises:
      InputError: no run, or one of another kind or version; the message says how that kind is used.
    """
    check_run("workdir", workdir)
    config = read_json(workdir / CONFIG)
    found = config.get("task", CLASSIFY) if isinstance(config, dict) else task  # there was one kind at first
    require(found == task, f"{workdir} holds {choose('config.task', found, USES)}")
    return ConfigDict(read_settings(workdir / CONFIG, needed))


def restored(workdir: Path, model: nn.Module, which: str | int, fallback: bool) -> tuple[Any, int]:
    """Returns the parameters of a checkpoint, on the default device, and its step; raises as `load` does."""
    problems = []
    with Checkpoints(workdir) as checkpoints:
        for step in checkpoints.steps(which, fallback):
            try:
                params = checkpoints.restore_params(step)
                _check_shapes(params, model, workdir)
                return jax.device_put(params), step
            except InputError as error:
                problems.append(str(error))
    raise InputError("; ".join(problems))


def read_settings(path: Path, needed: Sequence[str]) -> dict[str, Any]:
    """Returns a JSON file of a run. Raises InputError unless it has the keys that are needed."""
    settings = read_json(path)
    found = flatten(settings) if isinstance(settings, dict) else {}
    missing = [key for key in needed if key not in found]
    require(not missing, f"{path} is not of this version of rnn_jax: it has no {', '.join(missing)}")
    return settings


def _check_shapes(params: Any, model: nn.Module, workdir: Path) -> None:
    arguments = jnp.zeros((1, 1), jnp.int32), jnp.ones(1, jnp.int32)
    expected = jax.eval_shape(model.init, jax.random.key(0), *arguments)["params"]
    found_shapes, expected_shapes = (
        {jax.tree_util.keystr(path): leaf.shape for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
        for tree in (params, expected)
    )
    wrong = sorted(
        path
        for path in found_shapes.keys() | expected_shapes.keys()
        if found_shapes.get(path) != expected_shapes.get(path)
    )
    require(
        not wrong, f"the checkpoint in {workdir} is of another network than its config: {wrong[:5]} differ"
    )
