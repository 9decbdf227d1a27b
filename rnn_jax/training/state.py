"""The state of training: all that a step reads and changes, except its batch."""

from typing import NamedTuple

import jax

from rnn_jax.layers.cells import Carry
from rnn_jax.trees import Params, Tree


class TrainState(NamedTuple):
    """All that training changes.

    Attributes:
      step: int32[], the number of steps done; it fixes the position in the data and in the random stream.
      params: the parameters, a nested dict of arrays.
      opt_state: the optimiser's state. An average of the weights and row-sparse training keep
        their state here too.
      carry: what the last batch left for the next, arrays [B, ...]: a language model's state, or () for a
        classifier.

    >>> import jax.numpy as jnp
    >>> from rnn_jax.training import TrainState
    >>> TrainState(jnp.int32(0), params={"w": jnp.zeros(2)}, opt_state=()).carry
    ()
    """

    step: jax.Array
    params: Params
    opt_state: Tree
    carry: Carry = ()
