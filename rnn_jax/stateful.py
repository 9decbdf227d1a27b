"""Train and eval steps of a network whose carry goes on from window to window; knows neither of the two."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import optax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from rnn_jax.cells import Carry
from rnn_jax.dropout import BATCH_AXIS
from rnn_jax.groups import join, select
from rnn_jax.parallel import part_by_part, split_rows, sum_and_rows
from rnn_jax.training import summed, updated
from rnn_jax.windows import Window, Windows


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
