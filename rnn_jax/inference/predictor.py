"""A trained model in use: `load(workdir)` gives an object that predicts, evaluates and explains."""

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from rnn_jax.checkpoints.restore import ClassifierTask, read_config, read_task, restored
from rnn_jax.checkpoints.workdir import CLASSIFY, CONFIG, TASK, TOKENIZER
from rnn_jax.data.batches import Batch, Batches
from rnn_jax.data.labels import positions
from rnn_jax.data.tokenizer import Tokenizer, truncate
from rnn_jax.errors import InputError, choose, require
from rnn_jax.files import path_of
from rnn_jax.inference.attribution import Attribution, attribute_words
from rnn_jax.inference.stream import Steps, Stream, make_steps
from rnn_jax.models.classifier import TextClassifier, build_classifier
from rnn_jax.models.losses import Metrics, batch_metrics, class_log_probabilities
from rnn_jax.trees import Params

CLASSIFIER_KEYS = ("model.cell", "text.max_length", "text.truncate", "batch.size")


class Prediction(NamedTuple):
    """What a classifier says of n texts, as `Predictor.predict` returns it.

    Attributes:
      labels: the most probable label of each text.
      probabilities: float32[n, C], of each class, in the order of `Predictor.label_names`.

    >>> prediction = Prediction(["fine"], np.array([[0.25, 0.75]], np.float32))
    >>> prediction.labels, prediction.probabilities.tolist()
    (['fine'], [[0.25, 0.75]])
    """

    labels: list[str]
    probabilities: np.ndarray


class Predictor:
    """A trained classifier, as `load` returns it.

    >>> predictor = load("runs/bilstm")  # doctest: +SKIP
    >>> predictor.predict(["what a film", "dull"]).labels  # doctest: +SKIP
    ['positive', 'negative']

    Attributes:
      config: the resolved config of its run.
      model: the TextClassifier.
      params: its parameters, a nested dict.
      apply_fn: the jitted `logits = apply_fn({"params": params}, token_ids, lengths)`.
      tokenizer: text to word ids.
      label_names: the names of the C classes, in the order of the probabilities.
      label_values: what stood for each class in the label column of the training data.
      buckets: the lengths that texts are padded to.
      step: the training step of the checkpoint.
    """

    def __init__(
        self,
        config: ConfigDict,
        model: TextClassifier,
        params: Params,
        tokenizer: Tokenizer,
        task: ClassifierTask,
        step: int,
    ):
        """Takes what `load` reads; the attributes have the same names."""
        self.config, self.model, self.params = config, model, params
        self.tokenizer, self.step = tokenizer, step
        self.label_names: tuple[str, ...] = tuple(map(str, task["label_names"]))
        self.label_values: list[int | str | bool] = task["label_values"]
        self.buckets: tuple[int, ...] = tuple(task["buckets"])
        self.apply_fn = jax.jit(model.apply, static_argnames="deterministic")

    def predict(self, texts: Sequence[str]) -> Prediction:
        """Returns labels and probabilities in the order of the texts.

        Texts are tokenised and cut as in training. Of a text of no words the network reads nothing: its
        state stays zero.

        Args:
          texts: n strings; none gives an empty prediction.

        Raises:
          TypeError: `texts` is one string, or holds something that is not a string.
        """
        probabilities = np.zeros((len(texts), len(self.label_names)), dtype=np.float32)
        for batch, logits in self._logits(texts, np.zeros(len(texts), dtype=np.int32)):
            count = int(batch.weights.sum())
            probabilities[batch.rows[:count]] = np.exp(class_log_probabilities(logits))[:count]
        return Prediction([self.label_names[index] for index in probabilities.argmax(axis=1)], probabilities)

    def evaluate(self, texts: Sequence[str], labels: Sequence[int] | np.ndarray) -> Metrics:
        """Returns the summed loss and the confusion counts; `.summary()` has the mean loss and the accuracy.

        Args:
          texts: n strings, at least one.
          labels: int[n], positions in `label_names`; `label_positions` makes them of a label column.

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

    def stream(self) -> Stream:
        """Returns a new stream: `stream.feed(piece)` reads on and gives the probabilities after each word.

        Raises:
          InputError: a model that does not read left to right alone.
        """
        return Stream(self._steps, self.params, self.tokenizer)

    def attribute(
        self, text: str, label: str | None = None, of: str = "logit", steps: int = 64
    ) -> Attribution:
        """Returns what each word that `predict` reads of a text adds to the logit or probability of a class.

        Args:
          label: the class; None takes the most probable.
          of, steps: as in `attribute_words` of rnn_jax.inference.attribution, and refused as there.

        Raises:
          InputError: an unknown label.
          TypeError: the text is not a string.
        """
        ids, words = self.tokenizer.spell(text)
        label = self.predict([text]).labels[0] if label is None else label
        number = choose("label", label, {name: index for index, name in enumerate(self.label_names)})
        (kept,) = truncate([np.arange(len(ids))], self.config.text.max_length, self.config.text.truncate)
        (batch,) = Batches([ids[kept]], np.zeros(1, np.int32), self.buckets, 1).in_order()
        scores, value, baseline = attribute_words(
            self.model.apply, self.params, batch.token_ids[0], len(kept), number, of=of, steps=steps
        )
        read = [words[index] for index in kept]
        return Attribution(read, np.asarray(scores)[: len(kept)], label, float(value), float(baseline))

    def label_positions(self, values: Sequence[object]) -> np.ndarray:
        """Returns int32 positions in `label_names` for the values of a label column.

        Raises:
          InputError: a value that the training data did not have.
        """
        return positions(values, self.label_values, "to evaluate on")

    @cached_property
    def _steps(self) -> Steps:
        return make_steps(self.model)

    def _logits(self, texts: Sequence[str], labels: np.ndarray) -> Iterator[tuple[Batch, jax.Array]]:
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

    >>> load("runs/none")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    rnn_jax.errors.InputError: workdir is 'runs/none', which is not the folder of a run: ...
    """
    workdir = path_of(workdir)
    config = read_config(workdir, CLASSIFY, CLASSIFIER_KEYS)
    tokenizer, task = Tokenizer.load(workdir / TOKENIZER), read_task(workdir / TASK, config)
    try:
        model = build_classifier(tokenizer.vocab_size, len(task["label_names"]), **config.model)
    except TypeError as error:
        raise InputError(f"{workdir / CONFIG} is not of this version of rnn_jax: {error}") from error
    params, step = restored(workdir, model, which, fallback)
    return Predictor(config, model, params, tokenizer, task, step)
