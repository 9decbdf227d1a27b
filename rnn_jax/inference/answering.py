"""From padded batches to a head's answers, in one program; and how many rows a batch has.

The native kernels skip the steps of rows that have ended, and what they compute of a row does not depend on
the rows beside it. Where all recurrent layers take them, texts of any lengths may share a batch, and a single
text needs no rows beside it. Its bits stay the same: a text alone gets those that it gets among others.
"""

import functools
from collections.abc import Callable, Iterable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from rnn_jax.data.batches import Batch
from rnn_jax.models.classifier import TextClassifier
from rnn_jax.models.heads import Head
from rnn_jax.native import why_missing
from rnn_jax.progress import Bar

FEW = 8  # rows from which on XLA's products have the same bits for any number of them
SIZES = (1, FEW)  # rows of a batch of few texts; a batch of more has config.batch.size
ROW_BY_ROW = ("last", "max")  # poolings with the same bits for any number of rows


def shared(make: Callable[..., Any]) -> Callable[..., Any]:
    """Returns `make`, which gives the same program for equal models, so that these are compiled once."""
    kept = functools.lru_cache(maxsize=64)(make)

    @functools.wraps(make)
    def made(*of: Any) -> Any:
        try:
            return kept(*of)
        except TypeError:  # a stack has a list of layers, and a list has no hash
            return make(*of)

    return made


@shared
def answer_program(model: TextClassifier, head: Head, size: int) -> Any:
    """Returns a jitted `answers = program({"params": params}, ids, lengths)`.

    A batch of fewer rows than `size` has the bits of one of `size` rows.
    """
    least = min(FEW, size)

    def answers(
        model: TextClassifier, token_ids: jax.Array, lengths: jax.Array, evidence: jax.Array | None = None
    ) -> jax.Array:
        pooled_BF = model.pooled(model.embed(token_ids, evidence=evidence), lengths)
        rows = len(pooled_BF)
        pooled_BF = jnp.pad(pooled_BF, [(0, max(0, least - rows)), (0, 0)])
        return head.answer(model.decide(pooled_BF)[:rows])

    return jax.jit(nn.apply(answers, model))


@shared
def apply_program(model: TextClassifier) -> Any:
    """Returns a model's jitted `apply`."""
    return jax.jit(model.apply, static_argnames="deterministic")


def skips_padding(model: ConfigDict) -> bool:
    """Returns whether padded steps and rows cost next to nothing here and change no bits.

    Args:
      model: config.model of a run.
    """
    native = jax.default_backend() == "cpu" and not why_missing()
    return native and model.dtype == "float32" and not model.layer_norm and model.pooling in ROW_BY_ROW


def rows_for(texts: int, size: int) -> int:
    """Returns the rows of the batches of so many texts, where padding is skipped and `size` rows are most.

    >>> [rows_for(texts, size=32) for texts in (1, 2, 9, 5000)]
    [1, 8, 32, 32]
    """
    return next((rows for rows in SIZES if texts <= rows < size), size)


def in_order(answers: Iterable[tuple[Batch, np.ndarray]], count: int, bar: Bar | None = None) -> np.ndarray:
    """Returns the answers [n, ...] in the order of the texts, from those of the batches; a bar is told."""
    found = np.zeros(0, np.float32)
    for batch, rows in answers:
        if not len(found):
            found = np.zeros((count, *rows.shape[1:]), np.float32)
        real = int(batch.weights.sum())
        found[batch.rows[:real]] = rows[:real]
        if bar is not None:
            bar.advance(real)
    return found
