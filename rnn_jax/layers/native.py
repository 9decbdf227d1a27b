"""The native backend: all steps of a layer in one call of C++ on a CPU, and its backward pass in another.

The kernels are in rnn_jax/native. They know three cells, with products of float32 or bfloat16 numbers.
rnn_jax.layers.kernel_calls wraps them as primitives, which mean what the fused backend computes.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero

from rnn_jax.layers import fused
from rnn_jax.layers.fused import Masks, Operands, with_zeros
from rnn_jax.layers.kernel_calls import (
    ABSENT,
    Inputs,
    Plan,
    Steps,
    Tangents,
    bind,
    carry_like,
    forward_p,
    memory_and_hidden,
    or_absent,
    tangent_p,
)
from rnn_jax.layers.kernel_cells import CELLS
from rnn_jax.layers.placement import vary_with, varying_axes
from rnn_jax.layers.recurrence import Carry, FusedStep, Weights
from rnn_jax.native import cores, why_missing
from rnn_jax.trees import Tree


def why_not_native(cell: object, weights: Weights, x: jax.Array, carry: Carry) -> str:
    """Returns why the kernels cannot run a cell with these arrays, or "" where they can."""
    if missing := why_missing(dtype=str(weights.kernel.dtype)):
        return missing
    if jax.default_backend() != "cpu":
        return f"native kernels are for CPUs, and the default device is a {jax.default_backend()}"
    return why_not_kernels("native", cell, weights, x, carry)


def why_not_kernels(backend: str, cell: object, weights: Weights, x: jax.Array, carry: Carry) -> str:
    """Returns why kernels, on whatever device, cannot run a cell with these arrays, or "" where they can."""
    if not any(cell is known for known in CELLS):
        return f"{backend} kernels know SimpleCell, LSTMCell and GRUCell"
    types = [{str(jnp.result_type(leaf)) for leaf in jax.tree.leaves(of)} for of in (carry, (weights, x))]
    if types[0] != {"float32"} or types[1] - {str(weights.kernel.dtype), "float32"}:
        found = ", ".join(sorted(types[0] | types[1]))
        return f"{backend} kernels have a float32 carry and operands of one type, and the layer has {found}"
    return ""


def run_native(
    cell: FusedStep,
    weights: Weights,
    x_TBE: jax.Array,
    carry: Carry,
    valid_TB: jax.Array | None,
    hidden_mask_BH: jax.Array | None,
    reverse: bool,
    remat: bool | None,
    platform: str = "cpu",
) -> tuple[Carry, jax.Array]:
    """Returns the last carry and the hidden states [T, B, H], as `rnn_jax.layers.fused.run_fused` does.

    The kernels are those of a platform, "cpu" or "cuda".
    """
    weights, x_TBE, carry = jax.tree.map(jnp.asarray, (weights, x_TBE, carry))
    steps, batch, _ = x_TBE.shape
    keep = fused.keeps_activations(steps, batch, weights.bias.size) if remat is None else not remat
    kind = next(number for number, known in enumerate(CELLS) if known is cell)
    carry = vary_with(carry, weights, x_TBE, valid_TB, hidden_mask_BH)
    rounded = weights.kernel.dtype == jnp.bfloat16
    plan = Plan(kind, reverse, 2 if keep else 1, threads_for(x_TBE), bfloat16=rounded, platform=platform)
    operands = fused.scaled(cell, weights)
    # The kernels take rows first, as the layer has them: XLA drops what is transposed twice.
    hidden_mask_BH = None if hidden_mask_BH is None else hidden_mask_BH.astype(jnp.float32)
    masks = Masks(None if valid_TB is None else valid_TB.T, hidden_mask_BH)
    x_BTE = x_TBE.astype(jnp.float32).swapaxes(0, 1)
    carry, h_BTH = native_recurrence(plan, operands, x_BTE, carry, masks)
    return carry, h_BTH.swapaxes(0, 1)


def threads_for(x: jax.Array) -> int:
    """Returns how many threads a call may use: all cores, or this device's share inside `shard_map`."""
    devices = int(np.prod([jax.lax.axis_size(name) for name in varying_axes(x)]))
    return max(1, cores() // devices)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def native_recurrence(
    plan: Plan, operands: Operands, x_BTE: jax.Array, carry: Carry, masks: Masks
) -> tuple[Carry, jax.Array]:
    """Returns the last carry and the hidden states [B, T, H]; no gradient reaches the masks."""
    steps = bind(forward_p, inputs_of(operands, x_BTE, carry, masks), plan._replace(keep=0))
    return carry_like(carry, steps[0], steps[1]), steps[2]


@partial(native_recurrence.defjvp, symbolic_zeros=True)
def native_recurrence_jvp(plan: Plan, primals: Tree, tangents: Tree) -> tuple[Tree, Tree]:
    """The rule: a forward pass that keeps what the linear pass over the tangents reads."""
    operands, x_BTE, first, masks = primals
    operands_dot, x_dot, carry_dot, _ = tangents
    learns = any(not isinstance(change, SymbolicZero) for change in jax.tree.leaves(operands_dot))
    plan = plan._replace(moves=not isinstance(x_dot, SymbolicZero), learns=learns)
    inputs = inputs_of(operands, x_BTE, first, masks)
    steps = Steps(*bind(forward_p, inputs, plan))
    operands_dot, carry_dot = with_zeros((operands_dot, carry_dot), (operands, first))
    c_dot, h_dot = memory_and_hidden(carry_dot)
    none = or_absent(None)
    weights_dot = operands_dot if learns else Operands(none, none, none, None)
    changes = Tangents(
        weights_dot.kernel,
        weights_dot.recurrent,
        weights_dot.bias,
        or_absent(weights_dot.extras),
        x_dot if plan.moves else none,
        c_dot,
        h_dot,
    )
    last_c, last_h, h = bind(tangent_p, (*changes, *inputs, steps.h, steps.c, steps.kept), plan)
    return (
        (carry_like(first, steps.last_c, steps.last_h), steps.h),
        (carry_like(first, last_c, last_h), h),
    )


def inputs_of(operands: Operands, x_BTE: jax.Array, carry: Carry, masks: Masks) -> Inputs:
    """Returns the arrays as the kernels take them."""
    valid = jnp.zeros(ABSENT, bool) if masks.valid is None else masks.valid
    return Inputs(
        x_BTE,
        *operands[:3],
        or_absent(operands.extras),
        *memory_and_hidden(carry),
        or_absent(masks.hidden),
        valid,
    )
