"""Padded batches: masks and pooling over valid steps. Pure functions on [B, T, ...], padded on the right."""

import math
from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp

from rnn_jax.errors import require
from rnn_jax.layers.recurrence import Carry


def valid_steps(lengths: jax.Array, max_length: int) -> jax.Array:
    """Returns bool[B, T], True at the first `lengths[b]` of the `max_length` steps of row b.

    Args:
      lengths: int[B], each from 0 to T.
      max_length: T.

    >>> import jax.numpy as jnp
    >>> from rnn_jax.layers import valid_steps
    >>> valid_steps(jnp.array([0, 2]), 3).tolist()
    [[False, False, False], [True, True, False]]
    """
    return jnp.arange(max_length) < lengths[:, None]


def zero_padding(x_BTF: jax.Array, lengths: jax.Array | None) -> jax.Array:
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


def check_batch(x: jax.Array, lengths: jax.Array | None) -> None:
    """Raises InputError unless x is [..., T, features] and lengths is None or int[...]."""
    require(
        x.ndim >= 2,
        f"x has shape {x.shape}; a recurrent layer reads [batch, time, features], or [..., time, features]",
    )
    if lengths is None:
        return
    require(
        lengths.shape == x.shape[:-2],
        f"lengths has shape {lengths.shape}, but x has rows of shape {x.shape[:-2]}; give one length a row",
    )
    require(
        jnp.issubdtype(lengths.dtype, jnp.integer),
        f"lengths has dtype {lengths.dtype}; give integers that count the valid steps of each row",
    )


def fit_carry(given: Carry, zeros: Carry, cell: str) -> Carry:
    """Returns `given` in the structure of `zeros`, the carry of a `cell` of that name.

    Raises:
      InputError: other shapes than those of `zeros`.
    """
    leaves, structure = jax.tree.leaves(given), jax.tree.structure(zeros)
    shapes, expected = ([jnp.shape(leaf) for leaf in jax.tree.leaves(carry)] for carry in (given, zeros))
    require(shapes == expected, f"initial_carry has shapes {shapes}, but {cell} carries {expected}")
    return jax.tree.unflatten(structure, [jnp.asarray(leaf) for leaf in leaves])


Kept = TypeVar("Kept")
Options = TypeVar("Options")


def over_leading_axes(
    run: Callable[[jax.Array, jax.Array | None, Carry | None, Options], tuple[Kept, jax.Array]],
    x: jax.Array,
    lengths: jax.Array | None,
    initial_carry: Carry | None,
    options: Options,
) -> tuple[Kept, jax.Array]:
    """Returns `run(x, lengths, initial_carry, options)`, which reads [B, T, F], for x [..., T, F].

    The leading axes, any number of them, are one batch to `run`. Lengths [...], the carries and the outputs
    have them all.
    """
    check_batch(x, lengths)
    leading = x.shape[:-2]
    if len(leading) == 1:
        return run(x, lengths, initial_carry, options)
    for leaf in jax.tree.leaves(initial_carry):
        require(
            jnp.shape(leaf)[: len(leading)] == leading,
            f"initial_carry has shape {jnp.shape(leaf)}, but x has rows of shape {leading}; begin with those",
        )
    rows = math.prod(leading)
    x, lengths, initial_carry = jax.tree.map(
        lambda leaf: jnp.reshape(leaf, (rows, *jnp.shape(leaf)[len(leading) :])), (x, lengths, initial_carry)
    )
    kept, outputs = jax.tree.map(
        lambda leaf: leaf.reshape(*leading, *leaf.shape[1:]), run(x, lengths, initial_carry, options)
    )
    return kept, outputs


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
