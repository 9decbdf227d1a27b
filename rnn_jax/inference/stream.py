"""Texts read word by word, as they come: the probabilities after each, in constant time and memory a word."""

from collections.abc import Callable
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


ROOM = 32  # words that are read in one call; one word is a call of its own


class Steps(NamedTuple):
    """Jitted: `state, p = begin(variables)`, `state, p = read(variables, state, word, evidence)`, p [1, C].

    `state, p = read_all(variables, state, words, evidence, count)` reads `count` of ROOM words; p [ROOM, C]
    has the probabilities after each of them. Evidence is None where the network reads none.
    """

    begin: Callable[..., tuple[State, jax.Array]]
    read: Callable[..., tuple[State, jax.Array]]
    read_all: Callable[..., tuple[State, jax.Array]]


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
        self._evidence, self._before = evidence, np.zeros(0, np.int32)
        self._read, self._read_all, self._variables = steps.read, steps.read_all, {"params": params}
        self._state, probabilities = steps.begin(self._variables)
        self._last = np.asarray(probabilities)[0]

    @property
    def probabilities(self) -> np.ndarray:
        """float32[C], those after the `length` words read so far; before any, those of an empty text."""
        return self._last

    def feed(self, text: str) -> Reading:
        """Reads a piece of text, and returns its words and the probabilities after each of them.

        A word ends where the piece does: "great" is one word, "gr" and then "eat" are two. A text that is cut
        at white space has the same words in pieces as at once, unless the cut is inside `<br />`.

        Raises:
          TypeError: the piece is not a string.
        """
        ids, words = self.tokenizer.spell(text)
        rows = []
        known = self._evidence_of(ids)
        if len(ids) == 1:
            now = None if known is None else known[0]
            self._state, row = self._read(self._variables, self._state, ids[0], now)
            rows.append(np.asarray(row))
        else:
            for start in range(0, len(ids), ROOM):
                part, count = filled(ids[start : start + ROOM]), len(ids[start : start + ROOM])
                now = None if known is None else filled(known[start : start + ROOM])
                self._state, found = self._read_all(self._variables, self._state, part, now, np.int32(count))
                rows.append(np.asarray(found)[:count])
        self.length += len(words)
        if rows:
            self._last = rows[-1][-1]
        return Reading(words, np.concatenate([np.zeros((0, len(self._last)), np.float32), *rows]))

    def _evidence_of(self, ids: np.ndarray) -> np.ndarray | None:
        """Returns the evidence of each word; the n-grams that end at it may begin in an earlier piece."""
        if self._evidence is None:
            return None
        words = np.concatenate([self._before, ids])
        found = self._evidence.features(words)[len(self._before) :]
        # So many words, and no more, can be in an n-gram that ends later.
        self._before = words[len(words) - min(len(words), max(self._evidence.orders) - 1) :]
        return found


def filled(rows: np.ndarray) -> np.ndarray:
    """Returns an array of ROOM rows, which begins with these and ends with zeros."""
    return np.concatenate([rows, np.zeros((ROOM - len(rows), *rows.shape[1:]), rows.dtype)])


def make_steps(model: TextClassifier) -> Steps:
    """Returns the steps of a stream over a TextClassifier; they are compiled once for all its streams.

    Raises:
      InputError: an encoder that does not read left to right; in `begin`, a pooling without a running form.
    """
    culprit = "a Bidirectional in model.contextual" if model.contextual else read_from_the_end(model.encoder)
    require(
        not culprit,
        f"a stream reads words as they come, but the network has {culprit}, which reads words that come "
        "later: a new word changes what was read before. Use predict on whole texts, or a model with "
        "model.bidirectional=False, model.stride=1 and model.contextual.hidden=0",
    )
    return Steps(*(jax.jit(nn.apply(function, model)) for function in (_begin, _read, _read_all)))


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


def _read_all(
    model: TextClassifier, state: State, words: jax.Array, evidence: jax.Array | None, count: jax.Array
) -> tuple[State, jax.Array]:
    # A function of its variables, which a loop of JAX may call.
    read, variables = nn.apply(_read, model.clone(parent=None)), model.variables

    def of(place: int | jax.Array) -> tuple[jax.Array, jax.Array | None]:
        return words[place], None if evidence is None else evidence[place]

    probabilities = jax.eval_shape(read, variables, state, *of(0))[1]

    def step(place: jax.Array, so_far: tuple[State, jax.Array]) -> tuple[State, jax.Array]:
        state, found = so_far
        state, row = read(variables, state, *of(place))
        return state, jax.lax.dynamic_update_slice(found, row, (place, 0))

    found = jnp.zeros((ROOM, probabilities.shape[1]), probabilities.dtype)
    done: tuple[State, jax.Array] = jax.lax.fori_loop(0, count, step, (state, found))
    return done


def _decided(model: TextClassifier, state: State) -> tuple[State, jax.Array]:
    pooled_BF = model.pool.read(state.summary, model.encoder.final_hidden(state.carry))
    return state, jnp.exp(class_log_probabilities(model.decide(pooled_BF)))
