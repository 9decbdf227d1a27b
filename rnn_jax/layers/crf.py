"""A linear-chain conditional random field: tags of a sequence, scored together and not one by one.

A sequence of tags y_1..y_n has the score

    s(y) = start[y_1] + sum_t scores[t, y_t] + sum_(t>1) transitions[y_(t-1), y_t] + end[y_n],

and p(y) = exp(s(y)) / Z, where Z sums exp(s) over all C^n sequences (Lafferty et al. 2001). All functions are
pure, take a batch padded on the right, and never read padding. A row of length 0 has one sequence, the empty
one, of score 0.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from rnn_jax.errors import require
from rnn_jax.layers.inputs import as_array, row_lengths
from rnn_jax.layers.masking import keep_valid, valid_steps, zero_padding
from rnn_jax.layers.matmul import wide


class CRF(nn.Module):
    """The parameters of a linear chain over C tags, and what is computed with them.

    log p(y) = s(y) - log Z, with the score s of this module's first lines. The call returns log p;
    `decode` returns the likeliest sequence, and `marginals` the probability of each tag at each step. All are
    computed in float32 or wider, whatever the type of the scores.

    Attributes:
      tags: C, at least 1.
      kernel_init: the initialiser of `start` [C], `end` [C] and `transitions` [C, C], from tag and to tag.

    Raises:
      InputError: scores are not [B, T, C], tags not [B, T], or lengths not int[B].

    References: Lafferty et al., ICML 2001; Lample et al., NAACL 2016. The layout is that of pytorch-crf:
    start_transitions, end_transitions and transitions are `start`, `end` and `transitions`.

    >>> import jax, jax.numpy as jnp
    >>> from rnn_jax.layers import CRF
    >>> crf, scores, lengths = CRF(tags=3), jnp.zeros((2, 4, 3)), jnp.array([4, 2])
    >>> tags = jnp.zeros((2, 4), int)
    >>> variables = crf.init(jax.random.key(0), scores, tags, lengths)
    >>> crf.apply(variables, scores, tags, lengths).shape
    (2,)
    >>> crf.apply(variables, scores, lengths, method="decode").shape
    (2, 4)
    """

    tags: int
    kernel_init: nn.initializers.Initializer = nn.initializers.uniform(0.1)

    def setup(self) -> None:
        self.start = self.param("start", self.kernel_init, (self.tags,))
        self.end = self.param("end", self.kernel_init, (self.tags,))
        self.transitions = self.param("transitions", self.kernel_init, (self.tags, self.tags))

    def __call__(self, scores: jax.Array, tags: jax.Array, lengths: jax.Array | None = None) -> jax.Array:
        """Returns float[B], the log probability of each row's tags.

        Args:
          scores: float[B, T, C], of each tag at each step, such as the logits of an encoder.
          tags: int[B, T], from 0 to C - 1; at padding any value.
          lengths: int[B], the valid steps of each row, clamped to 0..T. None: all T.
        """
        scores, lengths = self._checked(scores, lengths)
        chain = self.start, self.end, self.transitions
        return path_score(scores, check_tags(tags, scores), lengths, *chain) - log_partition(
            scores, lengths, *chain
        )

    def decode(self, scores: jax.Array, lengths: jax.Array | None = None) -> jax.Array:
        """Returns int32[B, T], the likeliest tags of each row, 0 at padding; arguments as in the call."""
        scores, lengths = self._checked(scores, lengths)
        return viterbi(scores, lengths, self.start, self.end, self.transitions)[0]

    def marginals(self, scores: jax.Array, lengths: jax.Array | None = None) -> jax.Array:
        """Returns float[B, T, C], the probability of each tag at each step, 0 at padding."""
        scores, lengths = self._checked(scores, lengths)
        return tag_marginals(scores, lengths, self.start, self.end, self.transitions)

    def _checked(self, scores: jax.Array, lengths: jax.Array | None) -> tuple[jax.Array, jax.Array]:
        scores = as_array("scores", scores)
        require(
            scores.ndim == 3 and scores.shape[-1] == self.tags,
            f"scores has shape {scores.shape}; a CRF of {self.tags} tags reads [batch, time, {self.tags}]",
        )
        batch, time, _ = scores.shape
        lengths = jnp.full(batch, time) if lengths is None else row_lengths(lengths, (batch,), time)
        # A sum of many scores, rounded to 8 or 11 bits, would be more than the sum over all sequences.
        masked = zero_padding(scores, lengths)
        return masked.astype(wide(masked.dtype)), lengths


def check_tags(tags: jax.Array, scores_BTC: jax.Array) -> jax.Array:
    """Returns tags as an array. Raises InputError unless it is [B, T], as scores [B, T, C] are."""
    tags = as_array("tags", tags)
    require(
        tags.shape == scores_BTC.shape[:2],
        f"tags has shape {tags.shape}, and scores {scores_BTC.shape}; give [batch, time], a tag a step",
    )
    return tags


def path_score(
    scores_BTC: jax.Array,
    tags_BT: jax.Array,
    lengths: jax.Array,
    start_C: jax.Array,
    end_C: jax.Array,
    transitions_CC: jax.Array,
) -> jax.Array:
    """Returns float[B], the score s of each row's tags.

    Args:
      scores_BTC: float[B, T, C], finite.
      tags_BT: int[B, T], from 0 to C - 1 at valid steps.
      lengths: int[B], from 0 to T.
      start_C, end_C, transitions_CC: the scores of the first tag, of the last, and of each (from, to) pair.

    >>> import jax.numpy as jnp
    >>> from rnn_jax.layers.crf import path_score
    >>> scores, zeros = jnp.array([[[1.0, 2.0], [3.0, 4.0]]]), jnp.zeros(2)
    >>> path_score(scores, jnp.array([[0, 1]]), jnp.array([2]), zeros, zeros, 10 * jnp.eye(2)).tolist()
    [5.0]
    """
    time = scores_BTC.shape[1]
    valid_BT = valid_steps(lengths, time)
    tags_BT = jnp.where(valid_BT, tags_BT, 0)  # padding may hold numbers that are no tags
    if not time:
        return jnp.zeros(scores_BTC.shape[:1], scores_BTC.dtype)
    # Sums over marks of the tags, and not gathers: their gradients are products, where gathers' are scatters.
    marks_BTC = jax.nn.one_hot(tags_BT, scores_BTC.shape[2], dtype=scores_BTC.dtype)
    marks_BTC = jnp.where(valid_BT[:, :, None], marks_BTC, 0)
    first_BC, last_BC = (
        marks_BTC[:, 0],
        jnp.where(_is_last(lengths, time)[:, :, None], marks_BTC, 0).sum(axis=1),
    )
    moves_B = jnp.einsum("bti,ij,btj->b", marks_BTC[:, :-1], transitions_CC, marks_BTC[:, 1:])
    return (scores_BTC * marks_BTC).sum(axis=(1, 2)) + moves_B + first_BC @ start_C + last_BC @ end_C


def _is_last(lengths: jax.Array, time: int) -> jax.Array:
    """Returns bool[B, T], True at the last valid step of each row."""
    return jnp.arange(time)[None] == lengths[:, None] - 1


def log_partition(
    scores_BTC: jax.Array,
    lengths: jax.Array,
    start_C: jax.Array,
    end_C: jax.Array,
    transitions_CC: jax.Array,
) -> jax.Array:
    """Returns float[B], log Z of each row, by the forward algorithm; arguments are those of `path_score`.

    a_1 = start + scores_1, a_t[j] = log sum_i exp(a_(t-1)[i] + transitions[i, j]) + scores_t[j], and
    log Z = log sum_j exp(a_n[j] + end[j]).

    >>> import jax.numpy as jnp
    >>> from rnn_jax.layers.crf import log_partition
    >>> zeros = jnp.zeros(3)
    >>> jnp.exp(log_partition(jnp.zeros((1, 2, 3)), jnp.array([2]), zeros, zeros, jnp.zeros((3, 3)))).round()
    Array([9.], dtype=float32)
    """
    if not scores_BTC.shape[1]:
        return jnp.zeros(scores_BTC.shape[:1], scores_BTC.dtype)

    def step(reached_BC: jax.Array, at: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        scores_BC, valid_B = at
        moved_BC = jax.nn.logsumexp(reached_BC[:, :, None] + transitions_CC[None], axis=1) + scores_BC
        return keep_valid(valid_B, moved_BC, reached_BC), None

    reached_BC, _ = jax.lax.scan(step, start_C[None] + scores_BTC[:, 0], _later_steps(scores_BTC, lengths))
    return jnp.where(lengths > 0, jax.nn.logsumexp(reached_BC + end_C[None], axis=1), 0)


def viterbi(
    scores_BTC: jax.Array,
    lengths: jax.Array,
    start_C: jax.Array,
    end_C: jax.Array,
    transitions_CC: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Returns the tags of the highest score, int32[B, T], 0 at padding, and that score, float[B].

    The arguments are those of `path_score`. Of equal scores the lower tag is taken, from the last step back.

    >>> from rnn_jax.layers.crf import viterbi
    >>> scores, zeros = jnp.array([[[1.0, 0.0], [0.0, 2.0]]]), jnp.zeros(2)
    >>> [value.tolist() for value in viterbi(scores, jnp.array([2]), zeros, zeros, 10 * jnp.eye(2))]
    [[[1, 1]], [12.0]]
    """
    batch, time, _ = scores_BTC.shape
    if not time:
        return jnp.zeros((batch, 0), jnp.int32), jnp.zeros(batch, scores_BTC.dtype)

    def step(best_BC: jax.Array, at: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        scores_BC, valid_B = at
        sums_BCC = best_BC[:, :, None] + transitions_CC[None]
        # At padding a path stays where it is, so that the way back begins at the last valid step.
        stay_BC = jnp.broadcast_to(jnp.arange(best_BC.shape[1])[None], best_BC.shape)
        came_from_BC = keep_valid(valid_B, sums_BCC.argmax(axis=1).astype(stay_BC.dtype), stay_BC)
        return keep_valid(valid_B, sums_BCC.max(axis=1) + scores_BC, best_BC), came_from_BC

    def back(tag_B: jax.Array, came_from_BC: jax.Array) -> tuple[jax.Array, jax.Array]:
        return jnp.take_along_axis(came_from_BC, tag_B[:, None], axis=1)[:, 0], tag_B

    best_BC, came_from_TBC = jax.lax.scan(
        step, start_C[None] + scores_BTC[:, 0], _later_steps(scores_BTC, lengths)
    )
    total_BC = best_BC + end_C[None]
    last_B = total_BC.argmax(axis=1).astype(came_from_TBC.dtype)
    first_B, later_TB = jax.lax.scan(back, last_B, came_from_TBC, reverse=True)
    tags_BT = jnp.concatenate([first_B[None], later_TB]).T.astype(jnp.int32)
    valid_BT = valid_steps(lengths, time)
    return jnp.where(valid_BT, tags_BT, 0), jnp.where(lengths > 0, total_BC.max(axis=1), 0)


def tag_marginals(
    scores_BTC: jax.Array,
    lengths: jax.Array,
    start_C: jax.Array,
    end_C: jax.Array,
    transitions_CC: jax.Array,
) -> jax.Array:
    """Returns float[B, T, C], the probability of each tag at each step, 0 at padding.

    It is the gradient of log Z by the scores, which is what the forward-backward algorithm computes. The
    arguments are those of `path_score`.

    >>> import jax.numpy as jnp
    >>> from rnn_jax.layers.crf import tag_marginals
    >>> zeros = jnp.zeros(2)
    >>> tag_marginals(jnp.zeros((1, 2, 2)), jnp.array([1]), zeros, zeros, jnp.zeros((2, 2))).tolist()
    [[[0.5, 0.5], [0.0, 0.0]]]
    """

    def total(scores_BTC: jax.Array) -> jax.Array:
        return log_partition(scores_BTC, lengths, start_C, end_C, transitions_CC).sum()

    marginals: jax.Array = jax.grad(total)(scores_BTC)
    return marginals


def _later_steps(scores_BTC: jax.Array, lengths: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns what the scans read: the scores [T-1, B, C] and the validity [T-1, B] after the first step."""
    valid_BT = valid_steps(lengths, scores_BTC.shape[1])
    return scores_BTC[:, 1:].swapaxes(0, 1), valid_BT[:, 1:].T
