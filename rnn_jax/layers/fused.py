"""The fused backend: recurrences whose gradient costs little, in chunks of a few steps.

A plain scan, differentiated, adds to the weight gradient at every step and stores what it needs for that.
Here a step does only what the next one waits for. The rest is done for a whole chunk at once, while it is in
cache: the input projection before the steps, the slopes of the gates and the weight gradients around them.
All of it is one `jax.custom_jvp` rule: a scan that is linear in the tangents, which JAX transposes into the
backward pass. So forward mode, vmap and higher orders work as with any function.
Arrays are time-major, [N, K, B, ...]: N chunks of K steps of B rows.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_derivatives import SymbolicZero

from rnn_jax.layers.masking import keep_valid
from rnn_jax.layers.matmul import accumulated_dot, dot_with_tangent, tangent_dot, wide
from rnn_jax.layers.recurrence import Gating, Weights


class Operands(NamedTuple):
    """The weights: kernel [E, G*H], recurrent [H, G*H] and the biases of their two products, [G*H]."""

    kernel: jax.Array
    recurrent: jax.Array
    bias: jax.Array
    recurrent_bias: jax.Array | None


class Masks(NamedTuple):
    """valid bool[N, K, B]: steps that are not padding; hidden [B, H]: dropout on h in h U. None: no mask."""

    valid: jax.Array | None
    hidden: jax.Array | None


class Plan(NamedTuple):
    """What no array decides. unroll: steps compiled in a row; dtype: of products' operands."""

    gating: Gating
    reverse: bool
    keep_gates: bool
    unroll: int
    dtype: Any


def run_fused(
    gating: Gating,
    weights: Weights,
    x_TBE: jax.Array,
    carry: Any,
    valid_TB: jax.Array | None,
    hidden_mask_BH: jax.Array | None,
    *,
    reverse: bool,
    chunk: int,
    keep_gates: bool,
    unroll: int,
) -> tuple[Any, jax.Array]:
    """Returns the last carry and the hidden states [T, B, H] in its type.

    Padded steps pass the carry on; a T that is no multiple of `chunk` is padded to one. Without `keep_gates`
    the backward pass computes them again, and a third is stored. `unroll` steps are compiled in a row.
    """
    steps, batch, size = x_TBE.shape
    chunks = -(-steps // chunk)
    added = chunks * chunk - steps
    if added:
        valid_TB = jnp.ones((steps, batch), bool) if valid_TB is None else valid_TB
        x_TBE = jnp.pad(x_TBE, [(0, added), (0, 0), (0, 0)])
        valid_TB = jnp.pad(valid_TB, [(0, added), (0, 0)])
    valid_NKB = None if valid_TB is None else valid_TB.reshape(chunks, chunk, batch)
    plan = Plan(gating, reverse, keep_gates, unroll, weights.kernel.dtype)
    x_NKBE, masks = x_TBE.reshape(chunks, chunk, batch, size), Masks(valid_NKB, hidden_mask_BH)
    carry, h_NKBH = recurrence(plan, scaled(gating, weights), x_NKBE, carry, masks)
    return carry, h_NKBH.reshape(chunks * chunk, batch, -1)[:steps]


def scaled(gating: Gating, weights: Weights) -> Operands:
    """Returns the weights with each gate's columns scaled, in float32 or wider so that gradients add up."""
    dtype, units = wide(weights.kernel.dtype), weights.recurrent.shape[0]
    scale = jnp.repeat(jnp.array(gating.scales, dtype), units)
    recurrent_bias = None
    if weights.candidate_bias is not None:  # the GRU's, on its last gate alone, whose scale is 1
        recurrent_bias = jnp.pad(weights.candidate_bias.astype(dtype), (weights.bias.size - units, 0))
    kernel, recurrent, bias = (array.astype(dtype) * scale for array in weights[:3])
    return Operands(kernel, recurrent, bias, recurrent_bias)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def recurrence(plan: Plan, operands: Operands, x_NKBE: jax.Array, carry: Any, masks: Masks):
    """Returns the last carry and the hidden states [N, K, B, H]; no gradient reaches the masks."""
    return steps_forward(plan, operands, x_NKBE, carry, masks, lambda carry, gates: hidden(carry))


@partial(recurrence.defjvp, symbolic_zeros=True)
def recurrence_jvp(plan: Plan, primals, tangents):
    """The rule: a forward pass that keeps the states, then the linear pass over the tangents."""
    operands, x_NKBE, first, masks = primals
    operands_dot, x_dot, carry_dot, _ = tangents
    x_dot = None if isinstance(x_dot, SymbolicZero) else x_dot
    operands_dot, carry_dot = jax.tree.map(
        lambda leaf: jnp.zeros(leaf.shape, leaf.dtype) if isinstance(leaf, SymbolicZero) else leaf,
        (operands_dot, carry_dot),
        is_leaf=lambda leaf: isinstance(leaf, SymbolicZero),
    )

    def keep(carry, gates):
        return carry, gates if plan.keep_gates else None

    carry, kept = steps_forward(plan, operands, x_NKBE, first, masks, keep)
    tangents = operands_dot, x_dot, carry_dot
    return (carry, hidden(kept[0])), steps_tangent(plan, operands, x_NKBE, first, masks, kept, tangents)


def steps_forward(plan: Plan, operands: Operands, x_NKBE, carry, masks: Masks, keep):
    """Returns the last carry and `keep(carry, gates)` of every step."""
    kernel, recurrent = operands.kernel.astype(plan.dtype), operands.recurrent.astype(plan.dtype)

    def run_chunk(carry, x_and_valid):
        x_KBE, valid_KB = x_and_valid
        inputs = plan.gating.inputs(accumulated_dot(x_KBE, kernel) + operands.bias)

        def step(carry, inputs_and_valid):
            inputs, valid_B = inputs_and_valid
            q_BG = add(accumulated_dot(hidden(carry, masks.hidden), recurrent), operands.recurrent_bias)
            gates = plan.gating.gates(inputs, q_BG)
            new = jax.tree.map(partial(keep_valid, valid_B), plan.gating.advance(carry, gates), carry)
            return new, keep(new, gates)

        return lax.scan(step, carry, (inputs, valid_KB), reverse=plan.reverse, unroll=plan.unroll)

    return lax.scan(run_chunk, carry, (x_NKBE, masks.valid), reverse=plan.reverse)


def steps_tangent(plan: Plan, operands: Operands, x_NKBE, first, masks: Masks, kept, tangents):
    """Returns the tangents of the last carry and of the hidden states. Linear in `tangents`."""
    operands_dot, x_dot, carry_dot = tangents
    recurrent_T = operands.recurrent.astype(plan.dtype).T

    def run_chunk(carry_dot, inputs):
        *_, valid_KB = inputs
        slopes, pushes = linearise_chunk(plan, operands, operands_dot, masks.hidden, *inputs)
        hold = None if valid_KB is None else 1 - valid_KB[:, :, None].astype(wide(plan.dtype))

        def step(carry_dot, inputs):
            slopes, push, hold = inputs
            q_dot = tangent_dot(hidden(carry_dot, masks.hidden), recurrent_T)
            new = plan.gating.tangent(slopes, carry_dot, push, q_dot)
            if hold is not None:  # a padded step, whose slopes are zero, passes the carry on
                new = jax.tree.map(lambda new, old: new + hold * old, new, carry_dot)
            new = jax.tree.map(partial(keep_valid, None), new, carry_dot)
            return new, hidden(new)

        return lax.scan(step, carry_dot, (slopes, pushes, hold), reverse=plan.reverse, unroll=plan.unroll)

    # Slopes are computed in the backward pass, a chunk at a time: stored, they would be most of the memory.
    run_chunk = jax.checkpoint(run_chunk, prevent_cse=False, policy=jax.checkpoint_policies.nothing_saveable)
    last = 0 if plan.reverse else -1
    ends = jax.tree.map(lambda state: state[:, last], kept[0])
    befores = jax.tree.map(partial(shift, reverse=plan.reverse), first, ends)
    return lax.scan(run_chunk, carry_dot, (x_NKBE, x_dot, befores, kept, masks.valid), reverse=plan.reverse)


def linearise_chunk(plan: Plan, operands, operands_dot, hidden_mask, x_KBE, x_dot, before, kept, valid_KB):
    """Returns the slopes of a chunk's steps, zero where padded, and the pushes of all but their carries."""
    states, gates = kept
    kernel, recurrent = operands.kernel.astype(plan.dtype), operands.recurrent.astype(plan.dtype)
    previous = jax.tree.map(partial(shift, reverse=plan.reverse), before, states)
    h_KBH = hidden(previous, hidden_mask)
    if gates is None:
        inputs = plan.gating.inputs(accumulated_dot(x_KBE, kernel) + operands.bias)
        gates = plan.gating.gates(inputs, add(accumulated_dot(h_KBH, recurrent), operands.recurrent_bias))
    slopes = plan.gating.slopes(previous, states, gates)
    if valid_KB is not None:
        slopes = jax.tree.map(lambda slope: jnp.where(valid_KB[:, :, None], slope, 0), slopes)
    z_dot = dot_with_tangent(x_KBE, operands_dot.kernel, plan.dtype) + operands_dot.bias
    z_dot = z_dot if x_dot is None else z_dot + tangent_dot(x_dot, kernel.T)
    q_dot = add(dot_with_tangent(h_KBH, operands_dot.recurrent, plan.dtype), operands_dot.recurrent_bias)
    return slopes, plan.gating.push(slopes, z_dot, q_dot)


def hidden(carry: Any, mask_BH: jax.Array | None = None) -> jax.Array:
    """Returns the h of a carry, as it is or as the recurrent product reads it."""
    h = carry[-1] if isinstance(carry, tuple) else carry
    return h if mask_BH is None else h * mask_BH


def add(product: jax.Array, bias: jax.Array | None) -> jax.Array:
    """Returns product + bias, where there is one."""
    return product if bias is None else product + bias


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
    """Returns how many steps of a chunk the fused backend compiles in a row: all on a GPU, else one.

    A loop on a GPU comes back to the host between its steps: without it a training step takes half to four
    fifths of the time on an H200. On a CPU it takes up to four times as long, and compiles longer.
    """
    return chunk if platform == "gpu" else 1


def keeps_gates(steps: int, batch: int, gates: int) -> bool:
    """Returns whether the fused backend keeps float32 gates [T, B, G*H]: up to a GiB for one layer.

    Computing them again costs 4 to 38 % of a training step and saves up to three fifths of its memory. It is
    what sizes that are symbols of `jax.export` get, since nothing bounds them.
    """
    known = isinstance(steps, int) and isinstance(batch, int)
    return known and steps * batch * gates * 4 <= 2**30
