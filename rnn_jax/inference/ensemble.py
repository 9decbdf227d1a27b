"""Several trained models as one: the mean of their answers."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from rnn_jax.data.batches import Batch
from rnn_jax.data.targets import LABELS, NUMBER, standardised
from rnn_jax.errors import require
from rnn_jax.inference.parts import in_parts
from rnn_jax.inference.predictor import Predictor
from rnn_jax.inference.text_model import TextModel
from rnn_jax.models.metrics import Measured
from rnn_jax.progress import Bar


class Ensemble(TextModel):
    """The mean of several models' probabilities, or of their numbers: p = (p_1 + ... + p_m) / m.

    The models may differ in everything but what they decide: in vocabulary, in network, and in the mean and
    deviation of the numbers that they were trained on. `load` makes one of several folders. It takes the
    time of all its models; to get its accuracy at the cost of one, train a network on what it says of
    unlabelled texts (docs/soft_labels.md).

    Attributes:
      members: the models.
      head, pair, label_names, label_values, config, task: those of the first, as `Predictor` has them; so
        losses of numbers are in its scale.

    >>> from rnn_jax import load
    >>> ensemble = load(["runs/a", "runs/b"])  # doctest: +SKIP
    >>> ensemble.predict(["what a film", "dull"]).labels  # doctest: +SKIP
    ['positive', 'negative']
    """

    def __init__(self, members: Sequence[Predictor]):
        """Takes the models.

        Raises:
          InputError: there is none, one that is no model of texts, or they decide different things.
        """
        models = isinstance(members, Sequence) and all(isinstance(each, TextModel) for each in members)
        require(
            models,
            f"members is {members!r:.80}, no list of models of texts; give what rnn_jax.load returns for "
            "each, or give rnn_jax.load the list of their folders",
        )
        require(len(members) > 0, "an ensemble has no models; give at least one")
        first, self.members = members[0], tuple(members)
        for place, member in enumerate(members):
            require(
                _decision(member) == _decision(first),
                f"model {place} of the ensemble decides {_decided(member)}, but model 0 {_decided(first)}; "
                "give models of the same labels",
            )
        self.config, self.task, self.head, self.pair = first.config, first.task, first.head, first.pair
        self.label_names, self.label_values = first.label_names, first.label_values

    def _answer_parts(self, texts: Iterable[Any], progress: bool) -> Iterator[np.ndarray]:
        for part, bar in in_parts(self._read(texts), texts, progress):
            yield self._mean(part)
            bar.advance(len(part))

    def _measured(self, texts: Sequence[Any], targets: np.ndarray, bar: Bar) -> tuple[Measured, np.ndarray]:
        found = self._mean(texts)
        bar.advance(len(texts))
        count = np.arange(len(texts), dtype=np.int32)
        nothing, ones = np.zeros((len(texts), 1), np.int32), np.ones(len(texts), np.float32)
        batch = Batch(nothing, nothing[:, 0], targets, ones, count)
        return self.head.measure(self.head.logits_of(jnp.asarray(found)), batch), found

    def _mean(self, texts: Sequence[Any]) -> np.ndarray:
        """Returns the mean of what the models answer, numbers in the scale of the first one."""
        answers = []
        for each in self.members:
            own = np.concatenate([*each._answer_parts(texts, progress=False)])
            if each.head != self.head:
                numbers: Any = each.head.prediction(own)
                own = standardised(numbers.values, (self.task["mean"], self.task["deviation"]))
            answers.append(own)
        return np.stack(answers).mean(axis=0, dtype=np.float64).astype(np.float32)


def _decision(member: Predictor) -> tuple[object, ...]:
    """Returns what members have to have in common: of numbers the scale may differ."""
    head = member.head
    return head.target, head.target == NUMBER or head, member.pair, member.label_values


def _decided(member: Predictor) -> str:
    """Returns what a model decides, for a message."""
    names = ", ".join(member.label_names) or "numbers"
    names += " at once" * (member.head.target == LABELS)
    return f"{names}, of pairs" if member.pair else names
