"""The scan backend: any cell, one step after another, by Flax's lifted `nn.scan`."""

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.core import freeze

from rnn_jax.layers.cells import is_stepped
from rnn_jax.layers.linear import has_linear_weights
from rnn_jax.layers.masking import keep_valid
from rnn_jax.layers.placement import gather_all, vary_with
from rnn_jax.layers.recurrence import Carry, project_inputs
from rnn_jax.trees import Tree


class Lifting(NamedTuple):
    """How the loop treats the variables and random streams of a cell: arguments of `nn.scan`, as in `nn.RNN`.

    The names are those of the attributes of `RNN`.
    """

    variable_axes: Mapping[Any, Any] = freeze({"intermediates": 0})
    variable_broadcast: Any = "params"
    variable_carry: Any = False
    split_rngs: Mapping[Any, bool] = freeze({"params": False})


PLAIN = Lifting()


def run_scanned(
    cell: nn.RNNCellBase,
    x_TBE: jax.Array,
    carry: Carry,
    valid_TB: jax.Array | None,
    hidden_mask_BH: jax.Array | None,
    reverse: bool,
    lifting: Lifting,
    every: bool,
) -> tuple[Carry, jax.Array]:
    """Returns the last carry, or with `every` all of them, [T, B, H], and the outputs [T, B, H].

    Padded steps pass the carry on.
    """
    has_weights = is_stepped(cell) or has_linear_weights(cell)
    weights = gather_all(cell.weights(x_TBE.shape[-1]), x_TBE) if has_weights else None

    def masked_step(cell: nn.RNNCellBase, carry: Carry, x_and_valid: Tree) -> tuple[Carry, Tree]:
        x_BE, valid_B = x_and_valid
        if weights is None:
            new, output = cell(carry, x_BE)
        elif has_linear_weights(cell):
            new, output = cell.step(weights, carry, x_BE)
        else:
            # Projecting inside the loop is the faster unless E far exceeds H: benchmarks/projection.py.
            new, output = cell.step(weights, carry, project_inputs(weights, x_BE), hidden_mask_BH)
        new = jax.tree.map(partial(keep_valid, valid_B), new, carry)
        return new, (new if every else None, output)

    if lifting.variable_carry and cell.is_initializing():
        # What a loop carries has to exist before it, so that the first step is run once outside.
        masked_step(cell, carry, (jnp.zeros_like(x_TBE, shape=x_TBE.shape[1:]), None))
    scan = nn.scan(masked_step, reverse=reverse, **lifting._asdict())
    carry = vary_with(carry, cell.variables, weights, x_TBE, valid_TB, hidden_mask_BH)
    last, (carries, outputs_TBH) = scan(cell, carry, (x_TBE, valid_TB))
    return carries if every else last, outputs_TBH
