"""N-gram evidence looked up by JAX, for a program that has to run without this library: an export."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from rnn_jax.layers.masking import zero_padding


def look_up(
    tables: Sequence[tuple[jax.Array, jax.Array]], token_ids: jax.Array, lengths: jax.Array
) -> jax.Array:
    """Returns float32[B, T, F], what `Evidence.features` of rnn_jax.data.evidence gives for each row.

    Args:
      tables: for each order int32[N, n] n-grams, rising, and their ratios float32[N, K].
      token_ids: int32[B, T].
      lengths: int32[B], the words of each row; padding gets zeros.

    >>> grams, ratios = jnp.array([[2], [4]]), jnp.array([[0.5], [-1.0]])
    >>> look_up([(grams, ratios)], jnp.array([[4, 3, 2]]), jnp.array([2])).ravel().tolist()
    [-1.0, 0.0, 0.0]
    """
    parts = [_ratios_of(grams, ratios, token_ids) for grams, ratios in tables]
    return zero_padding(jnp.concatenate(parts, axis=-1), lengths)


def _ratios_of(grams_Nn: jax.Array, ratios_NK: jax.Array, token_ids: jax.Array) -> jax.Array:
    size, order = grams_Nn.shape
    if not size:
        return jnp.zeros((*token_ids.shape, ratios_NK.shape[1]), ratios_NK.dtype)
    # The words before a text are -1, which no n-gram has.
    before = [
        jnp.pad(token_ids, ((0, 0), (back, 0)), constant_values=-1)[:, : token_ids.shape[1]]
        for back in reversed(range(order))
    ]
    wanted_BTn = jnp.stack(before, axis=-1)

    def halved(_: int, bounds: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low, high = bounds
        middle = (low + high) // 2
        less = _less(grams_Nn[middle], wanted_BTn)
        return jnp.where(less, middle + 1, low), jnp.where(less, high, middle)

    first = jnp.zeros_like(token_ids)
    place, _ = jax.lax.fori_loop(0, math.ceil(math.log2(size)), halved, (first, first + size - 1))
    known_BT1 = (grams_Nn[place] == wanted_BTn).all(axis=-1, keepdims=True)
    return jnp.where(known_BT1, ratios_NK[place], 0)


def _less(a: jax.Array, b: jax.Array) -> jax.Array:
    """Returns whether a [..., n] comes before b [..., n], word by word."""
    less = a[..., -1] < b[..., -1]
    for word in reversed(range(a.shape[-1] - 1)):
        less = (a[..., word] < b[..., word]) | ((a[..., word] == b[..., word]) & less)
    return less
