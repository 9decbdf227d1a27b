"""A run or a saved model, read for use: its config, the labels of a classifier, and its parameters."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NotRequired, TypedDict

import flax.linen as nn
import jax
from ml_collections import ConfigDict

from rnn_jax.checkpoints.checkpoints import Checkpoints
from rnn_jax.checkpoints.workdir import (
    CLASSIFY,
    CONFIG,
    EVIDENCE,
    LANGUAGE,
    PARAMS,
    TAG,
    TASK,
    Json,
    check_run,
    is_saved_model,
    read_json,
)
from rnn_jax.config import flatten
from rnn_jax.convert.parameter_files import load_params
from rnn_jax.data.evidence import Evidence, check_evidence, evidence_from_arrays, ratio_count
from rnn_jax.data.targets import LABELS, NUMBER, check_target
from rnn_jax.errors import InputError, choose, require
from rnn_jax.models.classifier import smallest_input
from rnn_jax.settings import completed
from rnn_jax.trees import Params, leaves_by_path

USES = {  # what a run of each kind is, and how it is used
    CLASSIFY: "a classifier: use rnn_jax.load, rnn-jax predict, rnn-jax evaluate and rnn-jax export",
    LANGUAGE: "a language model, which has no labels: use rnn_jax.load_language_model and rnn-jax sample, or "
    "start a classifier from it with config.embedding.from_workdir; rnn-jax export takes classifiers and "
    "taggers",
    TAG: "a tagger of words: use rnn_jax.load, rnn-jax predict, rnn-jax evaluate and rnn-jax export",
}

FEWEST = {LABELS: 1, NUMBER: 0}  # label names of a run, by target; a class is one of two at least

# Sizes in a config: a hostile one could fill the memory before it is compared with the parameters.
LARGEST_SIZES = {
    "model.embedding_dim": 2**20,
    "model.hidden": 2**20,
    "model.layers": 2**8,
    "model.letter_dim": 2**20,
    "text.letters": 2**10,
    "text.max_length": 2**20,
    "batch.size": 2**16,
}


class ClassifierTask(TypedDict):
    """What a classifier's task.json holds: the names and the values of the labels, and the padded lengths.

    That of a regressor has no labels, and the mean and deviation of the numbers that it was trained on.
    """

    label_names: list[str]
    label_values: list[int | str | bool]
    buckets: list[int]
    mean: NotRequired[float]
    deviation: NotRequired[float]


def read_config(workdir: Path, task: str, needed: Sequence[str]) -> ConfigDict:
    """Returns the config of a run.

    Args:
      workdir: the folder of the run.
      task: the kind of run that it has to be, such as "classify".
      needed: dotted keys that it has to have.

    Raises:
      InputError: no run, or one of another kind or version; the message says how that kind is used.

    >>> import tempfile
    >>> workdir = Path(tempfile.mkdtemp())
    >>> (workdir / "checkpoints").mkdir()
    >>> _ = (workdir / "config.json").write_text('{"task": "classify", "seed": 7}')
    >>> read_config(workdir, "classify", ["seed"]).seed
    7
    """
    check_run("workdir", workdir)
    config = read_json(workdir / CONFIG)
    # The first runs were all of one kind, and their configs do not name it.
    found = config.get("task", CLASSIFY) if isinstance(config, dict) else task
    if found != task:
        raise InputError(f"{workdir} holds {choose('config.task', found, USES)}")
    settings = completed(read_settings(workdir / CONFIG, needed))
    _check_sizes(workdir / CONFIG, settings)
    try:
        return ConfigDict(settings)
    except (KeyError, ValueError, AttributeError) as error:
        raise InputError(f"{workdir / CONFIG} has a name that no setting has: {error}") from error


def settings_of_run(workdir: Path) -> ConfigDict:
    """Returns the settings of a run of any task, for a new run like it: lists are tuples again.

    Raises:
      InputError: the folder is that of no run, or its config cannot be read.

    >>> import tempfile
    >>> workdir = Path(tempfile.mkdtemp())
    >>> (workdir / "checkpoints").mkdir()
    >>> _ = (workdir / "config.json").write_text('{"train": {"freeze": [["encoder", 1]]}}')
    >>> settings_of_run(workdir).train.freeze
    (('encoder', 1),)
    """
    check_run("workdir", workdir)
    found = read_json(workdir / CONFIG)
    require(isinstance(found, dict), f"{workdir / CONFIG} is no config of rnn_jax")
    return ConfigDict(_with_tuples(completed({"task": CLASSIFY, **found})))


def _with_tuples(value: Json) -> Json:
    if isinstance(value, dict):
        return {name: _with_tuples(each) for name, each in value.items()}
    return tuple(map(_with_tuples, value)) if isinstance(value, list) else value


def restored(workdir: Path, model: nn.Module, which: str | int, fallback: bool) -> tuple[Params, int]:
    """Returns the parameters of a checkpoint, on the default device, and its step.

    Args:
      workdir: the folder of the run.
      model: the network that the parameters are for; its `init` takes token_ids [B, T] and lengths [B].
      which: "best" (on validation), "last", or the step of a checkpoint.
      fallback: where the wanted checkpoint cannot be read, take the newest one that can.

    Raises:
      InputError: no such checkpoint, or one that cannot be read or is of another network.

    >>> params, step = restored(Path("runs/bilstm"), model, "best", fallback=False)  # doctest: +SKIP
    """
    if is_saved_model(workdir):
        params = load_params(workdir / PARAMS)
        _check_shapes(params, model, workdir)
        return jax.device_put(params), _step_of(workdir, which)
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


def best_params(workdir: Path) -> Params:
    """Returns the parameters, as numpy arrays, of the best checkpoint of a run, or those of a saved model.

    Raises:
      InputError: there are none, or they cannot be read.
    """
    if is_saved_model(workdir):
        return load_params(workdir / PARAMS)
    with Checkpoints(workdir) as checkpoints:
        return checkpoints.restore_params(checkpoints.steps("best", fallback=False)[0])


def _step_of(folder: Path, which: str | int) -> int:
    """Returns the training step of a saved model. Raises InputError where another one is wanted."""
    step = read_settings(folder / TASK, ["step"])["step"]
    require(
        type(step) is int and step >= 0, f"{folder / TASK}: step is {str(step)[:80]}, not a step of training"
    )
    require(
        which in ("best", step),
        f"which is {which!r}, but {folder} is a saved model, not a run: it holds step {step} alone; "
        "leave `which` out",
    )
    return step


def read_settings(path: Path, needed: Sequence[str]) -> dict[str, Json]:
    """Returns a JSON file of a run. Raises InputError unless it has the keys that are needed."""
    settings = read_json(path)
    found = flatten(settings) if isinstance(settings, dict) else {}
    missing = [key for key in needed if key not in found]
    require(not missing, f"{path} is not of this version of rnn_jax: it has no {', '.join(missing)}")
    return settings


def read_task(path: Path, config: ConfigDict) -> ClassifierTask:
    """Returns the labels and buckets of a run. Raises InputError where they make no sense."""
    data = config.data if isinstance(config.data, ConfigDict) else {}
    names = ("target", "separator", "pair_column")
    plain = all(isinstance(data.get(name), str) for name in names)
    require(
        plain, f"{path.with_name(CONFIG)}: data.target, data.separator and data.pair_column are no strings"
    )
    target = data["target"]
    check_target(target, data["separator"], ())
    numbers = ["mean", "deviation"] if target == NUMBER else []
    task = read_settings(path, ["label_names", "label_values", "buckets", *numbers])
    names, values, buckets = task["label_names"], task["label_values"], task["buckets"]
    texts = isinstance(names, list) and all(isinstance(name, str) for name in names)
    fits = texts and len(set(names)) == len(names) >= FEWEST.get(target, 2)
    require(fits, f"{path}: label_names are no names, each once")
    plain = isinstance(values, list) and all(isinstance(value, int | str) for value in values)
    require(
        plain and len(set(values)) == len(values) == len(names),
        f"{path}: label_values are not {len(names)} integers, strings or booleans, each once",
    )
    check_buckets(path, buckets, config.text.max_length)
    scale = {name: task[name] for name in numbers}
    real = all(type(value) in (int, float) and math.isfinite(value) for value in scale.values())
    require(
        real and scale.get("deviation", 1.0) > 0,
        f"{path}: mean and deviation are {scale}; they are a number, and one above 0",
    )
    if numbers:
        return {"label_names": [], "label_values": [], "buckets": buckets, **scale}  # type: ignore[typeddict-item]
    return {"label_names": names, "label_values": values, "buckets": buckets}


def load_evidence(workdir: Path, config: ConfigDict, vocab_size: int, classes: int) -> Evidence | None:
    """Returns the n-grams that a run's network reads; None where its settings name none.

    Raises:
      InputError: the settings make no sense, or the file is missing, damaged or of another network.
    """
    settings = config.embedding.get("evidence") if isinstance(config.get("embedding"), ConfigDict) else None
    orders = settings.get("orders", ()) if isinstance(settings, ConfigDict) else ()
    require(isinstance(orders, list | tuple), f"{workdir / CONFIG}: embedding.evidence.orders is no list")
    if not orders:
        return None
    check_evidence(orders, vocab_size)
    columns = ratio_count(classes, several=config.data.target == LABELS)
    path = workdir / EVIDENCE
    evidence = evidence_from_arrays(load_params(path), path, vocab_size, len(orders) * columns)
    require(evidence.orders == tuple(orders), f"{path} has the orders {evidence.orders}, not {tuple(orders)}")
    return evidence


def check_buckets(path: Path, buckets: Json, last: int) -> None:
    """Raises InputError unless the buckets in a file are numbers of words that grow to `last`."""
    whole = isinstance(buckets, list) and all(type(size) is int and size > 0 for size in buckets)
    require(
        whole and bool(buckets) and buckets == sorted(set(buckets)) and buckets[-1] == last,
        f"{path}: buckets are not numbers of words that grow to config.text.max_length, {last}",
    )


def _check_sizes(path: Path, settings: dict[str, Json]) -> None:
    """Raises InputError for a size that is no positive integer, or too large to be built."""
    flat = flatten(settings)
    for key, most in LARGEST_SIZES.items():
        fits = key not in flat or (type(flat[key]) is int and 0 < flat[key] <= most)
        require(fits, f"{path}: {key} is {str(flat.get(key))[:100]}; it is an integer from 1 to {most:,}")


def _check_shapes(params: Params, model: nn.Module, workdir: Path) -> None:
    expected = jax.eval_shape(model.init, jax.random.key(0), *smallest_input(model))["params"]
    found_types, expected_types = (
        {path: (leaf.shape, leaf.dtype) for path, leaf in leaves_by_path(tree).items()}
        for tree in (params, expected)
    )
    wrong = sorted(
        path
        for path in found_types.keys() | expected_types.keys()
        if found_types.get(path) != expected_types.get(path)
    )
    require(
        not wrong, f"the checkpoint in {workdir} is of another network than its config: {wrong[:5]} differ"
    )
