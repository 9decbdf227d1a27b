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
    """Returns `new` in the valid rows and `old` in the others, in the type of `old`."""
    new = new.astype(old.dtype)
    return new if valid_B is None else jnp.where(valid_B[:, None], new, old)


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
