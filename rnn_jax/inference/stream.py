"""Texts read word by word, as they come: the probabilities after each, in constant time and memory a word."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from rnn_jax.data.evidence import Evidence
from rnn_jax.data.tokenizer import Tokenizer
from rnn_jax.errors import require
from rnn_jax.layers.cells import Carry
from rnn_jax.layers.pooling import Summary
from rnn_jax.layers.rnn import read_from_the_end
from rnn_jax.models.classifier import TextClassifier
from rnn_jax.models.losses import class_log_probabilities
from rnn_jax.trees import Params


class State(NamedTuple):
    """All that is kept of the words read so far, and the scale of evidence, the same for all words."""

    carry: Carry
    summary: Summary
    spread: jax.Array | tuple[()]


class Steps(NamedTuple):
    """`state, p = begin(variables)`, `state, p = read(variables, state, word, evidence)`, p [1, C]."""

    begin: Callable[..., tuple[State, jax.Array]]
    read: Callable[..., tuple[State, jax.Array]]


class Reading(NamedTuple):
    """What a stream made of a piece of text.

    Attributes:
      words: the n words as the text writes them.
      probabilities: float32[n, C], those after each word.
    """

    words: list[str]
    probabilities: np.ndarray


class Stream:
    """Reads one text from its first word on; `Predictor.stream` begins one.

    After each word the probabilities are the model's for all words so far, as if it read them at once. They
    are those of `predict` for up to config.text.max_length words. Of a longer text `predict` reads a part
    (config.text.truncate), while a stream reads on.

    Attributes:
      tokenizer: text to word ids.
      length: the number of words read so far.

    >>> from rnn_jax import RNN, GRUCell, TextClassifier
    >>> tokenizer = Tokenizer.train(["a fine film"], vocab_size=9, lowercase=True, strip_html=True)
    >>> model = TextClassifier(vocab_size=9, embedding_dim=2, num_classes=2, encoder=RNN(GRUCell(3)))
    >>> params = model.init(jax.random.key(0), jnp.ones((1, 1), int), jnp.ones(1, int))["params"]
    >>> stream = Stream(make_steps(model), params, tokenizer)
    >>> stream.feed("A fine ").words, stream.feed("film").probabilities.shape, stream.length
    (['A', 'fine'], (1, 2), 3)
    """

    def __init__(self, steps: Steps, params: Params, tokenizer: Tokenizer, evidence: Evidence | None = None):
        self.tokenizer, self.length = tokenizer, 0
        self._evidence, self._last = evidence, np.zeros(0, np.int32)
        self._read, self._variables = steps.read, {"params": params}
        self._state, self._probabilities = steps.begin(self._variables)

    @property
    def probabilities(self) -> np.ndarray:
        """float32[C], those after the `length` words read so far; before any, those of an empty text."""
        return np.asarray(self._probabilities[0])

    def feed(self, text: str) -> Reading:
        """Reads a piece of text, and returns its words and the probabilities after each of them.

        A word ends where the piece does: "great" is one word, "gr" and then "eat" are two. A text that is cut
        at white space has the same words in pieces as at once, unless the cut is inside `<br />`.

        Raises:
          TypeError: the piece is not a string.
        """
        ids, words = self.tokenizer.spell(text)
        rows = []
        for word, evidence in zip(ids, self._evidence_of(ids), strict=True):
            self._state, self._probabilities = self._read(self._variables, self._state, word, evidence)
            rows.append(self._probabilities)
        self.length += len(words)
        classes = self._probabilities.shape[1]
        return Reading(words, np.concatenate([np.zeros((0, classes), np.float32), *jax.device_get(rows)]))

    def _evidence_of(self, ids: np.ndarray) -> Sequence[np.ndarray | None]:
        """Returns the evidence of each word; the n-grams that end at it may begin in an earlier piece."""
        if self._evidence is None:
            return [None] * len(ids)
        words = np.concatenate([self._last, ids])
        found = self._evidence.features(words)[len(self._last) :]
        # So many words, and no more, can be in an n-gram that ends later.
        self._last = words[len(words) - min(len(words), max(self._evidence.orders) - 1) :]
        return list(found)


def make_steps(model: TextClassifier) -> Steps:
    """Returns the steps of a stream over a TextClassifier; they are compiled once for all its streams.

    Raises:
      InputError: an encoder that does not read left to right; in `begin`, a pooling without a running form.
    """
    culprit = read_from_the_end(model.encoder)
    require(
        not culprit,
        f"a stream reads words as they come, but the encoder has {culprit}, which begins at the last word: "
        "each new word changes all that was read before. Use predict on whole texts, or a model with "
        "model.bidirectional=False",
    )
    return Steps(jax.jit(nn.apply(_begin, model)), jax.jit(nn.apply(_read, model)))


def _begin(model: TextClassifier) -> tuple[State, jax.Array]:
    # A row of length 0: its final carry is the initial one of whatever cells there are.
    spread = model.spread() if model.evidence else ()
    nothing = jnp.zeros((1, 1, model.evidence)) if model.evidence else None
    nothing_BTE = model.embed(jnp.zeros((1, 1), jnp.int32), evidence=nothing)
    carry, outputs_BTH = model.encoder(nothing_BTE, jnp.zeros(1, jnp.int32))
    return _decided(model, State(carry, model.pool.begin(outputs_BTH[:, 0]), spread))


def _read(
    model: TextClassifier, state: State, word: jax.Array, evidence: jax.Array | None
) -> tuple[State, jax.Array]:
    known: dict[str, Any] = (
        {} if evidence is None else {"evidence": evidence[None, None], "spread": state.spread}
    )
    carry, outputs_BTH = model.encoder(model.embed(word[None, None], **known), None, state.carry)
    summary = model.pool.advance(state.summary, outputs_BTH[:, 0])
    return _decided(model, State(carry, summary, state.spread))


def _decided(model: TextClassifier, state: State) -> tuple[State, jax.Array]:
    pooled_BF = model.pool.read(state.summary, model.encoder.final_hidden(state.carry))
    return state, jnp.exp(class_log_probabilities(model.decide(pooled_BF)))
