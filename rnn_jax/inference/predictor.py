"""A trained model in use: `load(workdir)` gives an object that predicts, evaluates and explains."""

import functools
from collections.abc import Hashable, Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from rnn_jax.checkpoints.restore import ClassifierTask, read_config, read_task, restored
from rnn_jax.checkpoints.workdir import CLASSIFY, CONFIG, TASK, TOKENIZER
from rnn_jax.data.batches import Batch, Batches
from rnn_jax.data.in_memory import texts_in, values_of
from rnn_jax.data.labels import positions, read_labels
from rnn_jax.data.tokenizer import Tokenizer, truncate
from rnn_jax.errors import InputError, choose, require
from rnn_jax.inference.attribution import Attribution, attribute_words
from rnn_jax.inference.hub import local_folder
from rnn_jax.inference.model_card import About
from rnn_jax.inference.model_folder import save_model
from rnn_jax.inference.parts import bar_of, in_parts
from rnn_jax.inference.stream import Steps, Stream, make_steps
from rnn_jax.models.classifier import TextClassifier, build_classifier
from rnn_jax.models.losses import batch_metrics, class_log_probabilities, confusion_means
from rnn_jax.models.scores import classifier_scores
from rnn_jax.progress import Bar
from rnn_jax.trees import Params

MADE = ("model", "apply_fn", "_steps")  # what a copy of a predictor makes anew
CLASSIFIER_KEYS = ("model.cell", "text.max_length", "text.truncate", "batch.size")


class Positions(np.ndarray):
    """Integers that are positions in `Predictor.label_names`, not labels; `label_positions` returns them."""


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


class Evaluation(NamedTuple):
    """What `Predictor.evaluate` finds on n labelled texts.

    Attributes:
      loss: float32[], the summed cross-entropy, in nats.
      confusion: float32[C, C]; `confusion[i, j]` counts the examples of label i that are predicted as j.
      scores: as `rnn_jax.models.scores.classifier_scores` describes them.
    """

    loss: np.ndarray
    confusion: np.ndarray
    scores: dict[str, Any]

    def summary(self) -> dict[str, float]:
        """Returns the mean loss, the accuracy and the number of examples."""
        return confusion_means(self.loss, self.confusion, "examples")


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
      workdir: the folder of the run, or of the saved model.
      task: what task.json holds of it: the labels and the buckets.
    """

    def __init__(
        self,
        config: ConfigDict,
        model: TextClassifier,
        params: Params,
        tokenizer: Tokenizer,
        task: ClassifierTask,
        step: int,
        workdir: Path | None = None,
    ):
        """Takes what `load` reads; the attributes have the same names."""
        self.config, self.model, self.params = config, model, params
        self.tokenizer, self.step, self.workdir = tokenizer, step, workdir
        self.task = task
        self.label_names: tuple[str, ...] = tuple(map(str, task["label_names"]))
        self.label_values: list[int | str | bool] = task["label_values"]
        self.buckets: tuple[int, ...] = tuple(task["buckets"])
        self.apply_fn = _jitted(model)

    def predict(self, texts: Iterable[str | None], progress: bool = True) -> Prediction:
        """Returns labels and probabilities in the order of the texts.

        Texts are tokenised and cut as in training. Of a text of no words the network reads nothing: its
        state stays zero.

        Args:
          texts: n strings in any iterable, which is read a part at a time; none gives an empty prediction. A
            missing text, None or NaN, is a text of no words.
          progress: whether a terminal or a notebook shows a bar where this takes more than 2 seconds.

        Raises:
          TypeError: `texts` is one string, or holds something that is not a string.
        """
        parts = [self._nothing(), *self.predict_parts(texts, progress)]
        return Prediction(
            [label for part in parts for label in part.labels],
            np.concatenate([part.probabilities for part in parts]),
        )

    def predict_proba(self, texts: Iterable[str | None], progress: bool = True) -> np.ndarray:
        """Returns float32[n, C], the probabilities that `predict` returns.

        Raises:
          TypeError: as `predict`.
        """
        return self.predict(texts, progress).probabilities

    def predict_parts(self, texts: Iterable[str | None], progress: bool = True) -> Iterator[Prediction]:
        """Yields predictions of PART texts each, in their order, as `predict` makes them.

        Only one part of the texts is in memory at a time, so that the texts may be a stream without an end.

        Raises:
          TypeError: as `predict`.
        """
        for part, bar in in_parts(texts_in(texts), texts, progress):
            yield self._predict_part(part, bar)

    def evaluate(
        self, texts: Iterable[str | None], labels: Iterable[object], progress: bool = True
    ) -> Evaluation:
        """Returns the summed loss, the confusion counts and the scores, from one pass over the texts.

        `.summary()` has the mean loss, the accuracy and the number of examples.

        Args:
          texts: n strings, at least one.
          labels: n labels: names in `label_names`, or what the label column of the training data had. Where
            that was strings, booleans, or the integers from 0, integers are positions in `label_names`.
          progress: as in `predict`.

        Raises:
          InputError: no texts, not one label for each, or a label that the training data did not have.
          TypeError: as `predict`.
        """
        given = read_labels(list(values_of(labels, "labels")))
        read, numbers = list(texts_in(texts)), self._numbers(given, labels)
        require(len(read) > 0, "there are no texts to evaluate on")
        require(len(read) == len(numbers), f"there are {len(read)} texts and {len(numbers)} labels")
        parts, probabilities = [], np.zeros((len(read), len(self.label_names)), np.float32)
        with bar_of(len(read), progress) as bar:
            for batch, logits in self._logits(read, numbers, bar):
                parts.append(batch_metrics(logits, batch))
                count = int(batch.weights.sum())
                probabilities[batch.rows[:count]] = np.exp(class_log_probabilities(logits))[:count]
        loss, confusion = (np.sum(field, axis=0) for field in zip(*parts, strict=True))
        return Evaluation(loss, confusion, classifier_scores(probabilities, numbers, self.label_names))

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

    def save(self, folder: str | Path, *, license: str = "", language: str = "", dataset: str = "") -> None:
        """Writes a folder that `load` reads, whole or not at all; docs/serving.md says what is in it.

        Args:
          folder: a new or empty folder, or one that holds a saved model, which is replaced.
          license, language, dataset: what the model card says, as in `About` of rnn_jax.inference.

        Raises:
          InputError: the folder holds something else or cannot be written, or no line of text was given.

        >>> load("runs/bilstm").save("bilstm", license="mit", language="en")  # doctest: +SKIP
        """
        save_model(self, folder, About(license, language, dataset).check())

    def label_positions(self, values: Sequence[object]) -> np.ndarray:
        """Returns int32 positions in `label_names` for the values of a label column.

        Raises:
          InputError: a value that the training data did not have.
        """
        return positions(values, self.label_values, "to evaluate on").view(Positions)

    def _numbers(self, labels: list[Any], given: object) -> np.ndarray:
        """Returns int32 positions for labels of any kind that `evaluate` takes."""
        names = {name: number for number, name in enumerate(self.label_names)}
        values = {value: number for number, value in enumerate(self.label_values)}
        known: dict[Any, int] = {number: number for number in range(len(names))}
        if not isinstance(given, Positions):
            # The integer 1 is the label 1 where labels are integers, whatever its place among them.
            counted = all(isinstance(value, int) for value in self.label_values)
            known = {**({} if counted else known), **names, **values}
        odd = [label for label in labels if not isinstance(label, Hashable) or label not in known]
        require(
            not odd,
            f"labels {odd[:20]} are none of those that the model knows: {', '.join(map(repr, known))}"[:1000],
        )
        return np.array([known[label] for label in labels], dtype=np.int32)

    def _nothing(self) -> Prediction:
        return Prediction([], np.zeros((0, len(self.label_names)), np.float32))

    def _predict_part(self, texts: list[str], bar: Bar) -> Prediction:
        probabilities = np.zeros((len(texts), len(self.label_names)), dtype=np.float32)
        for batch, logits in self._logits(texts, np.zeros(len(texts), dtype=np.int32), bar):
            count = int(batch.weights.sum())
            probabilities[batch.rows[:count]] = np.exp(class_log_probabilities(logits))[:count]
        return Prediction([self.label_names[index] for index in probabilities.argmax(axis=1)], probabilities)

    def __getstate__(self) -> dict[str, Any]:
        """Returns what a copy in another process needs: compiled functions are made again there."""
        state = {name: value for name, value in vars(self).items() if name not in MADE}
        return state | {"params": jax.tree.map(np.asarray, self.params)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, params=jax.device_put(state["params"]))
        self.model = _model(self.config, self.tokenizer, self.label_names)
        self.apply_fn = _jitted(self.model)

    @cached_property
    def _steps(self) -> Steps:
        return make_steps(self.model)

    def _logits(
        self, texts: Sequence[str], labels: np.ndarray, bar: Bar
    ) -> Iterator[tuple[Batch, jax.Array]]:
        text = self.config.text
        rows = truncate(self.tokenizer.encode(texts), text.max_length, text.truncate)
        for batch in Batches(rows, labels, self.buckets, self.config.batch.size).in_order():
            yield batch, self.apply_fn({"params": self.params}, batch.token_ids, batch.lengths)
            bar.advance(int(batch.weights.sum()))


def _model(config: ConfigDict, tokenizer: Tokenizer, label_names: Sequence[str]) -> TextClassifier:
    return build_classifier(tokenizer.vocab_size, len(label_names), **config.model)


def _jitted(model: TextClassifier) -> Any:
    """Returns a model's jitted `apply`, the same for equal models, so that these are compiled once."""
    try:
        return _shared(model)
    except TypeError:  # a stack has a list of layers, and a list has no hash
        return _jit(model)


def _jit(model: TextClassifier) -> Any:
    return jax.jit(model.apply, static_argnames="deterministic")


_shared = functools.lru_cache(maxsize=64)(_jit)


def load(workdir: str | Path, which: str | int = "best", fallback: bool = False) -> Predictor:
    """Returns a trained classifier, on the default device.

    Args:
      workdir: the run's folder, one that `Predictor.save` wrote, or one on the Hugging Face hub:
        "hf://user/name" or "hf://user/name@revision".
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
    workdir = local_folder(workdir)
    config = read_config(workdir, CLASSIFY, CLASSIFIER_KEYS)
    tokenizer, task = Tokenizer.load(workdir / TOKENIZER), read_task(workdir / TASK, config)
    try:
        model = _model(config, tokenizer, task["label_names"])
    except TypeError as error:
        raise InputError(f"{workdir / CONFIG} is not of this version of rnn_jax: {error}") from error
    params, step = restored(workdir, model, which, fallback)
    return Predictor(config, model, params, tokenizer, task, step, workdir)
