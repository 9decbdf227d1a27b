"""The persistent backend: all steps of a narrow layer in one kernel on an NVIDIA GPU. It has run on none yet.

XLA starts kernels for every step of a scan, and where a layer is narrow, starting them takes longer than
running them. Here a block of threads owns 8 rows of the batch for all steps, and the weights stay in its
registers. What no step waits for is left to XLA, as large products: x W + b before, and the gradients of W,
U, b and x after. The kernels are in rnn_jax/native/cuda. They stand for the primitives of
rnn_jax.layers.kernel_calls.

Precision: the operands of h U, and of its transpose, are fp16 with float32 sums. fp16 has the mantissa of
TF32, 11 bits, which is what XLA takes for float32 products on these GPUs. It has fewer exponents, so the
derivatives of each row get a scale, a power of 2, before they are rounded. All else is float32.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rnn_jax.layers import fused
from rnn_jax.layers.kernel_calls import (
    ABSENT,
    Inputs,
    Plan,
    backward_meaning,
    backward_p,
    backward_types,
    carry_like,
    first_carry,
    forward_meaning,
    forward_p,
    forward_types,
    is_absent,
    memory_and_hidden,
    operands_in,
    register_kernel,
    structs,
    typed,
)
from rnn_jax.layers.kernel_cells import CELLS, KERNEL_CELLS
from rnn_jax.layers.matmul import accumulated_dot
from rnn_jax.layers.native import run_native, why_not_kernels
from rnn_jax.layers.recurrence import GRU, SIMPLE, Carry, Weights
from rnn_jax.native import why_missing

WIDTHS = (16, 32, 48, 64, 96, 128)  # units of the kernels; a layer takes the next one
MOST_ENTRIES = 2**31  # of an array: the kernels count with 32 bits
OLDEST_GPU = 8.0  # compute capability
# Values of jax_default_matmul_precision that let a product round its operands as the kernels do.
ROUNDED = (None, "default", "fastest", "high", "bfloat16", "tensorfloat32", "TF32_TF32_F32")


def why_not_persistent(cell: object, weights: Weights, x: jax.Array, carry: Carry) -> str:
    """Returns why the kernels cannot run a cell with these arrays, or "" where they can."""
    if missing := why_missing("cuda"):
        return missing
    if reason := why_not_this_gpu(jax.devices()[0]):
        return reason
    if reason := why_not_kernels("persistent", cell, weights, x, carry):
        return reason
    if weights.kernel.dtype != jnp.float32:
        return f"persistent kernels compute in float32, and the layer has {weights.kernel.dtype}"
    units = weights.recurrent.shape[0]
    if units > WIDTHS[-1]:
        return f"persistent kernels have at most {WIDTHS[-1]} units, and the layer has {units}"
    steps, batch = x.shape[:2]
    if not all(isinstance(size, int) for size in (steps, batch)) or steps * batch * 4 * units > MOST_ENTRIES:
        return (
            f"persistent kernels take at most {MOST_ENTRIES // (4 * units)} steps of rows, and x is {x.shape}"
        )
    return ""


def why_not_this_gpu(device: jax.Device) -> str:
    """Returns why the kernels cannot run on a device, or "" where they can."""
    if device.platform != "gpu":
        return f"persistent kernels are for NVIDIA GPUs, and the default device is a {device.platform}"
    capability = str(getattr(device, "compute_capability", ""))
    known = capability.replace(".", "", 1).isdigit()  # that of AMD's GPUs is a name
    if not known or float(capability) < OLDEST_GPU:
        return (
            f"persistent kernels need an NVIDIA GPU of compute capability {OLDEST_GPU}, "
            f"and {device.device_kind} has {capability or 'none'}"
        )
    return ""


def run_persistent(*layer: Any) -> tuple[Carry, jax.Array]:
    """Returns the last carry and the hidden states [T, B, H], from what `fused.run_fused` takes.

    Where `jax.default_matmul_precision` asks for products in float32, the fused backend runs the layer.
    """
    precision = jax.config.jax_default_matmul_precision  # type: ignore[attr-defined]
    run = partial(run_native, platform="cuda") if precision in ROUNDED else fused.run_fused
    return run(*layer)


def forward_call(*arrays: jax.Array, plan: Plan) -> Sequence[jax.Array]:
    """Calls the forward kernel; it returns the fields of `Steps`."""
    inputs = Inputs(*arrays)
    types = structs(forward_types(*map(jax.typeof, arrays), plan=plan))
    z = fused.add_bias(accumulated_dot(inputs.x, inputs.kernel), inputs.bias)
    by_gate = gates_first(plan, inputs.recurrent).swapaxes(1, 2)  # [G, H of the gate, H of h]
    call = jax.ffi.ffi_call("rnn_jax_persistent_forward", types)
    return call(z, for_kernel(by_gate), *inputs[4:], **attributes(plan))


def backward_call(*arrays: jax.Array, plan: Plan) -> Sequence[jax.Array]:
    """Calls the backward kernel, and multiplies what it returns into the fields of `Tangents`."""
    count = len(Inputs._fields)
    inputs, (h, c, kept), cotangents = Inputs(*arrays[:count]), arrays[count:-3], arrays[-3:]
    batch, steps, units = h.shape
    first = first_carry(plan, inputs)
    states = carry_like(first, c, h)
    before = jax.tree.map(partial(shift_rows, reverse=plan.reverse), first, states)
    read = memory_and_hidden(before)[1]
    if not is_absent(inputs.hidden_mask):
        read = read * inputs.hidden_mask[:, None]
    if KERNEL_CELLS[plan.kind].kept and is_absent(kept):
        kept = activations_again(plan, inputs, before, read)
    like, of = backward_types(*map(jax.typeof, arrays), plan=plan), partial(typed, jax.typeof(h))
    slopes_size = (1 if CELLS[plan.kind] is SIMPLE else 4) * units
    call = jax.ffi.ffi_call(
        "rnn_jax_persistent_backward", structs([of(batch, steps, slopes_size), like[5], like[6]])
    )
    recurrent = for_kernel(gates_first(plan, inputs.recurrent))
    slopes, first_c_ct, first_h_ct = call(recurrent, *inputs[5:], h, c, kept, *cotangents, **attributes(plan))
    z_ct = q_ct = slopes
    extra_ct = jnp.zeros(ABSENT, jnp.float32)
    if CELLS[plan.kind] is GRU:
        z_ct = slopes[..., : 3 * units]
        q_ct = jnp.concatenate([slopes[..., : 2 * units], slopes[..., 3 * units :]], -1)
        extra_ct = slopes[..., 3 * units :].sum((0, 1))
    none = jnp.zeros(ABSENT, jnp.float32)
    weights_ct = over_steps(inputs.x, z_ct), over_steps(read, q_ct), z_ct.sum((0, 1)), extra_ct
    return (
        *(weights_ct if plan.learns else (none,) * 4),
        z_ct @ inputs.kernel.T if plan.moves else none,
        first_c_ct,
        first_h_ct,
    )


def attributes(plan: Plan) -> dict[str, np.generic]:
    """Returns the attributes of a call."""
    return {"kind": np.int64(plan.kind), "reverse": np.bool_(plan.reverse)}


def gates_first(plan: Plan, recurrent: jax.Array) -> jax.Array:
    """Returns U [H, G*H] as [G, H, H]."""
    units = recurrent.shape[0]
    return recurrent.reshape(units, -1, units).swapaxes(0, 1)


def for_kernel(by_gate: jax.Array) -> jax.Array:
    """Returns [G, H, H] in fp16, with zeros up to the width of a kernel."""
    units = by_gate.shape[1]
    added = next(width for width in WIDTHS if width >= units) - units
    most = float(jnp.finfo(jnp.float16).max)
    padded = jnp.pad(by_gate, [(0, 0), (0, added), (0, added)])
    return jnp.clip(padded, -most, most).astype(jnp.float16)


def shift_rows(first: jax.Array, states: jax.Array, reverse: bool) -> jax.Array:
    """Returns the state before each step, [B, T, H], from the first and those after each."""
    time_major = fused.shift(first, states.swapaxes(0, 1), reverse)
    return time_major[: states.shape[1]].swapaxes(0, 1)  # of no steps there is none before


def activations_again(plan: Plan, inputs: Inputs, before: Carry, read: jax.Array) -> jax.Array:
    """Returns what the forward kernel did not keep, as one product over all steps."""
    operands, step = operands_in(inputs), CELLS[plan.kind]
    z = fused.add_bias(accumulated_dot(inputs.x, operands.kernel), operands.bias)
    q = accumulated_dot(read, operands.recurrent)
    activations = step.activations(before, step.read_inputs(z), q, operands.extras)
    return jnp.concatenate(jax.tree.leaves(activations), -1)


def over_steps(left: jax.Array, right: jax.Array) -> jax.Array:
    """Returns the sum of left^T right over rows and steps: [B, T, M] and [B, T, N] give [M, N]."""
    return jnp.einsum("btm,btn->mn", left, right)


register_kernel(forward_p, "cuda", forward_meaning, forward_call)
register_kernel(backward_p, "cuda", backward_meaning, backward_call)
