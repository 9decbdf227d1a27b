"""Padded batches: masks and pooling over valid steps. Pure functions on [B, T, ...], padded on the right."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike


def valid_steps(lengths: ArrayLike, max_length: int) -> jax.Array:
    """Returns bool[B, T], True at the first `lengths[b]` of the `max_length` steps of row b.

    Args:
      lengths: int[B], each from 0 to T; one outside of it counts as 0 or T.
      max_length: T.

    >>> import jax.numpy as jnp
    >>> from rnn_jax.layers import valid_steps
    >>> valid_steps(jnp.array([0, 2]), 3).tolist()
    [[False, False, False], [True, True, False]]
    """
    return jnp.arange(max_length)[None, :] < jnp.asarray(lengths)[:, None]


def zero_padding(x_BTF: jax.Array, lengths: ArrayLike | None) -> jax.Array:
    """Returns x with padded steps set to zero, so that NaN there reaches neither values nor gradients.

    Args:
      x_BTF: values [B, T, F].
      lengths: int[B], the valid steps of each row. None: all of them, and x is returned as it is.

    >>> import jax.numpy as jnp
    >>> from rnn_jax.layers import zero_padding
    >>> zero_padding(jnp.full((1, 3, 1), jnp.nan), jnp.array([0])).ravel().tolist()
    [0.0, 0.0, 0.0]
    """
    if lengths is None:
        return x_BTF
    return jnp.where(valid_steps(lengths, x_BTF.shape[1])[:, :, None], x_BTF, 0)


def keep_valid(valid_B: jax.Array | None, new: jax.Array, old: jax.Array) -> jax.Array:
    """Returns `new` [B, ...] in the valid rows and `old` in the others, in the type of `old`."""
    new = new.astype(old.dtype)
    if valid_B is None:
        return new
    return jnp.where(jnp.expand_dims(valid_B, range(1, new.ndim)), new, old)


def mean_of_groups(x_BTF: jax.Array, lengths: jax.Array | None, size: int) -> tuple[jax.Array, jax.Array]:
    """Returns the mean of every `size` steps, [B, ceil(T / size), F], and how many groups each row has.

    The last group of a row may have fewer valid steps, and is the mean of those; groups of none are zero.

    >>> import jax.numpy as jnp
    >>> means, groups = mean_of_groups(jnp.array([[[1.0], [3.0], [7.0], [9.0]]]), jnp.array([3]), size=2)
    >>> means.ravel().tolist(), groups.tolist()
    ([2.0, 7.0], [2])
    """
    rows, time, width = x_BTF.shape
    groups = (time + size - 1) // size  # a whole number of them, which T may not be
    lengths = jnp.full(rows, time) if lengths is None else lengths
    whole_BTF = jnp.pad(zero_padding(x_BTF, lengths), ((0, 0), (0, size - 1), (0, 0)))[:, : groups * size]
    total_BGF = whole_BTF.reshape(rows, groups, size, width).sum(axis=2)
    valid_BG = jnp.clip(lengths[:, None] - size * jnp.arange(groups)[None, :], 1, size)
    return total_BGF / valid_BG.astype(x_BTF.dtype)[:, :, None], (lengths + size - 1) // size


def mean_over_time(x_BTF: jax.Array, lengths: jax.Array) -> jax.Array:
    """Returns [B, F], the mean over the valid steps; zero for a row of length 0."""
    total_BF = zero_padding(x_BTF, lengths).sum(axis=1)
    return total_BF / jnp.maximum(lengths, 1).astype(x_BTF.dtype)[:, None]


def max_over_time(x_BTF: jax.Array, lengths: jax.Array) -> jax.Array:
    """Returns [B, F], the maximum over the valid steps; zero for a row of length 0."""
    valid_BT1 = valid_steps(lengths, x_BTF.shape[1])[:, :, None]
    lowest = jnp.finfo(x_BTF.dtype).min
    return jnp.where(lengths[:, None] > 0, jnp.where(valid_BT1, x_BTF, lowest).max(axis=1, initial=lowest), 0)


def softmax_over_time(scores_BT: jax.Array, lengths: jax.Array) -> jax.Array:
    """Returns [B, T] weights that sum to one over the valid steps; all zero for a row of length 0."""
    valid_BT = valid_steps(lengths, scores_BT.shape[1])
    weights_BT = jax.nn.softmax(jnp.where(valid_BT, scores_BT, jnp.finfo(scores_BT.dtype).min), axis=1)
    return jnp.where(valid_BT, weights_BT, 0)
