"""Weight drop: dropout of the entries of recurrent kernels, before a network runs."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from rnn_jax.errors import check_rate, require
from rnn_jax.trees import Params, leaves_by_path

RECURRENT = {"h", "hi", "hf", "hg", "ho", "hr", "hz", "hn"}  # names of cells' recurrent kernels, as in Flax
FROZEN = "contextual"  # the scope of a classifier's language models


def drop_weights(params: Params, key: jax.Array, rate: float) -> Params:
    """Returns parameters whose recurrent kernels have a share `rate` of their entries set to zero.

    The others are scaled by 1 / (1 - rate): DropConnect (Wan et al. 2013; Merity et al. 2018). All rows and
    steps of a network share this one mask, and its cells need no change. The layers of `contextual`, frozen
    language models, are left whole.

    Raises:
      InputError: a rate outside [0, 1), or no recurrent kernel among the parameters.
    """
    check_rate("weight_drop", rate)
    leaves, paths = jax.tree.leaves(params), leaves_by_path(nn.meta.unbox(params))  # a box is in no path
    recurrent = [index for index, path in enumerate(paths) if is_recurrent_kernel(path)]
    require(len(recurrent) > 0, "params have no recurrent kernel to drop")
    for index in recurrent:
        kept = jax.random.bernoulli(jax.random.fold_in(key, index), 1 - rate, leaves[index].shape)
        leaves[index] = jnp.where(kept, leaves[index] / (1 - rate), 0)
    changed: Params = jax.tree.unflatten(jax.tree.structure(params), leaves)
    return changed


def is_recurrent_kernel(path: str) -> bool:
    """Returns whether the path of a leaf ends in cell/NAME/kernel, with a recurrent NAME, outside FROZEN."""
    *_, scope, name, leaf = ("", "", *path.split("/"))
    kept = path.startswith(f"{FROZEN}/")
    return scope == "cell" and name in RECURRENT and leaf == "kernel" and not kept
