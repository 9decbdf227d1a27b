"""What a classifier says of texts, as JSON: its predictions, and what each piece of a text adds."""

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from rnn_jax.data.tokenizer import truncate
from rnn_jax.errors import InputError
from rnn_jax.inference.attribution import attribute_words
from rnn_jax.inference.predictor import Predictor
from rnn_jax.serving.limits import Refused

ROWS = (1, 8)  # rows of a batch, beside those of training: one text is not padded to a batch of 64
STEPS = 32  # gradients of an explanation
Json = dict[str, Any]


class Answers:
    """A classifier that answers in JSON, compiled for every shape that a request can have.

    Attributes:
      predictor: the classifier.
      shapes: the [rows, words] that texts are padded to.
    """

    def __init__(self, predictor: Predictor):
        """Takes the classifier; nothing is compiled before `compile`."""
        size = predictor.config.batch.size
        rows = sorted({size, *(rows for rows in ROWS if rows < size)})
        self.predictor = predictor
        self._by_rows = {count: _with_rows(predictor, count) for count in rows}
        self.shapes = [(count, words) for count in rows for words in predictor.buckets]

    def compile(self) -> None:
        """Compiles all that requests can need."""
        model, variables = self.predictor, {"params": self.predictor.params}
        for rows, words in self.shapes:
            ids, lengths = np.zeros((rows, words), np.int32), np.full(rows, words, np.int32)
            jax.block_until_ready(model.apply_fn(variables, ids, lengths))
        for words in model.buckets:
            ids = np.zeros(words, np.int32)
            attribute_words(model.model.apply, model.params, ids, words, 0, of="logit", steps=STEPS)
        for rows in self._by_rows:  # what comes before and after the network
            self.predict(["a text"] * rows)

    def predict(self, texts: list[str]) -> list[Json]:
        """Returns for each text its label and the probability of every label."""
        answers: list[Json] = [{}] * len(texts)
        for places in self._batches(texts):
            count = min(rows for rows in self._by_rows if rows >= len(places))
            prediction = self._by_rows[count].predict([texts[place] for place in places], progress=False)
            for place, label, row in zip(places, prediction.labels, prediction.probabilities, strict=True):
                answers[place] = {
                    "label": label,
                    "probability": float(row.max()),
                    "probabilities": dict(zip(self.predictor.label_names, row.tolist(), strict=True)),
                }
        return answers

    def _batches(self, texts: list[str]) -> Iterator[list[int]]:
        """Yields the positions of texts that are padded to one length, at most a whole batch of them."""
        buckets = self.predictor.buckets
        lengths = [min(len(row), buckets[-1]) for row in self.predictor.tokenizer.encode(texts)]
        bucket_of, most = np.searchsorted(buckets, lengths), max(self._by_rows)
        for bucket in range(len(buckets)):
            places = np.flatnonzero(bucket_of == bucket).tolist()
            yield from (places[start : start + most] for start in range(0, len(places), most))

    def explain(self, text: str, label: str | None) -> Json:
        """Returns what each piece of a text adds to the logit of a label, None for the most probable one.

        The pieces are the whole text: words that the network reads have a score, what lies between them and
        what it does not read has None.

        Raises:
          Refused: an unknown label.
        """
        (answer,) = self.predict([text])
        label = answer["label"] if label is None else label
        try:
            found = self.predictor.attribute(text, label, steps=STEPS)
        except InputError as error:
            raise Refused(422, str(error)) from error
        return {
            **answer,
            "explained": found.label,
            "value": found.value,
            "baseline": found.baseline,
            "pieces": self._pieces(text, found.scores),
        }

    def _pieces(self, text: str, scores: np.ndarray) -> list[Json]:
        text = text.encode("utf-8", "replace").decode("utf-8")  # as the tokeniser reads it
        spans = self.predictor.tokenizer.spans(text)[1]
        options = self.predictor.config.text
        (kept,) = truncate([np.arange(len(spans))], options.max_length, options.truncate)
        pieces, end = list[Json](), 0
        for index, score in zip(kept.tolist(), scores.tolist(), strict=True):
            start, stop = max(spans[index][0], end), max(spans[index][1], end)
            pieces += [{"text": text[end:start], "score": None}, {"text": text[start:stop], "score": score}]
            end = stop
        pieces.append({"text": text[end:], "score": None})
        return [piece for piece in pieces if piece["text"]]


def _with_rows(predictor: Predictor, rows: int) -> Predictor:
    """Returns the predictor with batches of so many rows; parameters and compiled programs are shared."""
    other = object.__new__(type(predictor))  # not copy.copy, which compiles anew
    vars(other).update(vars(predictor))
    other.config = predictor.config.copy_and_resolve_references()
    other.config.batch.size = rows
    return other
