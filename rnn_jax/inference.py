"""A trained model in use: `load(workdir)` gives an object that predicts and evaluates."""

from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from rnn_jax.batches import Batches
from rnn_jax.checkpoint import Checkpoints
from rnn_jax.corpus import positions
from rnn_jax.errors import InputError, choose, require
from rnn_jax.models import build_classifier
from rnn_jax.settings import flatten
from rnn_jax.text import Tokenizer, truncate
from rnn_jax.training import Metrics, batch_metrics, class_log_probabilities
from rnn_jax.workdir import CLASSIFY, CONFIG, LANGUAGE, TASK, TOKENIZER, check_run, read_json

CONFIG_KEYS = ("model.cell", "text.max_length", "text.truncate", "batch.size")
TASK_KEYS = ("label_names", "label_values", "buckets")
USES = {  # what a run of each kind is, and how it is used
    CLASSIFY: "a classifier: use rnn_jax.load, rnn-jax predict, rnn-jax evaluate and rnn-jax export",
    LANGUAGE: "a language model, which has no labels: use rnn_jax.load_language_model and rnn-jax sample, or "
    "start a classifier from it with config.embedding.from_workdir; rnn-jax export takes classifiers alone",
}


class Prediction(NamedTuple):
    """`labels[i]` is the most probable label of text i; `probabilities`, float32[n, C], has each class's."""

    labels: list[str]
    probabilities: np.ndarray


class Predictor:
    """A trained classifier.

    Attributes:
      config: the resolved config of its run.
      params: its parameters, a nested dict.
      apply_fn: the jitted `logits = apply_fn({"params": params}, token_ids, lengths)`.
      tokenizer: text to word ids.
      label_names: the names of the classes, in the order of the probabilities.
      step: the training step of the checkpoint.
    """

    def __init__(
        self, config: ConfigDict, model: nn.Module, params: Any, tokenizer: Tokenizer, task: dict, step: int
    ):
        self.config, self.params, self.tokenizer, self.step = config, params, tokenizer, step
        self.label_names: tuple[str, ...] = tuple(map(str, task["label_names"]))
        self.label_values: list[Any] = task["label_values"]
        self.buckets: tuple[int, ...] = tuple(task["buckets"])
        self.apply_fn = jax.jit(model.apply, static_argnames="deterministic")

    def predict(self, texts: Sequence[str]) -> Prediction:
        """Returns labels and probabilities in the order of the texts; a text of no words leaves a zero state.

        Raises:
          TypeError: `texts` is one string, or holds something that is not a string.
        """
        probabilities = np.zeros((len(texts), len(self.label_names)), dtype=np.float32)
        for batch, logits in self._logits(texts, np.zeros(len(texts), dtype=np.int32)):
            count = int(batch.weights.sum())
            probabilities[batch.rows[:count]] = np.exp(class_log_probabilities(logits))[:count]
        return Prediction([self.label_names[index] for index in probabilities.argmax(axis=1)], probabilities)

    def evaluate(self, texts: Sequence[str], labels: Sequence[int] | np.ndarray) -> Metrics:
        """Returns loss and confusion counts against labels given as positions in `label_names`.

        Raises:
          InputError: no texts, not one label for each, or a label that is no position.
        """
        classes = range(len(self.label_names))
        require(len(texts) > 0, "there are no texts to evaluate on")
        require(len(texts) == len(labels), f"there are {len(texts)} texts and {len(labels)} labels")
        wrong = [label for label in np.asarray(labels).tolist() if label not in classes]
        require(not wrong, f"labels {wrong[:20]} are no positions in label_names, 0 to {classes[-1]}")
        labels = np.asarray(labels, dtype=np.int32)
        parts = [batch_metrics(logits, batch) for batch, logits in self._logits(texts, labels)]
        return Metrics(*(np.sum(field, axis=0) for field in zip(*parts, strict=True)))

    def label_positions(self, values: Sequence[Any]) -> np.ndarray:
        """Returns int32 positions in `label_names` for the values of a label column.

        Raises:
          InputError: a value that the training data did not have.
        """
        odd = [value for value in values if not isinstance(value, Hashable)]
        require(not odd, f"the label column holds {odd[:1]}; a label is an integer, a string or a boolean")
        return positions(values, self.label_values, "to evaluate on")

    def _logits(self, texts: Sequence[str], labels: np.ndarray):
        if isinstance(texts, str):
            raise TypeError(f"texts is one string, {texts[:40]!r}; give a list of strings")
        if not len(texts):
            return
        text = self.config.text
        rows = truncate(self.tokenizer.encode(texts), text.max_length, text.truncate)
        for batch in Batches(rows, labels, self.buckets, self.config.batch.size).in_order():
            yield batch, self.apply_fn({"params": self.params}, batch.token_ids, batch.lengths)


def load(workdir: str | Path, which: str | int = "best", fallback: bool = False) -> Predictor:
    """Returns the classifier that a run saved, on the default device.

    Args:
      workdir: the run's folder.
      which: "best" (on validation), "last", or the step of a checkpoint.
      fallback: where the wanted checkpoint cannot be read, take the newest one that can.

    Raises:
      InputError: no run of a classifier, no such checkpoint, or one that cannot be read or is of another
        network.
    """
    workdir = Path(workdir)
    config = read_config(workdir, CLASSIFY, CONFIG_KEYS)
    tokenizer, task = Tokenizer.load(workdir / TOKENIZER), _read(workdir / TASK, TASK_KEYS)
    try:
        model = build_classifier(tokenizer.vocab_size, len(task["label_names"]), **config.model)
    except TypeError as error:
        raise InputError(f"{workdir / CONFIG} is not of this version of rnn_jax: {error}") from error
    params, step = restored(workdir, model, which, fallback)
    return Predictor(config, model, params, tokenizer, task, step)


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
    return ConfigDict(_read(workdir / CONFIG, needed))


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


def _read(path: Path, needed: Sequence[str]) -> dict[str, Any]:
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
