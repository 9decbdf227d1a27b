"""What a model that decides of texts has, whether it is one network or the mean of several."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from rnn_jax.checkpoints.restore import ClassifierTask
from rnn_jax.data.in_memory import pairs_in, texts_in, values_of
from rnn_jax.data.labels import positions, read_labels
from rnn_jax.data.targets import (
    LABELS,
    NUMBER,
    known_positions,
    label_matrix,
    labels_of,
    numbers_of,
    standardised,
)
from rnn_jax.errors import require
from rnn_jax.inference.parts import bar_of
from rnn_jax.models.heads import Head
from rnn_jax.models.metrics import Measured
from rnn_jax.progress import Bar


class Positions(np.ndarray):
    """Integers that are positions in `Predictor.label_names`, not labels; `label_positions` returns them."""


class Evaluation(NamedTuple):
    """What `Predictor.evaluate` finds on n labelled texts.

    Attributes:
      metrics: the sums: `Metrics` of a classifier, `LabelMetrics` or `NumberMetrics` of another head.
      details: what the head adds to their means, such as errors in the unit of the data.
      scores: as `classifier_scores`, `label_scores` or `number_scores` of rnn_jax.models.scores has them.
    """

    metrics: Any
    details: dict[str, float]
    scores: dict[str, Any]

    @property
    def confusion(self) -> np.ndarray:
        """float32[C, C] of a classifier; `confusion[i, j]` counts the examples of label i predicted as j."""
        return np.asarray(self.metrics.confusion)

    def summary(self) -> dict[str, float]:
        """Returns the mean loss, the accuracy, or what another head has in its place, and the examples."""
        return self.metrics.summary() | self.details


class TextModel:
    """What `Predictor` and `Ensemble` have in common: they answer texts a part at a time.

    Attributes:
      config: the resolved config of a run.
      head: what is decided: a class, several labels or a number; see rnn_jax.models.heads.
      pair: whether pairs of texts are read.
      label_names, label_values: of the C classes, as `Predictor` has them.
      task: what task.json holds of a run.
    """

    config: ConfigDict
    head: Head
    pair: bool
    label_names: tuple[str, ...]
    label_values: list[int | str | bool]
    task: ClassifierTask

    def predict(self, texts: Iterable[Any], progress: bool = True) -> Any:
        """Returns a `Prediction`, labels and probabilities, in the order of the texts.

        Where texts may have several labels it is a `LabelsPrediction`, and of numbers a `NumbersPrediction`.

        Texts are tokenised and cut as in training. Of a text of no words the network reads nothing: its
        state stays zero.

        Args:
          texts: n strings, or n pairs of strings, in any iterable, which is read a part at a time; none gives
            an empty prediction. A missing text, None or NaN, is a text of no words.
          progress: whether a terminal or a notebook shows a bar where this takes more than 2 seconds.

        Raises:
          TypeError: `texts` is one string, or holds something that is not a string.
        """
        shape = (0, len(self.label_names)) if self.label_names else (0,)
        parts = [np.zeros(shape, np.float32), *self._answer_parts(texts, progress)]
        return self.head.prediction(np.concatenate(parts))

    def predict_proba(self, texts: Iterable[Any], progress: bool = True) -> np.ndarray:
        """Returns float32[n, C], the probabilities that `predict` returns.

        Raises:
          InputError: a model that gives numbers.
          TypeError: as `predict`.
        """
        require(bool(self.label_names), "the model gives numbers, which have no probabilities; use predict")
        probabilities: np.ndarray = self.predict(texts, progress).probabilities
        return probabilities

    def predict_parts(self, texts: Iterable[Any], progress: bool = True) -> Iterator[Any]:
        """Yields predictions of PART texts each, in their order, as `predict` makes them.

        Only one part of the texts is in memory at a time, so that the texts may be a stream without an end.

        Raises:
          TypeError: as `predict`.
        """
        yield from map(self.head.prediction, self._answer_parts(texts, progress))

    def evaluate(self, texts: Iterable[Any], labels: Iterable[object], progress: bool = True) -> Evaluation:
        """Returns the summed loss, the confusion counts and the scores, from one pass over the texts.

        `.summary()` has the mean loss, the accuracy and the number of examples.

        Args:
          texts: n strings, or pairs of strings, at least one.
          labels: n labels: names in `label_names`, or what the label column of the training data had. Where
            that was strings, booleans, or the integers from 0, integers are positions in `label_names`. For
            several labels, n lists of them, or strings with `data.separator`; for numbers, n numbers.
          progress: as in `predict`.

        Raises:
          InputError: no texts, not one label for each, or a label that the training data did not have.
          TypeError: as `predict`.
        """
        given = read_labels(list(values_of(labels, "labels")))
        read, targets = list(self._read(texts)), self._targets(given, labels)
        require(len(read) > 0, "there are no texts to evaluate on")
        require(len(read) == len(targets), f"there are {len(read)} texts and {len(targets)} labels")
        with bar_of(len(read), progress) as bar:
            metrics, answers = self._measured(read, targets, bar)
        return Evaluation(metrics, self.head.details(metrics), self.head.scores(answers, targets))

    def label_positions(self, values: Sequence[object]) -> np.ndarray:
        """Returns int32 positions in `label_names` for the values of a label column.

        Raises:
          InputError: a value that the training data did not have.
        """
        return positions(values, self.label_values, "to evaluate on").view(Positions)

    def _targets(self, labels: list[Any], given: object) -> np.ndarray:
        """Returns what stands for labels of any kind that `evaluate` takes in a batch."""
        data = self.config.data
        if self.head.target == NUMBER:
            mean_and_deviation = self.task["mean"], self.task["deviation"]
            return standardised(numbers_of(labels, "to evaluate on"), mean_and_deviation)
        if self.head.target == LABELS:
            lists = [labels_of(value, data.separator) for value in labels]
            known = {label for row in lists for label in row} <= {*self.label_values}
            return label_matrix(lists, self.label_values if known else self.label_names, "to evaluate on")
        return known_positions(
            labels, self.label_names, self.label_values, by_place=isinstance(given, Positions)
        )

    def _read(self, texts: Iterable[Any]) -> Iterator[Any]:
        """Yields the texts, or the pairs of texts, each with its words or none."""
        return pairs_in(texts) if self.pair else texts_in(texts)

    def _answer_parts(self, texts: Iterable[Any], progress: bool) -> Iterator[np.ndarray]:
        """Yields the head's answers to PART texts each."""
        raise NotImplementedError

    def _measured(self, texts: Sequence[Any], targets: np.ndarray, bar: Bar) -> tuple[Measured, np.ndarray]:
        """Returns the summed metrics of all texts, and the head's answers in their order."""
        raise NotImplementedError
