"""RNN: one cell run over time. How every layer is called is told in layers.py."""

from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from rnn_jax.cells import Carry, Cell
from rnn_jax.errors import check_rate, choose, require
from rnn_jax.recurrence import project_inputs
from rnn_jax.sequence import check_batch, valid_steps, zero_padding

BACKENDS = {"auto": "scan", "scan": "scan"}


def keep_valid(valid_B: jax.Array | None, new: jax.Array, old: jax.Array) -> jax.Array:
    """Returns `new` in the valid rows and `old` in the others, in the type of `old`."""
    new = new.astype(old.dtype)
    return new if valid_B is None else jnp.where(valid_B[:, None], new, old)


class RNN(nn.Module):
    """Runs one cell over a padded batch, from the first valid step to the last or, with `reverse`, back.

    Attributes:
      cell: any `nn.RNNCellBase`, ours or Flax's. Parameters are in the scope `cell`, as in `flax.linen.RNN`.
      reverse: read right to left; outputs stay in the original order.
      backend: "scan" is `nn.scan`: any transformation, any cell. "auto" takes the fastest of them.
      recurrent_dropout: rate of variational dropout on the hidden state inside the recurrent product, one
        mask for the whole sequence, from the rng stream "dropout" (Gal & Ghahramani 2016). Our cells only.

    Raises:
      InputError: x is not [B, T, E], lengths is not int[B], initial_carry has other shapes than the cell's,
        an unknown backend, recurrent_dropout outside [0, 1) or on a cell that is not ours.
    """

    cell: nn.RNNCellBase
    reverse: bool = False
    backend: str = "auto"
    recurrent_dropout: float = 0.0

    def __call__(
        self,
        x: jax.Array,
        lengths: jax.Array | None = None,
        initial_carry: Carry | None = None,
        deterministic: bool = True,
    ) -> tuple[Carry, jax.Array]:
        return self.run(x, lengths, initial_carry, deterministic)

    @nn.compact
    def run(self, x, lengths, initial_carry, deterministic, mirror: bool = False) -> tuple[Carry, jax.Array]:
        """Calls the layer; with `mirror`, in the other direction."""
        choose("backend", self.backend, BACKENDS)
        check_batch(x, lengths)
        batch, time, size = x.shape
        carry = self._initial_carry(initial_carry, (batch, size))
        step = self._step(batch, size, deterministic)
        x_TBE = zero_padding(x, lengths).swapaxes(0, 1)
        valid_TB = None if lengths is None else valid_steps(lengths, time).T

        def masked_step(cell, carry, x_and_valid):
            x_BE, valid_B = x_and_valid
            new_carry, output = step(cell, carry, x_BE)
            return jax.tree.map(partial(keep_valid, valid_B), new_carry, carry), output

        scan = nn.scan(
            masked_step,
            variable_broadcast="params",
            split_rngs={"params": False},
            reverse=self.reverse != mirror,
        )
        carry, outputs_TBH = scan(self.cell, carry, (x_TBE, valid_TB))
        return carry, zero_padding(outputs_TBH.swapaxes(0, 1), lengths)

    def final_hidden(self, carry: Carry) -> jax.Array:
        """Returns h [B, H] of the cell's carry: the carry itself, or the last of (c, h)."""
        return carry[-1] if isinstance(carry, tuple) else carry

    def _step(self, batch: int, size: int, deterministic: bool) -> Callable:
        """Returns one step of the loop, `carry, output = step(cell, carry, x_BE)`."""
        check_rate("recurrent_dropout", self.recurrent_dropout)
        if not isinstance(self.cell, Cell):
            require(
                self.recurrent_dropout == 0,
                f"recurrent_dropout is {self.recurrent_dropout}, but it reaches inside the cell, and "
                f"{type(self.cell).__name__} is not one of rnn_jax's; set it to 0 or use rnn_jax's cell",
            )
            return lambda cell, carry, x_BE: cell(carry, x_BE)
        weights = self.cell.weights(size)
        mask_BH = None
        if self.recurrent_dropout and not deterministic:
            dropout = nn.Dropout(self.recurrent_dropout, deterministic=False)
            mask_BH = dropout(jnp.ones((batch, self.cell.features)))
        # Projecting inside the loop is the faster unless E far exceeds H: see benchmarks/projection.py.
        return lambda cell, carry, x_BE: cell.step(weights, carry, project_inputs(weights, x_BE), mask_BH)

    def _initial_carry(self, given: Carry | None, input_shape: tuple[int, int]) -> Carry:
        zeros = self.cell.initialize_carry(jax.random.key(0), input_shape)
        if given is None:
            return zeros
        leaves, structure = jax.tree.leaves(given), jax.tree.structure(zeros)
        shapes, expected = ([jnp.shape(leaf) for leaf in jax.tree.leaves(carry)] for carry in (given, zeros))
        cell = type(self.cell).__name__
        require(shapes == expected, f"initial_carry has shapes {shapes}, but {cell} carries {expected}")
        return jax.tree.unflatten(structure, [jnp.asarray(leaf) for leaf in leaves])
