"""The train and eval steps: pure jitted functions of (state, batch)."""

import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from rnn_jax.batches import Batch
from rnn_jax.parallel import batch_mesh, part_by_part, sum_over_batch
from rnn_jax.rows import RowAdam

ApplyFn = Callable[..., Any]


class TrainState(NamedTuple):
    """All that training changes."""

    step: jax.Array  # int32[]: steps done, and so the position in the data and in the random stream
    params: Any
    opt_state: Any

    @property
    def parameters(self) -> int:
        """The number of parameters."""
        return sum(leaf.size for leaf in jax.tree.leaves(self.params))


class Metrics(NamedTuple):
    """Sums over the real examples of one or more batches; `confusion[i, j]` counts label i predicted as j."""

    loss: jax.Array  # float32[]
    confusion: jax.Array  # float32[C, C]

    def summary(self) -> dict[str, float]:
        """Returns the mean loss, the accuracy and the number of examples."""
        count = float(np.sum(self.confusion))
        hits = float(np.trace(np.asarray(self.confusion)))
        return {
            "loss": float(self.loss) / max(count, 1.0),
            "accuracy": hits / max(count, 1.0),
            "examples": int(count),
        }


def class_log_probabilities(logits: jax.Array) -> jax.Array:
    """Returns log p [B, C] from logits [B, C], or [B, 2] from the single logit [B, 1] of a binary task."""
    if logits.shape[-1] == 1:
        return jnp.concatenate([jax.nn.log_sigmoid(-logits), jax.nn.log_sigmoid(logits)], axis=-1)
    return jax.nn.log_softmax(logits)


def batch_metrics(logits: jax.Array, batch: Batch) -> Metrics:
    """Returns the cross-entropy and the confusion counts of a batch, weighted by `batch.weights`."""
    log_p_BC = class_log_probabilities(logits)
    losses_B = -jnp.take_along_axis(log_p_BC, batch.labels[:, None], axis=1)[:, 0]
    classes = log_p_BC.shape[-1]
    true_BC = jax.nn.one_hot(batch.labels, classes) * batch.weights[:, None]
    predicted_BC = jax.nn.one_hot(log_p_BC.argmax(axis=-1), classes)
    return Metrics((losses_B * batch.weights).sum(), true_BC.T @ predicted_BC)


def init_state(model: Any, optimizer: optax.GradientTransformation, key: jax.Array) -> TrainState:
    """Returns the state before the first step."""
    params = model.init(key, jnp.zeros((1, 1), jnp.int32), jnp.ones((1,), jnp.int32))["params"]
    return TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params))


def make_train_step(
    apply_fn: ApplyFn,
    optimizer: optax.GradientTransformation,
    key: jax.Array,
    mesh: Mesh | None = None,
    rows: RowAdam | None = None,
) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
    """Returns the jitted `state, metrics = train_step(state, batch)`; it takes over the memory of `state`.

    The loss is the mean over the batch's real examples; dropout at step s draws from `fold_in(key, s)`. The
    batch is split over the devices of `mesh` (None: one device); their number changes only the rounding.
    With `rows` the step reads and changes the embedding's rows of the batch alone: `rows.init(state)` before
    the first step, `rows.settle(state)` before its parameters are used for anything else.
    """
    mesh = mesh or batch_mesh(1)

    def loss_fn(params, step, batch: Batch):
        rngs = {"dropout": jax.random.fold_in(key, step)}
        logits = apply_fn({"params": params}, batch.token_ids, batch.lengths, deterministic=False, rngs=rngs)
        metrics = batch_metrics(logits, batch)
        return metrics.loss, (metrics, batch.weights.sum())

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        total = sum_over_batch(jax.grad(loss_fn, has_aux=True), mesh)
        gradients, (metrics, count) = total(state.params, state.step, batch)
        gradients = jax.tree.map(lambda gradient: gradient / count, gradients)
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        return TrainState(state.step + 1, optax.apply_updates(state.params, updates), opt_state), metrics

    step = rows.step(train_step) if rows else train_step
    return jax.jit(step, donate_argnums=0, out_shardings=NamedSharding(mesh, P()))


def make_eval_step(apply_fn: ApplyFn, mesh: Mesh | None = None) -> Callable[[Any, Batch], Metrics]:
    """Returns the jitted `metrics = eval_step(params, batch)`, one row [devices, ...] of sums a device."""

    def eval_step(params: Any, batch: Batch) -> Metrics:
        return batch_metrics(apply_fn({"params": params}, batch.token_ids, batch.lengths), batch)

    return jax.jit(part_by_part(eval_step, mesh or batch_mesh(1)))


def evaluate(eval_step: Callable[[Any, Batch], Metrics], params: Any, batches: Iterable[Batch]) -> Metrics:
    """Returns the sums over all batches and devices, fetched once at the end."""
    parts = [eval_step(params, batch) for batch in batches]
    return Metrics(*(np.sum([np.asarray(part[field]) for part in parts], axis=(0, 1)) for field in range(2)))


class CompiledByShape:
    """A jitted function of (state, batch) compiled ahead, once for each [B, T] of the batch, and timed.

    `seconds` maps the shapes to the time that tracing and compiling took.
    """

    def __init__(self, function: Any):
        self.function = function
        self.executables: dict[tuple[int, ...], Any] = {}
        self.seconds: dict[tuple[int, ...], float] = {}

    def __call__(self, state: Any, batch: Batch) -> Any:
        return self.executable(state, batch)(state, batch)

    def executable(self, state: Any, batch: Batch) -> Any:
        """Returns the compiled function for the batch's shape."""
        shape = batch.token_ids.shape
        if shape not in self.executables:
            began = time.perf_counter()
            self.executables[shape] = self.function.lower(state, batch).compile()
            self.seconds[shape] = time.perf_counter() - began
        return self.executables[shape]


def train_until(
    stop: int, state: TrainState, train_step: Any, batches: Callable[[int, int], Batch], seed: int, meter: Any
) -> TrainState:
    """Returns the state after step `stop`. `meter.push(step, batch, metrics)` is called after each step."""
    for step in range(int(state.step), stop):
        batch = batches(seed, step)
        state, metrics = train_step(state, batch)
        meter.push(step + 1, batch, metrics)
    meter.flush()
    return state
