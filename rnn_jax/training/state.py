"""The state of training: all that a step reads and changes beside its batch."""

from typing import NamedTuple

import jax

from rnn_jax.layers.cells import Carry
from rnn_jax.trees import Params, Tree


class TrainState(NamedTuple):
    """All that training changes.

    Attributes:
      step: int32[], the steps done, and so the position in the data and in the random stream.
      params: the parameters, a nested dict of arrays.
      opt_state: the optimiser's state; with an average of the weights or row-sparse training, that too.
      carry: what the last batch left for the next, rows first: a language model's state; () of a classifier.
    """

    step: jax.Array
    params: Params
    opt_state: Tree
    carry: Carry = ()
