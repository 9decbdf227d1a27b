"""The train step and the eval step: pure jitted functions of (state, batch, key), the same for every task.

A task comes in as a loss and a measure (rnn_jax.models.losses); the steps know neither the network nor the
data.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from rnn_jax.data.batches import Batch
from rnn_jax.distributed.broadcast import added, gathered
from rnn_jax.distributed.data_parallel import batch_mesh, measure_parts, rows_here, sum_over_batch
from rnn_jax.distributed.pacing import Jitted, paced
from rnn_jax.layers.cells import Carry
from rnn_jax.layers.dropout import BATCH_AXIS
from rnn_jax.models.classifier import smallest_input
from rnn_jax.models.losses import LossFn, MeasureFn
from rnn_jax.models.metrics import Measured
from rnn_jax.training.parameter_groups import Flags, join, select
from rnn_jax.training.regularisers import PLAIN, Averaged, Regularisers, adversary, moved_average
from rnn_jax.training.row_sparse import TABLE, RowAdam
from rnn_jax.training.state import TrainState
from rnn_jax.trees import Params, Tree

BatchT = TypeVar("BatchT")
EvalStep = Callable[[tuple[Params, Carry], BatchT], tuple[Measured, Carry]]


def init_params(model: nn.Module, key: jax.Array) -> Params:
    """Returns the initial parameters of a model of (token_ids, lengths), a nested dict of arrays.

    >>> import jax
    >>> from rnn_jax import RNN, GRUCell, TextClassifier
    >>> from rnn_jax.training import init_params
    >>> model = TextClassifier(vocab_size=10, embedding_dim=3, num_classes=2, encoder=RNN(GRUCell(4)))
    >>> sorted(init_params(model, jax.random.key(0)))
    ['embedding', 'encoder', 'head']
    """
    return model.init(key, *smallest_input(model))["params"]


def init_state(
    params: Params,
    optimizer: optax.GradientTransformation,
    regularisers: Regularisers = PLAIN,
    carry: Carry = (),
) -> TrainState:
    """Returns the state before the first step.

    Args:
      params: the parameters to start from, a nested dict of arrays.
      optimizer: the one that `make_train_step` gets.
      regularisers: those that `make_train_step` gets; an average of the weights needs a copy of them.
      carry: what the first batch starts from, arrays [B, ...]; () for a classifier.

    >>> import jax.numpy as jnp, optax
    >>> from rnn_jax.training import init_state
    >>> state = init_state({"w": jnp.zeros(3)}, optax.adam(0.1))
    >>> int(state.step), state.carry
    (0, ())
    """
    opt_state: Tree = optimizer.init(params)
    if regularisers.average:
        opt_state = Averaged(opt_state, jax.tree.map(jnp.copy, params))
    return TrainState(jnp.zeros((), jnp.int32), params, opt_state, carry)


def make_train_step(
    loss_fn: LossFn[BatchT],
    optimizer: optax.GradientTransformation,
    mesh: Mesh | None = None,
    rows: RowAdam | None = None,
    trained: Flags | None = None,
    regularisers: Regularisers = PLAIN,
) -> Jitted:
    """Returns the jitted `state, metrics = train_step(state, batch, key)`; it takes over `state`'s memory.

    The step minimises total / count of the loss; step s draws from `fold_in(key, s)`. The batch and the carry
    are split over the devices of `mesh`; the number of devices changes only the rounding. A loop need not
    read the metrics: over several CPU devices every fourth call waits for its results (`distributed.paced`).

    Args:
      loss_fn: `total, (metrics, count, carry) = loss_fn(params, carry, batch, key)`, as `LossFn` describes.
        With `regularisers.adversarial` it is called with `perturbation=`, float32[B, T, E], too.
      optimizer: the one whose state `init_state` made.
      mesh: as `batch_mesh` makes it; None is one device.
      rows: makes the step read and change only those rows of the embedding that the batch has. Call
        `rows.init(state)` before the first step, and `rows.settle(state)` before any other use of the
        parameters. None trains the whole table.
      trained: a tree like the parameters, of booleans. Parameters at False are frozen: they get no gradient
        and keep their bits. None trains all.
      regularisers: the adversary's norm and the average's decay; label smoothing belongs to `loss_fn`.

    >>> import jax, numpy as np, optax
    >>> from rnn_jax import RNN, GRUCell, TextClassifier
    >>> from rnn_jax.training import init_params, init_state, make_train_step
    >>> model = TextClassifier(vocab_size=10, embedding_dim=3, num_classes=2, encoder=RNN(GRUCell(4)))
    >>> from rnn_jax.data import Batches
    >>> from rnn_jax.models import make_classifier_loss
    >>> batches = Batches([np.array([5, 2]), np.array([4])], np.array([1, 0]), buckets=(2,), batch_size=2)
    >>> optimizer, key = optax.adam(0.1), jax.random.key(0)
    >>> train_step = make_train_step(make_classifier_loss(model.apply), optimizer)
    >>> state = init_state(init_params(model, key), optimizer)
    >>> state, metrics = train_step(state, batches(seed=0, step=0), key)
    >>> int(state.step), metrics.summary()["examples"]
    (1, 2)
    """
    mesh = mesh or batch_mesh(1)
    gradient_fn = make_gradient(loss_fn, regularisers.adversarial)

    def train_step(state: TrainState, batch: BatchT, key: jax.Array) -> tuple[TrainState, Measured]:
        chosen = jax.tree.map(lambda _: True, state.params) if trained is None else trained
        moving, frozen = select(state.params, chosen)
        (gradients, metrics, count), carry = sum_over_batch(gradient_fn, mesh)(
            moving, frozen, jax.random.fold_in(key, state.step), (state.carry, batch)
        )
        gradients = jax.tree.map(lambda gradient: gradient / count, gradients)
        state = updated(state, gradients, optimizer, chosen, regularisers.average)
        return state._replace(carry=carry), metrics

    step = rows.step(train_step) if rows else train_step
    whole, split = NamedSharding(mesh, P()), NamedSharding(mesh, P(BATCH_AXIS))
    places = TrainState(whole, whole, whole, split), whole  # type: ignore[arg-type]  # of all their leaves
    return paced(jax.jit(step, donate_argnums=0, out_shardings=places), mesh)


def updated(
    state: TrainState,
    gradients: Params,
    optimizer: optax.GradientTransformation,
    chosen: Flags,
    decay: float,
) -> TrainState:
    """Returns the state after a step. Where `chosen` is False, `gradients` is None and nothing changes."""
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


def make_gradient(
    loss_fn: LossFn[BatchT], radius: float
) -> Callable[..., tuple[tuple[Params, Measured, jax.Array], Carry]]:
    """Returns `(gradient, metrics, count), carry = gradient_fn(moving, frozen, key, (carry, batch))`.

    The gradient is that of the summed loss by the parameters in `moving`. With a `radius` above 0, the
    gradient of the loss at the adversary's change of the embedded words is added (Miyato et al. 2017). The
    metrics are those without the adversary.
    """

    def loss(moving, perturbation, frozen, key, carry, batch):
        changed = {} if perturbation is None else {"perturbation": perturbation}
        return loss_fn(join(moving, frozen), carry, batch, key, **changed)

    def gradient_fn(moving, frozen, key, carry_and_batch):
        carry, batch = carry_and_batch
        rest = (frozen, key, carry, batch)
        if not radius:
            gradient, (metrics, count, carry) = jax.grad(loss, has_aux=True)(moving, None, *rest)
            return (gradient, metrics, count), carry
        table = join(moving, frozen)[TABLE[0]][TABLE[1]]
        none = jnp.zeros((*batch.token_ids.shape, table.shape[1]))
        (clean, slope), (metrics, count, carry) = jax.grad(loss, (0, 1), has_aux=True)(moving, none, *rest)
        change = adversary(slope, radius * jax.lax.stop_gradient(table).std())
        worse, _ = jax.grad(loss, has_aux=True)(moving, change, *rest)
        return (jax.tree.map(jnp.add, clean, worse), metrics, count), carry

    return gradient_fn


def make_eval_step(measure: MeasureFn[BatchT], mesh: Mesh | None = None) -> Jitted:
    """Returns the jitted `metrics, carry = eval_step((params, carry), batch)`, which `evaluate` calls.

    Each metric is an array [devices, ...], the sums over each device's part of the batch.

    Args:
      measure: `metrics, carry = measure(params, carry, batch)`, as `MeasureFn` describes.
      mesh: as `batch_mesh` makes it; None is one device.

    >>> import jax, numpy as np
    >>> from rnn_jax import RNN, GRUCell, TextClassifier
    >>> from rnn_jax.training import init_params, make_eval_step
    >>> model = TextClassifier(vocab_size=10, embedding_dim=3, num_classes=2, encoder=RNN(GRUCell(4)))
    >>> from rnn_jax.data import Batches
    >>> from rnn_jax.models import make_classifier_measure
    >>> batch = Batches([np.array([5, 2])], np.array([1]), buckets=(2,), batch_size=2)(seed=0, step=0)
    >>> eval_step = make_eval_step(make_classifier_measure(model.apply))
    >>> metrics, carry = eval_step((init_params(model, jax.random.key(0)), ()), batch)
    >>> metrics.confusion.shape  # of one device
    (1, 2, 2)
    """

    def measure_part(params, carry_and_batch):
        return measure(params, *carry_and_batch)

    parts = measure_parts(measure_part, mesh or batch_mesh(1))

    def eval_step(params_and_carry, batch):
        params, carry = params_and_carry
        return parts(params, (carry, batch))

    return jax.jit(eval_step)


def evaluate(
    eval_step: EvalStep[BatchT], params: Params, batches: Iterable[BatchT], carry: Carry = ()
) -> Measured:
    """Returns the sums of the metrics over all batches and devices, as float64 numpy arrays.

    Args:
      eval_step: as `make_eval_step` makes it.
      params: the parameters, a nested dict of arrays.
      batches: the batches in order; the carry of each goes on to the next.
      carry: what the first batch starts from, arrays [B, ...]; () for a classifier.

    >>> import jax, numpy as np
    >>> from rnn_jax import RNN, GRUCell, TextClassifier
    >>> from rnn_jax.training import evaluate, init_params, make_eval_step
    >>> model = TextClassifier(vocab_size=10, embedding_dim=3, num_classes=2, encoder=RNN(GRUCell(4)))
    >>> from rnn_jax.data import Batches
    >>> from rnn_jax.models import make_classifier_measure
    >>> batches = Batches([np.array([5, 2])] * 3, np.array([1, 0, 1]), buckets=(2,), batch_size=2)
    >>> eval_step = make_eval_step(make_classifier_measure(model.apply))
    >>> evaluate(eval_step, init_params(model, jax.random.key(0)), batches.in_order()).summary()["examples"]
    3
    """
    parts = []  # fetched once, at the end
    for batch in batches:
        metrics, carry = eval_step((params, carry), batch)
        parts.append(metrics)
    return summed(parts)


def evaluate_rows(
    eval_step: Callable[[tuple[Params, Carry], Batch], tuple[tuple[Measured, jax.Array], Carry]],
    params: Params,
    batches: Iterable[Batch],
    carry: Carry = (),
) -> tuple[Measured, np.ndarray, np.ndarray]:
    """Returns what `evaluate` does, and the outputs [n, ...] and labels [n] of all real examples, in order.

    Args:
      eval_step: as `make_eval_step` makes it of a measure whose metrics are (metrics, outputs [B, ...]).
      params, batches, carry: as in `evaluate`; the batches are of this process's rows, the results of all.
    """
    parts, fields = [], []  # fetched once, at the end
    for batch in batches:
        (metrics, found), carry = eval_step((params, carry), batch)
        parts.append(metrics)
        fields.append((found, batch.labels, batch.weights, batch.rows))
    own = [(own_outputs(found, len(rows)), *rest, rows) for found, *rest, rows in fields]
    of_all = gathered(tuple(np.concatenate(field) for field in zip(*own, strict=True)))
    outputs, labels, weights, numbers = of_all
    order = np.argsort(np.where(weights > 0, numbers, np.iinfo(np.int32).max), kind="stable")
    order = order[: int((weights > 0).sum())]
    return summed(parts), outputs[order], labels[order]


def own_outputs(found: jax.Array, rows: int) -> np.ndarray:
    """Returns the outputs [rows, ...] of this process's rows, from an array [devices, B / devices, ...]."""
    here = rows_here(found)
    return here.reshape(-1, *here.shape[2:])[:rows]  # devices may have padded the batch


def summed(parts: Sequence[Measured]) -> Measured:
    """Returns the sums over all metrics, and over all their devices [devices, ...], in float64."""
    return added(
        jax.tree.map(lambda *leaves: np.sum([rows_here(leaf) for leaf in leaves], (0, 1), float), *parts)
    )
