"""Dropout with one mask a row: the steps of a text share it, and so do all ways to split a batch."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from rnn_jax.errors import check_rate, require
from rnn_jax.layers.placement import varying_axes

BATCH_AXIS = "batch"  # the mesh axis that batches are split over: see rnn_jax/distributed/data_parallel.py


class Dropout(nn.Module):
    """Zeroes a share `rate` of the features of each row and scales the others by 1 / (1 - rate).

    The mask [F] of row b of the batch is drawn from the rng stream "dropout" and b alone, whatever the size
    of the batch and however it is split over devices. All steps of x [B, T, F] share it: variational dropout
    (Gal & Ghahramani 2016). In a `jax.shard_map`, rows are numbered over the mesh axis "batch"; on a mesh
    without one, over all axes that x varies over, in the order of the mesh.

    Attributes:
      rate: in [0, 1); 0 is no dropout.
      whole_steps: the mask is [T] instead, and drops whole steps: words.

    >>> import jax, jax.numpy as jnp
    >>> from rnn_jax.layers import Dropout
    >>> x, rngs = jnp.ones((2, 3, 4)), {"dropout": jax.random.key(0)}
    >>> dropped = Dropout(rate=0.5).apply({}, x, deterministic=False, rngs=rngs)
    >>> sorted(set(dropped.ravel().tolist())), bool((dropped[:, 0] == dropped[:, 2]).all())
    ([0.0, 2.0], True)
    """

    rate: float
    whole_steps: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, deterministic: bool) -> jax.Array:
        """Returns x [B, ..., F] with dropout; with `deterministic`, or a rate of 0, x itself.

        Raises:
          InputError: a rate outside [0, 1), x without rows, or a traced `deterministic`.

        >>> import jax.numpy as jnp
        >>> from rnn_jax.layers import Dropout
        >>> Dropout(rate=0.5).apply({}, jnp.ones((1, 3)), deterministic=True).tolist()
        [[1.0, 1.0, 1.0]]
        """
        check_rate("rate", self.rate)
        if not drops(self.rate, deterministic):
            return x
        require(x.ndim > 1, f"x has shape {x.shape}; each row has a mask: give [batch, ..., features]")
        shape = (*x.shape[1:-1], 1) if self.whole_steps else (*(1 for _ in x.shape[1:-1]), x.shape[-1])
        keys = jax.vmap(jax.random.fold_in, (None, 0))(self.make_rng("dropout"), row_numbers(x))
        mask = jax.vmap(lambda key: jax.random.bernoulli(key, 1 - self.rate, shape))(keys)
        return jnp.where(mask, x / (1 - self.rate), 0).astype(x.dtype)


def drops(rate: float, deterministic: bool) -> bool:
    """Returns whether dropout of a rate is on, which decides what is compiled.

    Raises:
      InputError: the rate is not 0, and `deterministic` is traced, as `nn.remat` and `jax.jit` do.
    """
    if not rate:
        return False
    require(
        not isinstance(deterministic, jax.core.Tracer),
        "deterministic is traced, but it decides what is compiled; make it static: nn.remat(RNN, "
        "static_argnums=(4,)) for a layer, called with four positional arguments, (3,) for a TextClassifier "
        'with three, and jax.jit(..., static_argnames="deterministic")',
    )
    return not deterministic


def row_numbers(x: jax.Array) -> jax.Array:
    """Returns int[B], where the rows of x [B, ...] lie in the whole batch, split over devices or not."""
    count = x.shape[0]
    try:
        return jax.lax.axis_index(BATCH_AXIS) * count + jnp.arange(count)
    except NameError:  # no such axis: the batch is whole, or split over axes of other names
        axes = varying_axes(x)
        names = tuple(name for name in jax.typeof(x).sharding.mesh.axis_names if name in axes)
        return jax.lax.axis_index(names) * count + jnp.arange(count) if names else jnp.arange(count)
