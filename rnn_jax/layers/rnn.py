"""RNN: one cell run over time. How every layer is called is told in layers.py."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from rnn_jax.errors import check_rate, choose, require
from rnn_jax.layers.cells import Carry, Cell, is_stepped
from rnn_jax.layers.dropout import Dropout
from rnn_jax.layers.fused import chunk_length, keeps_gates, run_fused, unrolled
from rnn_jax.layers.masking import keep_valid, over_leading_axes, valid_steps, zero_padding
from rnn_jax.layers.recurrence import project_inputs

BACKENDS = {"auto": "fused where it applies, else scan", "fused": "our cells", "scan": "any cell"}


class RNN(nn.Module):
    """Runs one cell over a padded batch, from the first valid step to the last or, with `reverse`, back.

    Attributes:
      cell: any `nn.RNNCellBase`, ours or Flax's. Parameters are in the scope `cell`, as in `flax.linen.RNN`.
      reverse: read right to left; outputs stay in the original order.
      backend: "scan" is `nn.scan` over any cell. "fused" (rnn_jax.layers.fused) is the same function in
        chunks of steps, several times faster to train and smaller; it takes SimpleCell, GRUCell and LSTMCell
        without layer_norm. "auto" is "fused" where that applies and "scan" elsewhere.
      remat: of "fused": compute the gates again in the backward pass rather than keep them, which takes about
        half the memory and up to 38 % more time. None: `rnn_jax.layers.fused.keeps_gates` chooses by shape.
      recurrent_dropout: rate of variational dropout on the hidden state inside the recurrent product, one
        mask for the whole sequence, from the rng stream "dropout" (Gal & Ghahramani 2016). Our cells only.

    Raises:
      InputError: x is not [..., T, E], lengths is not int[...], initial_carry has other shapes than the
        cell's, an unknown backend, "fused" on a cell it does not take, `remat` where the backend is "scan",
        recurrent_dropout outside [0, 1) or on a cell that is not ours or has its own `__call__`.
    """

    cell: nn.RNNCellBase
    reverse: bool = False
    backend: str = "auto"
    remat: bool | None = None
    recurrent_dropout: float = 0.0

    def __call__(
        self,
        x: jax.Array,
        lengths: jax.Array | None = None,
        initial_carry: Carry | None = None,
        deterministic: bool = True,
    ) -> tuple[Carry, jax.Array]:
        return over_leading_axes(partial(self.run, deterministic=deterministic), x, lengths, initial_carry)

    def carries(
        self,
        x: jax.Array,
        lengths: jax.Array | None = None,
        initial_carry: Carry | None = None,
        deterministic: bool = True,
    ) -> Carry:
        """Returns the carry after every step, each array [B, T, ...], from the scan whatever the backend."""
        return over_leading_axes(partial(self.trace, deterministic=deterministic), x, lengths, initial_carry)[
            0
        ]

    def run(self, x, lengths, initial_carry, deterministic, mirror: bool = False) -> tuple[Carry, jax.Array]:
        """Calls the layer; with `mirror`, in the other direction."""
        run = self._run_fused if self._backend() == "fused" else self._run_scan
        carry, outputs_BTH = self._over_time(run, x, lengths, initial_carry, deterministic, mirror)
        return carry, zero_padding(outputs_BTH, lengths)

    def trace(
        self, x, lengths, initial_carry, deterministic, mirror: bool = False
    ) -> tuple[Carry, jax.Array]:
        """Returns what `run` does, but the carry after every step in the place of the last."""
        self._backend()
        run = partial(self._run_scan, keep=lambda carry, output: (carry, output))
        _, kept = self._over_time(run, x, lengths, initial_carry, deterministic, mirror)
        return kept[0], zero_padding(kept[1], lengths)

    @nn.compact
    def _over_time(self, run, x, lengths, initial_carry, deterministic, mirror) -> tuple[Carry, Any]:
        """Returns the last carry and what `run` keeps of every step, [B, T, ...]."""
        batch, time, size = x.shape
        carry = self._initial_carry(initial_carry, (batch, size))
        hidden_mask = self._hidden_mask(batch, deterministic)
        x_TBE = zero_padding(x, lengths).swapaxes(0, 1)
        valid_TB = None if lengths is None else valid_steps(lengths, time).T
        carry, kept = run(x_TBE, valid_TB, carry, hidden_mask, self.reverse != mirror)
        return carry, jax.tree.map(lambda leaf: leaf.swapaxes(0, 1), kept)

    def final_hidden(self, carry: Carry) -> jax.Array:
        """Returns h [B, H] of the cell's carry: the carry itself, or the last of (c, h)."""
        return carry[-1] if isinstance(carry, tuple) else carry

    def _run_fused(self, x_TBE, valid_TB, carry, hidden_mask, reverse) -> tuple[Carry, jax.Array]:
        time, batch, size = x_TBE.shape
        chunk = chunk_length(time)
        weights = self.cell.weights(size)
        keep_gates = keeps_gates(time, batch, weights.bias.size) if self.remat is None else not self.remat
        carry, h_TBH = run_fused(
            self.cell.gating,
            weights,
            x_TBE,
            carry,
            valid_TB,
            hidden_mask,
            reverse=reverse,
            chunk=chunk,
            keep_gates=keep_gates,
            unroll=unrolled(chunk, jax.default_backend()),
        )
        return carry, h_TBH.astype(weights.recurrent.dtype)

    def _run_scan(
        self, x_TBE, valid_TB, carry, hidden_mask, reverse, keep=lambda carry, output: output
    ) -> tuple[Carry, Any]:
        step = self._step(x_TBE.shape[-1], hidden_mask)

        def masked_step(cell, carry, x_and_valid):
            x_BE, valid_B = x_and_valid
            new_carry, output = step(cell, carry, x_BE)
            new_carry = jax.tree.map(partial(keep_valid, valid_B), new_carry, carry)
            return new_carry, keep(new_carry, output)

        scan = nn.scan(
            masked_step, variable_broadcast="params", split_rngs={"params": False}, reverse=reverse
        )
        return scan(self.cell, carry, (x_TBE, valid_TB))

    def _step(self, size: int, hidden_mask: jax.Array | None) -> Callable:
        """Returns one step of the scan, `carry, output = step(cell, carry, x_BE)`."""
        if not is_stepped(self.cell):
            return lambda cell, carry, x_BE: cell(carry, x_BE)
        weights = self.cell.weights(size)
        # Projecting inside the loop is the faster unless E far exceeds H: see benchmarks/projection.py.
        return lambda cell, carry, x_BE: cell.step(weights, carry, project_inputs(weights, x_BE), hidden_mask)

    def _backend(self) -> str:
        """Returns "fused" or "scan"; raises where "fused" or `remat` is asked for and cannot be had."""
        choose("backend", self.backend, BACKENDS)
        cell = type(self.cell).__name__
        can_fuse = is_stepped(self.cell) and self.cell.gating is not None
        called = isinstance(self.cell, Cell) and not is_stepped(self.cell)
        reason = f"{cell} has a {'__call__' if called else 'step'} of its own"
        if is_stepped(self.cell) and getattr(self.cell, "layer_norm", False):
            reason = f"{cell} with layer_norm=True normalises inside every step"
        require(
            can_fuse or self.backend != "fused",
            f'backend is "fused", but {reason}; use backend "auto" or "scan"',
        )
        backend = "fused" if can_fuse and self.backend != "scan" else "scan"
        require(
            self.remat is None or backend == "fused",
            f"remat is {self.remat}, but only the fused backend has that choice, and this layer is scanned"
            + ("" if can_fuse else f": {reason}"),
        )
        return backend

    def _hidden_mask(self, batch: int, deterministic: bool) -> jax.Array | None:
        """Returns the dropout mask [B, H] on h inside the recurrent product, or None."""
        check_rate("recurrent_dropout", self.recurrent_dropout)
        require(
            self.recurrent_dropout == 0 or is_stepped(self.cell),
            f"recurrent_dropout is {self.recurrent_dropout}, but it reaches inside the cell, and "
            f"{type(self.cell).__name__} "
            + ("has a __call__ of its own" if isinstance(self.cell, Cell) else "is not one of rnn_jax's")
            + "; set it to 0, or use rnn_jax's cell, or a subclass that overrides its step alone",
        )
        if not self.recurrent_dropout or deterministic:
            return None
        return Dropout(self.recurrent_dropout)(jnp.ones((batch, self.cell.features)), deterministic)

    def _initial_carry(self, given: Carry | None, input_shape: tuple[int, int]) -> Carry:
        zeros = self.cell.initialize_carry(jax.random.key(0), input_shape)
        if given is None:
            return zeros
        leaves, structure = jax.tree.leaves(given), jax.tree.structure(zeros)
        shapes, expected = ([jnp.shape(leaf) for leaf in jax.tree.leaves(carry)] for carry in (given, zeros))
        cell = type(self.cell).__name__
        require(shapes == expected, f"initial_carry has shapes {shapes}, but {cell} carries {expected}")
        return jax.tree.unflatten(structure, [jnp.asarray(leaf) for leaf in leaves])


MERGES: dict[str, Callable[[jax.Array, jax.Array], jax.Array]] = {
    "concat": lambda forward, backward: jnp.concatenate([forward, backward], axis=-1),
    "sum": jnp.add,
    "mul": jnp.multiply,
    "ave": lambda forward, backward: (forward + backward) / 2,
}


class Bidirectional(nn.Module):
    """Two independent layers, one reading left to right, one right to left (Schuster & Paliwal 1997).

    The carry is the pair (forward carry, backward carry); its final hidden state is the merge of the two.

    Attributes:
      forward_rnn, backward_rnn: two layers, both built to read left to right; the second is run reversed.
        Parameters are in the scopes `forward_rnn` and `backward_rnn`, as in `flax.linen.Bidirectional`.
      merge: "concat", "sum", "mul", "ave", or a function of the two output arrays.

    Raises:
      InputError: the two share one layer or cell, one is built with reverse=True, or an unknown merge.
    """

    forward_rnn: nn.Module
    backward_rnn: nn.Module
    merge: str | Callable[[jax.Array, jax.Array], jax.Array] = "concat"

    def __call__(
        self,
        x: jax.Array,
        lengths: jax.Array | None = None,
        initial_carry: tuple[Carry, Carry] | None = None,
        deterministic: bool = True,
    ) -> tuple[tuple[Carry, Carry], jax.Array]:
        return over_leading_axes(partial(self.run, deterministic=deterministic), x, lengths, initial_carry)

    def carries(
        self,
        x: jax.Array,
        lengths: jax.Array | None = None,
        initial_carry: tuple[Carry, Carry] | None = None,
        deterministic: bool = True,
    ) -> tuple[Carry, Carry]:
        """Returns the pair of both directions' carries after every step, each array [B, T, ...]."""
        return over_leading_axes(partial(self.trace, deterministic=deterministic), x, lengths, initial_carry)[
            0
        ]

    def run(self, x, lengths, initial_carry, deterministic, mirror: bool = False):
        """Calls the layer; with `mirror`, both directions are swapped."""
        return self._both(_run, x, lengths, initial_carry, deterministic, mirror)

    def trace(self, x, lengths, initial_carry, deterministic, mirror: bool = False):
        """Returns what `run` does, but the carries after every step in the place of the last."""
        return self._both(_trace, x, lengths, initial_carry, deterministic, mirror)

    def _both(self, run, x, lengths, initial_carry, deterministic, mirror):
        self._check_layers()
        first, second = (None, None) if initial_carry is None else initial_carry
        forward_carry, forward = run(self.forward_rnn, x, lengths, first, deterministic, mirror)
        backward_carry, backward = run(self.backward_rnn, x, lengths, second, deterministic, not mirror)
        return (forward_carry, backward_carry), self._merge(forward, backward)

    def final_hidden(self, carry: tuple[Carry, Carry]) -> jax.Array:
        """Returns the merge of the two directions' final hidden states."""
        return self._merge(self.forward_rnn.final_hidden(carry[0]), self.backward_rnn.final_hidden(carry[1]))

    def _merge(self, forward: jax.Array, backward: jax.Array) -> jax.Array:
        merge = choose("merge", self.merge, MERGES) if isinstance(self.merge, str) else self.merge
        return merge(forward, backward)

    def _check_layers(self) -> None:
        layers = {"forward_rnn": self.forward_rnn, "backward_rnn": self.backward_rnn}
        owners = [layer.cell if isinstance(layer, RNN) else layer for layer in layers.values()]
        require(
            owners[0] is not owners[1],
            "forward_rnn and backward_rnn are one object or hold one cell, so they would share it; build two",
        )
        for name, layer in layers.items():
            require(
                not (isinstance(layer, RNN) and layer.reverse),
                f"{name} has reverse=True; build it with reverse=False, Bidirectional turns the second one",
            )


class Stacked(nn.Module):
    """Layers one on another: each reads the whole output sequence of the one below.

    The carry is the tuple of the layers' carries; its final hidden state is the top layer's.

    Attributes:
      layers: RNN, Bidirectional or Stacked layers of any cells and widths, in the scopes `layers_0`, ...
      dropout: rate of dropout between layers, one mask for the whole sequence, from the rng stream "dropout".
      residual: adds a layer's input to its output wherever the two are equally wide (He et al. 2016).

    Raises:
      InputError: no layers, initial_carry of another length, dropout outside [0, 1), or `residual` where no
        layer is as wide as its input.
    """

    layers: Sequence[nn.Module]
    dropout: float = 0.0
    residual: bool = False

    def __call__(
        self,
        x: jax.Array,
        lengths: jax.Array | None = None,
        initial_carry: Sequence[Carry] | None = None,
        deterministic: bool = True,
    ) -> tuple[tuple[Carry, ...], jax.Array]:
        return over_leading_axes(partial(self.run, deterministic=deterministic), x, lengths, initial_carry)

    def carries(
        self,
        x: jax.Array,
        lengths: jax.Array | None = None,
        initial_carry: Sequence[Carry] | None = None,
        deterministic: bool = True,
    ) -> tuple[Carry, ...]:
        """Returns the tuple of the layers' carries after every step, each array [B, T, ...]."""
        return over_leading_axes(partial(self.trace, deterministic=deterministic), x, lengths, initial_carry)[
            0
        ]

    def run(self, x, lengths, initial_carry, deterministic, mirror: bool = False):
        """Calls the layers in turn; with `mirror`, each in its other direction."""
        return self._in_turn(_run, x, lengths, initial_carry, deterministic, mirror)

    def trace(self, x, lengths, initial_carry, deterministic, mirror: bool = False):
        """Returns what `run` does, but the carries after every step in the place of the last."""
        return self._in_turn(_trace, x, lengths, initial_carry, deterministic, mirror)

    @nn.compact
    def _in_turn(self, run, x, lengths, initial_carry, deterministic, mirror):
        require(len(self.layers) > 0, "layers is empty; a stack needs at least one")
        check_rate("dropout", self.dropout)
        given = [None] * len(self.layers) if initial_carry is None else list(initial_carry)
        require(
            len(given) == len(self.layers),
            f"initial_carry holds {len(given)} carries for {len(self.layers)} layers; give one for each",
        )
        carries: list[Carry] = []
        widths = []
        for layer, carry in zip(self.layers, given, strict=True):
            if carries:
                x = Dropout(self.dropout)(x, deterministic)
            carry, outputs = run(layer, x, lengths, carry, deterministic, mirror)
            carries.append(carry)
            widths.append((x.shape[-1], outputs.shape[-1]))
            if self.residual and x.shape == outputs.shape:
                outputs += zero_padding(x, lengths).astype(outputs.dtype)
            x = outputs
        require(
            not self.residual or any(below == above for below, above in widths),
            f"residual is on, but no layer is as wide as its input: (input, output) widths are {widths}",
        )
        return tuple(carries), x

    def final_hidden(self, carry: Sequence[Carry]) -> jax.Array:
        """Returns the final hidden state of the top layer."""
        return self.layers[-1].final_hidden(carry[-1])


def _run(layer: Any, *arguments: Any) -> tuple[Carry, jax.Array]:
    return layer.run(*arguments)


def _trace(layer: Any, *arguments: Any) -> tuple[Carry, jax.Array]:
    return layer.trace(*arguments)


def read_from_the_end(layer: Any) -> str:
    """Returns what in a layer reads from the end or may, such as "a Bidirectional", or "" for nothing."""
    if isinstance(layer, Stacked):
        return next(filter(None, map(read_from_the_end, layer.layers)), "")
    if not isinstance(layer, RNN):
        return f"a {type(layer).__name__}"
    return "an RNN with reverse=True" if layer.reverse else ""
