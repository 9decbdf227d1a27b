"""What a classifier says of texts, as JSON: its predictions, and what each piece of a text adds."""

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from rnn_jax.data.tokenizer import truncate
from rnn_jax.errors import InputError, require
from rnn_jax.inference.attribution import Attribution, attribute_words
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
        """Takes the classifier; nothing is compiled before `compile`.

        Raises:
          InputError: it is another model, such as a tagger or an ensemble.
        """
        require(
            isinstance(predictor, Predictor),
            f"predictor is a {type(predictor).__name__}; give one classifier, as rnn_jax.load returns it",
        )
        size = predictor.config.batch.size
        rows = sorted({size, *(rows for rows in ROWS if rows < size)})
        self.predictor = predictor
        self._by_rows = {count: _with_rows(predictor, count) for count in rows}
        self.shapes = [(count, words) for count in rows for words in predictor.buckets]

    def compile(self) -> None:
        """Compiles all that requests can need."""
        model = self.predictor
        parts, width = 2 if model.pair else 1, model.evidence.width if model.evidence else 0
        for rows, words in self.shapes:
            ids = np.zeros((rows, words * parts), np.int32)
            lengths = np.full((rows, parts) if model.pair else rows, words, np.int32)
            known = {"evidence": np.zeros((rows, words, width), np.float32)} if width else {}
            jax.block_until_ready(model.answers_of(ids, lengths, **known))
        for words in model.buckets:
            whole: Any = np.full(2, words, np.int32) if model.pair else np.int32(words)
            question = model.params, np.zeros(words * parts, np.int32), whole, 0
            zeros = np.zeros((words, width), np.float32) if width else None
            options: Any = {"of": "logit", "steps": STEPS, "head": model.head, "evidence": zeros}
            attribute_words(model.model.apply, *question, **options)
        for rows in self._by_rows:  # what comes before and after the network
            self.predict([["a text"] * 2 if model.pair else "a text"] * rows)

    def predict(self, texts: list[Any]) -> list[Json]:
        """Returns for each text, or pair of texts, its label and the probability of every label.

        Of several labels it is the list of them, and of numbers the value.
        """
        answers: list[Json] = [{}] * len(texts)
        for places in self._batches(texts):
            count = min(rows for rows in self._by_rows if rows >= len(places))
            prediction = self._by_rows[count].predict([texts[place] for place in places], progress=False)
            for place, said in zip(places, self.predictor.head.as_json(prediction), strict=True):
                if "label" in said:
                    best = {"probability": max(said["probabilities"].values())}
                    said = {"label": said["label"], **best, "probabilities": said["probabilities"]}
                answers[place] = said
        return answers

    def _batches(self, texts: list[Any]) -> Iterator[list[int]]:
        """Yields the positions of texts that are padded to one length, at most a whole batch of them."""
        buckets = self.predictor.buckets
        every = [part for text in texts for part in (text if self.predictor.pair else (text,))]
        words = [min(len(row), buckets[-1]) for row in self.predictor.tokenizer.encode(every)]
        lengths = np.reshape(words, (len(texts), 2 if self.predictor.pair else 1)).max(axis=1)
        bucket_of, most = np.searchsorted(buckets, lengths), max(self._by_rows)
        for bucket in range(len(buckets)):
            places = np.flatnonzero(bucket_of == bucket).tolist()
            yield from (places[start : start + most] for start in range(0, len(places), most))

    def explain(self, text: Any, label: str | None) -> Json:
        """Returns what each piece of a text adds to the logit of a label, None for the most probable one.

        Of a model that gives numbers it is what each piece adds to the number.

        The pieces are the whole text: words that the network reads have a score, what lies between them and
        what it does not read has None.

        Raises:
          Refused: an unknown label.
        """
        (answer,) = self.predict([text])
        shares = answer.get("probabilities", {})
        label = max(shares, key=shares.__getitem__) if label is None and shares else label
        try:
            found = self.predictor.attribute(text, label, steps=STEPS)
        except InputError as error:
            raise Refused(422, str(error)) from error
        return {
            **answer,
            "explained": found.label or None,
            "value": found.value,
            "baseline": found.baseline,
            "pieces": self._pieces_of(text, found),
        }

    def _pieces_of(self, text: Any, found: Attribution) -> list[Json]:
        if found.first is None:
            return self._pieces(text, found.scores)
        pieces = [
            self._pieces(one, part)
            for one, part in zip(text, np.split(found.scores, [found.first]), strict=True)
        ]
        return [*pieces[0], {"text": "\n\n", "score": None}, *pieces[1]]

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
