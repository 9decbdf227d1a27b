"""Regularisers against overfitting: smoothed labels, adversarial training, averaged weights."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from rnn_jax.errors import check_rate, require
from rnn_jax.training.state import TrainState
from rnn_jax.trees import Params, Tree


class Regularisers(NamedTuple):
    """Options of training, all off by default.

    The loss becomes L(x) + L(x + r g / |g|), where x are a text's word vectors, g is the gradient of L by x,
    and r is `adversarial` times the standard deviation of the embedding's entries.

    Attributes:
      label_smoothing: share in [0, 1) of each target that is spread over all classes (Szegedy et al. 2016).
      adversarial: norm of each text's change, at least 0, in standard deviations of the embedding's entries;
        0 adds nothing (Miyato et al. 2017, who normalise the table by word frequencies instead). It doubles
        the cost of a step.
      average: decay in [0, 1) of the moving average of the weights that is evaluated and saved, such as
        0.999; 0 takes the weights themselves (Polyak & Juditsky 1992).

    >>> from rnn_jax.training import Regularisers
    >>> Regularisers(average=0.999).check()
    Regularisers(label_smoothing=0.0, adversarial=0.0, average=0.999)
    """

    label_smoothing: float = 0.0
    adversarial: float = 0.0
    average: float = 0.0

    def check(self) -> "Regularisers":
        """Returns itself. Raises InputError for a number out of its range."""
        check_rate("train.label_smoothing", self.label_smoothing)
        check_rate("train.average", self.average)
        require(
            0 <= self.adversarial < float("inf"),
            f"train.adversarial is {self.adversarial}; it is a norm: give at least 0",
        )
        return self


PLAIN = Regularisers()


def averaging(config: ConfigDict) -> Regularisers:
    """Returns what language models and taggers have of these: the average of the weights."""
    return Regularisers(average=config.train.average).check()


def adversary(slope_BTE: jax.Array, radius: jax.Array) -> jax.Array:
    """Returns the change of each row, of norm `radius`, that raises a loss with this gradient fastest."""
    square_B = (slope_BTE.astype(jnp.float32) ** 2).sum(axis=(1, 2), keepdims=True)
    safe_B = jnp.where(square_B > 0, square_B, 1)  # a row without words has no slope, and gets no change
    return radius * slope_BTE / jnp.sqrt(safe_B)


class Averaged(NamedTuple):
    """An optimiser's state and the average of the weights; `exchange` swaps the average with the weights."""

    optimizer: Tree
    weights: Params


def moved_average(average: Params, params: Params, decay: float, step: jax.Array) -> Params:
    """Returns the average after step `step`, counted from 1, of the weights after steps 1 to `step`.

    It is sum_i d^(step - i) w_i / sum_i d^(step - i); the initial weights have no share in it.
    """
    share = (1 - decay) / (1 - decay ** step.astype(jnp.float32))
    return jax.tree.map(lambda old, new: old + share.astype(old.dtype) * (new - old), average, params)


def exchange(state: TrainState) -> TrainState:
    """Returns a train state whose weights and their average have swapped places, if it has an average."""
    if not isinstance(state.opt_state, Averaged):
        return state
    return state._replace(
        params=state.opt_state.weights, opt_state=state.opt_state._replace(weights=state.params)
    )
