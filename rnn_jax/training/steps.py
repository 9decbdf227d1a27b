"""The train and eval steps: pure jitted functions of (state, batch)."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from rnn_jax.data.batches import Batch
from rnn_jax.data.windows import Window, Windows
from rnn_jax.distributed.broadcast import added
from rnn_jax.distributed.data_parallel import (
    batch_mesh,
    part_by_part,
    rows_here,
    split_rows,
    sum_and_rows,
    sum_over_batch,
)
from rnn_jax.layers.cells import Carry
from rnn_jax.layers.dropout import BATCH_AXIS
from rnn_jax.models.losses import Metrics, batch_metrics
from rnn_jax.training.parameter_groups import join, select
from rnn_jax.training.regularisers import PLAIN, Averaged, Regularisers, adversary, moved_average
from rnn_jax.training.row_sparse import TABLE, RowAdam

ApplyFn = Callable[..., Any]


class TrainState(NamedTuple):
    """All that training changes."""

    step: jax.Array  # int32[]: steps done, and so the position in the data and in the random stream
    params: Any
    opt_state: Any


def init_params(model: Any, key: jax.Array) -> Any:
    """Returns the parameters that a model draws."""
    return model.init(key, jnp.zeros((1, 1), jnp.int32), jnp.ones((1,), jnp.int32))["params"]


def init_state(
    params: Any, optimizer: optax.GradientTransformation, regularisers: Regularisers = PLAIN
) -> TrainState:
    """Returns the state before the first step."""
    opt_state = optimizer.init(params)
    if regularisers.average:
        opt_state = Averaged(opt_state, jax.tree.map(jnp.copy, params))
    return TrainState(jnp.zeros((), jnp.int32), params, opt_state)


def make_train_step(
    apply_fn: ApplyFn,
    optimizer: optax.GradientTransformation,
    mesh: Mesh | None = None,
    rows: RowAdam | None = None,
    trained: Any = None,
    regularisers: Regularisers = PLAIN,
) -> Callable[[TrainState, Batch, jax.Array], tuple[TrainState, Metrics]]:
    """Returns the jitted `state, metrics = train_step(state, batch, key)`; it takes over `state`'s memory.

    The loss is the mean over the batch's real examples; dropout at step s draws from `fold_in(key, s)`. The
    batch is split over the devices of `mesh` (None: one device); their number changes only the rounding.

    Args:
      rows: the step reads and changes the embedding's rows of the batch alone: `rows.init(state)` before the
        first step, `rows.settle(state)` before its parameters are used for anything else.
      trained: a tree like the parameters, False where they are frozen: those get no gradient and stay as they
        are, to the bit. None trains all.
    """
    mesh = mesh or batch_mesh(1)
    gradient_fn = make_gradient(apply_fn, regularisers)

    def train_step(state: TrainState, batch: Batch, key: jax.Array) -> tuple[TrainState, Metrics]:
        chosen = jax.tree.map(lambda _: True, state.params) if trained is None else trained
        parts = select(state.params, chosen)
        key = jax.random.fold_in(key, state.step)
        gradients, (metrics, count) = sum_over_batch(gradient_fn, mesh)(*parts, key, batch)
        gradients = jax.tree.map(lambda gradient: gradient / count, gradients)
        return updated(state, gradients, optimizer, chosen, regularisers.average), metrics

    step = rows.step(train_step) if rows else train_step
    return jax.jit(step, donate_argnums=0, out_shardings=NamedSharding(mesh, P()))


def updated(state: Any, gradients: Any, optimizer: Any, chosen: Any, decay: float) -> Any:
    """Returns the state after a step; where `chosen` is False nothing moves, and `gradients` has None.

    The state is a TrainState or another NamedTuple that has its fields.
    """
    unmoved = jax.tree.map(lambda here: None if here else jnp.zeros(()), chosen)
    opt_state = state.opt_state.optimizer if decay else state.opt_state
    updates, opt_state = optimizer.update(join(gradients, unmoved), opt_state, state.params)
    moving, frozen = select(state.params, chosen)
    moving = optax.apply_updates(moving, select(updates, chosen)[0])
    if decay:
        average, rest = select(state.opt_state.weights, chosen)
        average = moved_average(average, moving, decay, state.step + 1)
        opt_state = Averaged(opt_state, join(average, rest))
    return state._replace(step=state.step + 1, params=join(moving, frozen), opt_state=opt_state)


def make_gradient(apply_fn: ApplyFn, regularisers: Regularisers) -> Callable[..., Any]:
    """Returns `gradient, (metrics, count) = gradient_fn(trained, frozen, key, batch)` of the summed loss."""

    def loss_fn(trained, change, frozen, key, batch: Batch):
        params = join(trained, frozen)
        logits = apply_fn(
            {"params": params},
            batch.token_ids,
            batch.lengths,
            deterministic=False,
            rngs={"dropout": key},
            **({} if change is None else {"perturbation": change}),
        )
        metrics = batch_metrics(logits, batch, regularisers.label_smoothing)
        return metrics.loss, (metrics, batch.weights.sum())

    def gradient_fn(trained, frozen, *key_and_batch):
        if not regularisers.adversarial:
            return jax.grad(loss_fn, has_aux=True)(trained, None, frozen, *key_and_batch)
        table = join(trained, frozen)[TABLE[0]][TABLE[1]]
        none = jnp.zeros((*key_and_batch[1].token_ids.shape, table.shape[1]))
        (clean, slope), measured = jax.grad(loss_fn, (0, 1), has_aux=True)(
            trained, none, frozen, *key_and_batch
        )
        change = adversary(slope, regularisers.adversarial * jax.lax.stop_gradient(table).std())
        worse, _ = jax.grad(loss_fn, has_aux=True)(trained, change, frozen, *key_and_batch)
        return jax.tree.map(jnp.add, clean, worse), measured

    return gradient_fn


def make_eval_step(apply_fn: ApplyFn, mesh: Mesh | None = None) -> Callable[[Any, Batch], Metrics]:
    """Returns the jitted `metrics = eval_step(params, batch)`, one row [devices, ...] of sums a device."""

    def eval_step(params: Any, batch: Batch) -> Metrics:
        return batch_metrics(apply_fn({"params": params}, batch.token_ids, batch.lengths), batch)

    return jax.jit(part_by_part(eval_step, mesh or batch_mesh(1)))


def evaluate(eval_step: Callable[[Any, Batch], Metrics], params: Any, batches: Iterable[Batch]) -> Metrics:
    """Returns the sums over all batches and devices, fetched once at the end."""
    return summed([eval_step(params, batch) for batch in batches])


def summed(parts: Sequence[Any]) -> Any:
    """Returns the sums over metrics of [devices, ...] each, and over all devices, in float64."""
    return added(
        jax.tree.map(lambda *leaves: np.sum([rows_here(leaf) for leaf in leaves], (0, 1), float), *parts)
    )


class WindowState(NamedTuple):
    """All that training on windows changes: a TrainState, and the carry after the last window."""

    step: jax.Array  # int32[]: steps done, and so the position in the data and in the random stream
    params: Any
    opt_state: Any
    carry: Carry  # rows are lanes


def make_window_step(
    loss_fn: Callable[..., Any],
    optimizer: optax.GradientTransformation,
    mesh: Mesh,
    trained: Any,
    average: float,
) -> Callable[[WindowState, Window, jax.Array], tuple[WindowState, Any]]:
    """Returns the jitted `state, metrics = train_step(state, window, key)`; it takes over `state`'s memory.

    The loss is the mean over the window's words; step s draws from `fold_in(key, s)`. Lanes are split over
    the devices of `mesh`, their carry stays where they are, and the number of devices changes only rounding.

    Args:
      loss_fn: as `objective.make_loss` gives it.
      trained: a tree like the parameters, False where they are frozen, as in `training.make_train_step`.
      average: decay of the average of the weights, as in `Regularisers`.
    """

    def gradient_fn(moving, frozen, key, carry_and_window):
        def loss(moving):
            return loss_fn(join(moving, frozen), *carry_and_window, key)

        gradients, (metrics, carry) = jax.grad(loss, has_aux=True)(moving)
        return (gradients, metrics), carry

    def train_step(state: WindowState, window: Window, key: jax.Array) -> tuple[WindowState, Any]:
        parts = select(state.params, trained)
        (gradients, metrics), carry = sum_and_rows(gradient_fn, mesh)(
            *parts, jax.random.fold_in(key, state.step), (state.carry, window)
        )
        gradients = jax.tree.map(lambda gradient: gradient / metrics.words, gradients)
        return updated(state, gradients, optimizer, trained, average)._replace(carry=carry), metrics

    whole, rows = NamedSharding(mesh, P()), NamedSharding(mesh, P(BATCH_AXIS))
    places = WindowState(whole, whole, whole, rows), whole  # type: ignore[arg-type]  # of their subtrees
    return jax.jit(train_step, donate_argnums=0, out_shardings=places)


def make_window_measure(measure: Callable[..., Any], mesh: Mesh) -> Callable[..., Any]:
    """Returns the jitted `metrics, carry = eval_step((params, carry), window)`, one row of sums a device.

    Args:
      measure: as `objective.make_measure` gives it. The carry is as `parts_of` lays it out.
    """

    def measure_part(params, carry_and_window):
        carry, window = carry_and_window
        return measure(params, jax.tree.map(lambda leaf: leaf[0], carry), window)

    measure_parts = part_by_part(measure_part, mesh)

    def eval_step(params_and_carry, window):
        params, carry = params_and_carry
        return measure_parts(params, (carry, window))

    return jax.jit(eval_step, out_shardings=NamedSharding(mesh, P(BATCH_AXIS)))


def parts_of(carry: Carry, mesh: Mesh) -> Carry:
    """Returns the carry [B, ...] as [devices, B / devices, ...], each device's lanes on it."""
    return split_rows(jax.tree.map(lambda leaf: leaf.reshape(mesh.size, -1, *leaf.shape[1:]), carry), mesh)


def evaluate_windows(eval_step: Callable[..., Any], carry: Carry, params: Any, windows: Windows) -> Any:
    """Returns the sums over an epoch in order, and over all devices, fetched once at the end."""
    parts = []
    for window in windows.in_order():
        metrics, carry = eval_step((params, carry), window)
        parts.append(metrics)
    return summed(parts)
