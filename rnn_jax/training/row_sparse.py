"""Row-sparse training of the embedding: a step reads and changes only the rows of its batch's words.

Dense Adam moves every row at every step: rows without a gradient still follow their momentum. That costs
O(V E) a step. Here a step skips those rows, and the skipped steps are made up for, by the same formula,
before a row is read again. The result equals that of dense Adam up to rounding. The optimiser needs no
change: it gets a small table.
"""

import math
from collections.abc import Callable
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax import lax
from jax.tree_util import KeyPath

from rnn_jax.data.batches import Batch
from rnn_jax.training.state import TrainState
from rnn_jax.trees import Tree, names_on

TABLE = ("embedding", "embedding")  # its path in the parameters
BLOCK = 256  # rows brought up to date together: with their moments they stay in cache
NEGLIGIBLE = 5e-8  # a momentum that has decayed to this share of itself is taken as zero


class RowState(NamedTuple):
    """The optimiser's state of all rows, and the step up to which each row is current, int32[V]."""

    optimizer: Tree
    updated: jax.Array


class TableRows(NamedTuple):
    """Rows of the embedding and their two moments: three arrays [V, E], or [N, E] for N rows of a batch."""

    table: jax.Array
    mu: jax.Array
    nu: jax.Array


class Step(Protocol):
    """A train step of one kind of batch."""

    def __call__(self, state: TrainState, batch: Batch, key: jax.Array, /) -> tuple[TrainState, Tree]:
        """Returns the state after the step, and its metrics."""


class RowAdam(NamedTuple):
    """Row-sparse Adam for the embedding table, equal to `optax.adam(rate, b1, b2, eps)` up to rounding.

    At step t a row without a gradient moves by -rate(t) m_t / (sqrt(v_t) + eps), where the moments m_t and
    v_t (bias-corrected; Kingma & Ba 2015) only decay. A row is moved through all its skipped steps before it
    is read. The model must read its table by id alone, and accept a table of fewer rows.

    Attributes:
      rate: the learning rate by step, a schedule, the same as that of the optimiser.
      b1, b2, eps: in [0, 1), [0, 1) and above 0, the same as those of the optimiser.

    >>> import jax.numpy as jnp, optax
    >>> from rnn_jax.training import RowAdam, init_state
    >>> rate = optax.constant_schedule(0.1)
    >>> state = init_state({"embedding": {"embedding": jnp.ones((5, 2))}}, optax.adam(rate))
    >>> RowAdam(rate).init(state).opt_state.updated.tolist()  # the step of each of the 5 rows
    [0, 0, 0, 0, 0]
    """

    rate: Callable[[Tree], Tree]
    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8

    def init(self, state: TrainState) -> TrainState:
        """Returns the train state with the step of each row added to the optimiser's state."""
        rows = state.params[TABLE[0]][TABLE[1]].shape[0]
        return state._replace(opt_state=RowState(state.opt_state, jnp.full(rows, state.step)))

    def step(self, train_step: Callable[..., tuple[TrainState, Tree]]) -> Step:
        """Returns a train step that calls `train_step` with the rows of the batch alone."""

        def row_step(state: TrainState, batch: Batch, key: jax.Array) -> tuple[TrainState, Tree]:
            small, batch, ids = self.take(state, batch)
            small, metrics = train_step(small, batch, key)
            return self.put(state, small, ids), metrics

        return row_step

    def take(self, state: TrainState, batch: Batch) -> tuple[TrainState, Batch, jax.Array]:
        """Returns a state whose table has the batch's rows alone, the batch with ids in it, and the old ids.

        The rows are made current first.
        """
        absent = len(state.opt_state.updated)  # the id of no row: it reads as zeros and is not written
        size = min(batch.token_ids.size, absent)
        ids, places = jnp.unique(batch.token_ids, size=size, fill_value=absent, return_inverse=True)
        dense = state._replace(opt_state=state.opt_state.optimizer)
        rows = jax.tree.map(lambda rows: rows.at[ids].get(mode="fill", fill_value=0), rows_of(dense))
        small = with_rows(dense, rows)
        since = state.opt_state.updated.at[ids].get(mode="fill", fill_value=0)
        places = places.reshape(batch.token_ids.shape).astype(jnp.int32)
        return self.catch_up(small, since), batch._replace(token_ids=places), ids

    def put(self, state: TrainState, small: TrainState, ids: jax.Array) -> TrainState:
        """Returns `state` with the results of a step, `small`, in the rows `ids` that `take` chose."""
        dense = state._replace(opt_state=state.opt_state.optimizer)
        rows = jax.tree.map(
            lambda rows, new: rows.at[ids].set(new, mode="drop"), rows_of(dense), rows_of(small)
        )
        dense = with_rows(small, rows)  # all else is what the step made of it
        updated = state.opt_state.updated.at[ids].set(small.step, mode="drop")
        return dense._replace(opt_state=RowState(dense.opt_state, updated))

    def settle(self, state: TrainState) -> TrainState:
        """Returns the state with every row current, ready to be evaluated and saved.

        A run that is interrupted between two evaluations saves rows that are not, so that it goes on with the
        same bits.
        """
        dense = state._replace(opt_state=state.opt_state.optimizer)
        dense = self.catch_up(dense, state.opt_state.updated)
        updated = jnp.full_like(state.opt_state.updated, state.step)
        return dense._replace(opt_state=RowState(dense.opt_state, updated))

    def catch_up(self, state: TrainState, since: jax.Array) -> TrainState:
        """Returns the state with each row of its table moved from its step in `since` [N] to the state's."""
        rows = rows_of(state)
        lags = jnp.where((rows.nu != 0).any(axis=1), state.step - since, 0)
        moved = TableRows(
            self.replay_sorted(rows, lags, state.step),
            rows.mu * self.b1 ** lags[:, None],
            rows.nu * self.b2 ** lags[:, None],
        )
        return with_rows(state, moved)

    def replay_sorted(self, all_rows: TableRows, lags: jax.Array, step: jax.Array) -> jax.Array:
        """Returns the table's rows at `step`, block by block, those furthest behind first."""
        count = len(lags)
        order = jnp.pad(jnp.argsort(-lags), (0, -count % BLOCK), constant_values=count)
        lags = lags.at[order].get(mode="fill", fill_value=0)

        def replay_block(block_and_table):
            block, table = block_and_table
            rows = lax.dynamic_slice(order, [block * BLOCK], [BLOCK])
            lag = lax.dynamic_slice(lags, [block * BLOCK], [BLOCK])
            arrays = [array.at[rows].get(mode="fill") for array in (table, all_rows.mu, all_rows.nu)]
            return block + 1, table.at[rows].set(self.replay(*arrays, step - lag, lag), mode="drop")

        def behind(block_and_table):
            at = block_and_table[0] * BLOCK
            return (at < count) & (lags[jnp.minimum(at, count - 1)] > 0)

        return lax.while_loop(behind, replay_block, (0, all_rows.table))[1]

    def replay(self, table, mu, nu, since, lags) -> jax.Array:
        """Returns rows [BLOCK, E] after `lags` [BLOCK], falling, Adam steps whose gradients are zero."""
        root, reach = jnp.sqrt(nu), math.ceil(math.log(NEGLIGIBLE) / math.log(self.b1)) if self.b1 else 0

        def one_step(passed, table):
            step = since + passed
            rate = (
                jnp.where(passed <= lags, jax.vmap(self.rate)(step - 1), 0)
                * self.b1**passed
                / (1 - self.b1**step)
            )
            scale = jnp.sqrt(self.b2**passed / (1 - self.b2**step))
            return table - rate[:, None] * mu / (root * scale[:, None] + self.eps)

        return lax.fori_loop(1, jnp.minimum(lags[0], reach) + 1, one_step, table)


def rows_of(state: TrainState) -> TableRows:
    """Returns the table and its moments."""
    found = {_field_of(names_on(path)): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(state)}
    return TableRows(*(found[name] for name in TableRows._fields))


def with_rows(state: TrainState, rows: TableRows) -> TrainState:
    """Returns the state with its table and moments replaced by `rows`."""

    def replaced(path: KeyPath, leaf: jax.Array) -> jax.Array:
        field = _field_of(names_on(path))
        return getattr(rows, field) if field else leaf

    return jax.tree_util.tree_map_with_path(replaced, state)


def _field_of(names: tuple[str, ...]) -> str:
    """Returns which field of `TableRows` an array of a state is; "" for any other array."""
    if names[-2:] != TABLE:
        return ""
    return next((name for name in ("mu", "nu") if name in names), "table")
