"""The cross-entropy of a softmax over a vocabulary: whole, or from a few words drawn for the whole batch.

N rows of `vectors_NE` are scored against a float32 table [V, E] and a bias [V]. Products have operands of the
vectors' type and accumulate in float32, gradients of the table too; losses are float32.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rnn_jax.errors import require
from rnn_jax.layers.matmul import contract

LOGITS_AT_ONCE = 2**24  # in memory, 64 MiB; where there are more, the backward pass computes them again
GRID = 2**32


def logits_of(vectors_NE: jax.Array, table_VE: jax.Array, bias_V: jax.Array) -> jax.Array:
    """Returns float32[N, V], vectors @ table.T + bias."""
    return contract(vectors_NE, table_VE, (1, 1), vectors_NE.dtype) + bias_V[None, :]


def softmax_losses(
    vectors_NE: jax.Array, table_VE: jax.Array, bias_V: jax.Array, targets_N: jax.Array
) -> jax.Array:
    """Returns -log p(target), float32[N]. No more than LOGITS_AT_ONCE logits are in memory at a time."""

    def losses_of(chunk: tuple[jax.Array, jax.Array]) -> jax.Array:
        vectors, targets = chunk
        log_p = jax.nn.log_softmax(logits_of(vectors, table_VE, bias_V))
        return -jnp.take_along_axis(log_p, targets[:, None], axis=1)[:, 0]

    count, rows = len(targets_N), max(1, LOGITS_AT_ONCE // len(table_VE))
    if count <= rows:
        return losses_of((vectors_NE, targets_N))
    chunks = (
        jnp.pad(array, [(0, -count % rows), *[(0, 0)] * (array.ndim - 1)]).reshape(-1, rows, *array.shape[1:])
        for array in (vectors_NE, targets_N)
    )
    losses: jax.Array = jax.lax.map(jax.checkpoint(losses_of), tuple(chunks))
    return losses.reshape(-1)[:count]


class Proposal(NamedTuple):
    """A distribution q over word ids that is drawn from exactly: each word has some of 2^32 equal shares."""

    starts: jax.Array  # uint32[V]: the first share of each word
    log_q: jax.Array  # float32[V]


class Negatives(NamedTuple):
    """Words drawn from a proposal, with repetition."""

    ids: jax.Array  # int32[S]
    log_expected: jax.Array  # float32[S]: log(S q), how often each is expected among them


def make_proposal(weights: Sequence[float] | np.ndarray) -> Proposal:
    """Returns the proposal that draws each word with a probability in proportion to its weight.

    Raises:
      InputError: no weights, or one that is not positive and finite: that word could never be drawn.
    """
    weights = np.asarray(weights, np.float64)
    require(len(weights) > 0, "weights is empty; give one for each word")
    require(
        bool((weights > 0).all() and np.isfinite(weights).all()),
        "every weight of a proposal must be positive and finite: a word that is never drawn is never learned "
        "to be unlikely",
    )
    shares = np.maximum(1, np.floor(weights / weights.sum() * (GRID - len(weights))).astype(np.int64))
    shares[weights.argmax()] += GRID - shares.sum()
    starts = (np.cumsum(shares) - shares).astype(np.uint32)
    return Proposal(jnp.asarray(starts), jnp.asarray(np.log(shares / GRID), jnp.float32))


def log_uniform(vocab_size: int) -> Proposal:
    """Returns q(k) = log((k + 2) / (k + 1)) / log(V + 1): Zipf's law, for ids in the order of frequency."""
    require(vocab_size > 0, f"vocab_size is {vocab_size}; give at least 1")
    ranks = np.arange(vocab_size)
    return make_proposal(np.log1p(1 / (ranks + 1)))


def unigram(counts: np.ndarray, power: float = 0.75) -> Proposal:
    """Returns q(k) in proportion to (counts[k] + 1)^power, int counts [V] of words in the training text.

    The power is that of Mikolov et al. 2013; the 1 lets a word that does not occur be drawn.
    """
    return make_proposal((np.asarray(counts) + 1.0) ** power)


def draw(proposal: Proposal, count: int, key: jax.Array) -> Negatives:
    """Returns S = `count` words, drawn independently of each other."""
    bits_S = jax.random.bits(key, (count,), jnp.uint32)
    ids_S = jnp.searchsorted(proposal.starts, bits_S, side="right").astype(jnp.int32) - 1
    return Negatives(ids_S, proposal.log_q[ids_S] + jnp.log(float(count)))


def sampled_losses(
    vectors_NE: jax.Array, table_VE: jax.Array, bias_V: jax.Array, targets_N: jax.Array, negatives: Negatives
) -> jax.Array:
    """Returns an estimate of -log p(target), float32[N], from one set of S negatives for all rows.

    With logits s and the target y it is log Z' - s_y, where Z' = exp(s_y) + the sum over the negatives k that
    are not y of exp(s_k) / (S q_k): the softmax over y and the negatives, each corrected by log(S q). A
    negative that is the target of a row is left out in that row, for the target counts once already.

    In expectation over the draws Z' is Z, the sum of exp(s) over the vocabulary, exactly, for any S. The loss
    is not: E log Z' <= log Z, by about Var(Z') / (2 Z^2), which falls as 1 / S. So do its gradients approach
    those of the softmax (Bengio & Senecal 2008; Jean et al. 2015). It is never negative. Only [N, S] logits
    are computed.
    """
    ids_S = negatives.ids
    logits_NS = logits_of(vectors_NE, table_VE[ids_S], bias_V[ids_S]) - negatives.log_expected[None, :]
    logits_NS = jnp.where(ids_S[None, :] == targets_N[:, None], -jnp.inf, logits_NS)
    target_N = (vectors_NE.astype(table_VE.dtype) * table_VE[targets_N]).sum(axis=-1) + bias_V[targets_N]
    both = jnp.concatenate([target_N[:, None], logits_NS], axis=1)
    return jax.nn.logsumexp(both, axis=1) - target_N
