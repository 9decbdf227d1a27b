"""The fused backend: recurrences whose gradient costs little, in chunks of a few steps.

A plain scan, differentiated, adds to the weight gradient at every step and stores what it needs for that.
Here a step does only what the next one waits for. The rest is done for a whole chunk at once, while it is in
cache: the input projection before the steps, the jacobians and the weight gradients around them.
All of it is one `jax.custom_jvp` rule: a scan that is linear in the tangents, which JAX transposes into the
backward pass. So forward mode, vmap and higher orders work as with any function.
Arrays are time-major, [N, K, B, ...]: N chunks of K steps of B rows.
"""

from collections.abc import Callable
from functools import cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.custom_derivatives import SymbolicZero

from rnn_jax.layers.masking import keep_valid
from rnn_jax.layers.matmul import accumulated_dot, dot_with_tangent, tangent_dot, wide
from rnn_jax.layers.placement import vary_with
from rnn_jax.layers.recurrence import Carry, FusedStep, Weights, along, hidden_state
from rnn_jax.trees import Tree


class Operands(NamedTuple):
    """The weights, scaled and wide: kernel [E, G*H], recurrent [H, G*H], bias [G*H], extras of the cell."""

    kernel: jax.Array
    recurrent: jax.Array
    bias: jax.Array
    extras: Tree


class Masks(NamedTuple):
    """valid bool[N, K, B]: steps that are not padding; hidden [B, H]: dropout on h in h U. None: no mask."""

    valid: jax.Array | None
    hidden: jax.Array | None


class FusedPlan(NamedTuple):
    """What no array decides.

    Attributes:
      cell: the step.
      reverse: run from the last step to the first.
      keep_activations: keep them for the backward pass, instead of computing them again there.
      unroll: steps compiled in a row.
      dtype: of the products' operands.
    """

    cell: FusedStep
    reverse: bool
    keep_activations: bool
    unroll: int
    dtype: jnp.dtype


class Chunk(NamedTuple):
    """What the linear pass reads of K steps; all chunks together have an axis N in front.

    Attributes:
      x: inputs [K, B, E].
      x_dot: their change, likewise. None: they are constant.
      before: the carry that the first of these steps reads, arrays [B, ...].
      carries: the carry after each step, arrays [K, B, ...].
      activations: of each step, arrays [K, B, ...]. None: they were not kept.
      valid: bool[K, B]. None: no step is padding.
    """

    x: jax.Array
    x_dot: jax.Array | None
    before: Carry
    carries: Carry
    activations: Tree
    valid: jax.Array | None


def run_fused(
    cell: FusedStep,
    weights: Weights,
    x_TBE: jax.Array,
    carry: Carry,
    valid_TB: jax.Array | None,
    hidden_mask_BH: jax.Array | None,
    reverse: bool,
    remat: bool | None,
) -> tuple[Carry, jax.Array]:
    """Returns the last carry and the hidden states [T, B, H] in its type. Padded steps pass the carry on.

    With `remat` the backward pass computes the activations again, and a third is stored; None chooses by
    shape. A T of 0, or one that is no multiple of the chunk's length, is padded to one.
    """
    steps, batch, size = x_TBE.shape
    if scales_products(steps, batch, size + weights.recurrent.shape[0]):
        cell = with_scaled_products(cell._replace(scales=tuple(cell.scales)))  # a list has no hash
    chunk = chunk_length(steps)
    empty = isinstance(steps, int) and not steps
    chunks = 1 if empty else -(-steps // chunk)
    added = chunks * chunk - steps
    if added:
        valid_TB = jnp.ones((steps, batch), bool) if valid_TB is None else valid_TB
        x_TBE = jnp.pad(x_TBE, [(0, added), (0, 0), (0, 0)])
        valid_TB = jnp.pad(valid_TB, [(0, added), (0, 0)])
    keep = keeps_activations(steps, batch, weights.bias.size) if remat is None else not remat
    unroll = unrolled(chunk, jax.default_backend())
    valid_NKB = None if valid_TB is None else valid_TB.reshape(chunks, chunk, batch)
    plan = FusedPlan(cell, reverse, keep, unroll, weights.kernel.dtype)
    carry = vary_with(carry, weights, x_TBE, valid_TB, hidden_mask_BH)
    x_NKBE, masks = x_TBE.reshape(chunks, chunk, batch, size), Masks(valid_NKB, hidden_mask_BH)
    carry, h_NKBH = chunked_recurrence(plan, scaled(cell, weights), x_NKBE, carry, masks)
    return carry, h_NKBH.reshape(chunks * chunk, batch, h_NKBH.shape[-1])[:steps]


def scaled(cell: FusedStep, weights: Weights) -> Operands:
    """Returns the weights with each gate's columns scaled, in float32 or wider so that gradients add up."""
    dtype, units = wide(weights.kernel.dtype), weights.recurrent.shape[0]
    kernel, recurrent, bias = (array.astype(dtype) for array in weights[:3])
    if cell.scales:
        scale = jnp.repeat(jnp.array(cell.scales, dtype), units)
        kernel, recurrent, bias = (array * along(array, scale) for array in (kernel, recurrent, bias))
    extras = jax.tree.map(lambda array: array.astype(dtype), weights.extras)
    return Operands(kernel, recurrent, bias, extras)


def scales_products(steps: int, batch: int, width: int) -> bool:
    """Returns whether to scale the two products [T, B, G*H] rather than W and U, [width, G*H] together."""
    return isinstance(steps, int) and isinstance(batch, int) and 2 * steps * batch < width


@cache
def with_scaled_products(cell: FusedStep) -> FusedStep:
    """Returns a step that scales the products itself. One step of one row takes up to a third less time.

    The same bits come out where the scales are powers of two, as ours are.
    """
    if not cell.scales:
        return cell

    def scale(product: jax.Array) -> jax.Array:
        units = product.shape[-1] // len(cell.scales)
        return product * along(product, jnp.asarray(np.repeat(cell.scales, units), product.dtype))

    return FusedStep(
        lambda carry, inputs, q, extras: cell.activations(carry, inputs, scale(q), extras),
        cell.next_carry,
        cell.jacobian,
        lambda jacobian, z, q, extras: cell.input_tangent(jacobian, scale(z), scale(q), extras),
        lambda jacobian, carry, known, q: cell.carry_tangent(jacobian, carry, known, scale(q)),
        read_inputs=lambda z: cell.read_inputs(scale(z)),
    )


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def chunked_recurrence(
    plan: FusedPlan, operands: Operands, x_NKBE: jax.Array, carry: Carry, masks: Masks
) -> tuple[Carry, jax.Array]:
    """Returns the last carry and the hidden states [N, K, B, H]; no gradient reaches the masks."""

    def keep(carry: Carry, activations: Tree) -> jax.Array:
        return hidden_state(carry)

    return steps_forward(plan, operands, x_NKBE, carry, masks, keep)


@partial(chunked_recurrence.defjvp, symbolic_zeros=True)
def chunked_recurrence_jvp(plan: FusedPlan, primals: Tree, tangents: Tree) -> tuple[Tree, Tree]:
    """The rule: a forward pass that keeps the carries, then the linear pass over the tangents."""
    operands, x_NKBE, first, masks = primals
    operands_dot, x_dot, carry_dot, _ = tangents
    x_dot = None if isinstance(x_dot, SymbolicZero) else x_dot
    operands_dot, carry_dot = with_zeros((operands_dot, carry_dot), (operands, first))

    def keep(carry: Carry, activations: Tree) -> tuple[Carry, Tree]:
        return carry, activations if plan.keep_activations else None

    carry, (carries, activations) = steps_forward(plan, operands, x_NKBE, first, masks, keep)
    last = 0 if plan.reverse else -1
    ends = jax.tree.map(lambda state: state[:, last], carries)
    before = jax.tree.map(partial(shift, reverse=plan.reverse), first, ends)
    chunks = Chunk(x_NKBE, x_dot, before, carries, activations, masks.valid)
    changes = steps_tangent(plan, operands, operands_dot, carry_dot, masks.hidden, chunks)
    return (carry, hidden_state(carries)), changes


def with_zeros(tangents: Tree, primals: Tree) -> Tree:
    """Returns tangents in which arrays of zeros stand for what does not change."""
    return jax.tree.map(
        lambda leaf, primal: jnp.zeros_like(primal) if isinstance(leaf, SymbolicZero) else leaf,
        tangents,
        primals,
        is_leaf=lambda leaf: isinstance(leaf, SymbolicZero),
    )


def steps_forward(
    plan: FusedPlan,
    operands: Operands,
    x_NKBE: jax.Array,
    carry: Carry,
    masks: Masks,
    keep: Callable[[Carry, Tree], Tree],
) -> tuple[Carry, Tree]:
    """Returns the last carry and `keep(carry, activations)` of every step."""
    cell, extras = plan.cell, operands.extras
    kernel, recurrent = operands.kernel.astype(plan.dtype), operands.recurrent.astype(plan.dtype)

    def run_chunk(carry: Carry, x_and_valid: Tree) -> tuple[Carry, Tree]:
        x_KBE, valid_KB = x_and_valid
        inputs_of_chunk = cell.read_inputs(add_bias(accumulated_dot(x_KBE, kernel), operands.bias))

        def step(carry: Carry, inputs_and_valid: Tree) -> tuple[Carry, Tree]:
            inputs, valid_B = inputs_and_valid
            q_BG = accumulated_dot(masked_hidden(carry, masks.hidden), recurrent)
            activations = cell.activations(carry, inputs, q_BG, extras)
            new = cell.next_carry(carry, activations, extras)
            new = jax.tree.map(partial(keep_valid, valid_B), new, carry)
            return new, keep(new, activations)

        return lax.scan(step, carry, (inputs_of_chunk, valid_KB), reverse=plan.reverse, unroll=plan.unroll)

    return lax.scan(run_chunk, carry, (x_NKBE, masks.valid), reverse=plan.reverse)


def steps_tangent(
    plan: FusedPlan,
    operands: Operands,
    operands_dot: Operands,
    carry_dot: Carry,
    hidden_mask_BH: jax.Array | None,
    chunks: Chunk,
) -> tuple[Carry, jax.Array]:
    """Returns the changes of the last carry and of the hidden states. Linear in all that changes."""
    recurrent_T = operands.recurrent.astype(plan.dtype).T

    def run_chunk(carry_dot: Carry, chunk: Chunk) -> tuple[Carry, jax.Array]:
        jacobians, input_tangents = linearise_chunk(plan, operands, operands_dot, hidden_mask_BH, chunk)
        holds = None if chunk.valid is None else 1 - chunk.valid[:, :, None].astype(wide(plan.dtype))

        def step(carry_dot: Carry, of_step: Tree) -> tuple[Carry, jax.Array]:
            jacobian, input_tangent, hold = of_step
            q_dot = tangent_dot(masked_hidden(carry_dot, hidden_mask_BH), recurrent_T)
            new = plan.cell.carry_tangent(jacobian, carry_dot, input_tangent, q_dot)
            if hold is not None:  # a padded step, whose jacobian is zero, passes the carry on
                new = jax.tree.map(lambda new, old: new + hold * old, new, carry_dot)
            new = jax.tree.map(partial(keep_valid, None), new, carry_dot)
            return new, hidden_state(new)

        of_steps = jacobians, input_tangents, holds
        return lax.scan(step, carry_dot, of_steps, reverse=plan.reverse, unroll=plan.unroll)

    # The backward pass computes the jacobians, a chunk at a time: stored, they would be most of the memory.
    run_chunk = jax.checkpoint(run_chunk, prevent_cse=False, policy=jax.checkpoint_policies.nothing_saveable)
    return lax.scan(run_chunk, carry_dot, chunks, reverse=plan.reverse)


def linearise_chunk(
    plan: FusedPlan,
    operands: Operands,
    operands_dot: Operands,
    hidden_mask_BH: jax.Array | None,
    chunk: Chunk,
) -> tuple[Tree, Tree]:
    """Returns the jacobians of a chunk's steps, zero where padded, and the changes that no step waits for."""
    kernel, recurrent = operands.kernel.astype(plan.dtype), operands.recurrent.astype(plan.dtype)
    previous = jax.tree.map(partial(shift, reverse=plan.reverse), chunk.before, chunk.carries)
    h_KBH = masked_hidden(previous, hidden_mask_BH)
    activations = chunk.activations
    if activations is None:
        inputs = plan.cell.read_inputs(add_bias(accumulated_dot(chunk.x, kernel), operands.bias))
        q_KBG = accumulated_dot(h_KBH, recurrent)
        activations = plan.cell.activations(previous, inputs, q_KBG, operands.extras)
    jacobian = plan.cell.jacobian(previous, chunk.carries, activations, operands.extras)
    if chunk.valid is not None:
        valid_KB1 = chunk.valid[:, :, None]
        jacobian = jax.tree.map(lambda slope: jnp.where(valid_KB1, slope, 0), jacobian)
    z_dot = add_bias(dot_with_tangent(chunk.x, operands_dot.kernel, plan.dtype), operands_dot.bias)
    z_dot = z_dot if chunk.x_dot is None else z_dot + tangent_dot(chunk.x_dot, kernel.T)
    q_dot = dot_with_tangent(h_KBH, operands_dot.recurrent, plan.dtype)
    return jacobian, plan.cell.input_tangent(jacobian, z_dot, q_dot, operands_dot.extras)


def masked_hidden(carry: Carry, mask_BH: jax.Array | None) -> jax.Array:
    """Returns the h of a carry as the recurrent product reads it."""
    h = hidden_state(carry)
    return h if mask_BH is None else h * along(h, mask_BH)


def add_bias(z: jax.Array, bias_G: jax.Array) -> jax.Array:
    """Returns z [..., G] plus a bias."""
    return z + along(z, bias_G)


def shift(before: jax.Array, states: jax.Array, reverse: bool) -> jax.Array:
    """Returns the state before each step: `before` the first of them, then all states but the last."""
    return jnp.concatenate([states[1:], before[None]] if reverse else [before[None], states[:-1]])


def chunk_length(steps: int) -> int:
    """Returns the steps in a chunk of the fused backend: about 20, and such that little padding is added.

    From 16 to 25 steps a training step takes the same time within the noise, at every shape measured; 4 and
    100 are slower, the one for its many small products, the other because a chunk leaves the cache. A
    symbol of `jax.export`, which is no int, gets 20.

    >>> [chunk_length(steps) for steps in (7, 256, 500, 401)]
    [7, 16, 20, 17]
    """
    if not isinstance(steps, int):
        return 20
    if steps <= 25:
        return max(steps, 1)
    return min(range(16, 26), key=lambda chunk: (-steps % chunk, abs(chunk - 20)))


def unrolled(chunk: int, platform: str) -> int:
    """Returns how many steps of a chunk the fused backend compiles in a row: all on a GPU, or of up to 4.

    A loop on a GPU comes back to the host between its steps: without it a training step takes half to four
    fifths of the time on an H200. On a CPU it takes up to four times as long, and compiles longer.
    """
    return chunk if platform == "gpu" or chunk <= 4 else 1


def keeps_activations(steps: int, batch: int, gates: int) -> bool:
    """Returns whether the fused backend keeps float32 activations [T, B, G*H], up to a GiB a layer.

    Computing them again costs 4 to 38 % of a training step and saves up to three fifths of its memory. It is
    what sizes that are symbols of `jax.export` get, since nothing bounds them.
    """
    known = isinstance(steps, int) and isinstance(batch, int)
    return known and steps * batch * gates * 4 <= 2**30
