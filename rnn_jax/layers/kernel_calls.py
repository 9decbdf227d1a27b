"""The primitives of the backends with kernels: what they mean, what they call on a CPU, their derivatives.

There are three: the forward pass, the pass that is linear in the tangents, and its transpose, the backward
pass. Each means what the fused backend computes, and a kernel stands for the first and the third: on a CPU
those below, on a GPU those of rnn_jax.layers.persistent. So forward mode, vmap, higher orders, `jax.export`
and other devices work as there, without the kernels.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from rnn_jax.layers import fused
from rnn_jax.layers.fused import Chunk, FusedPlan, Masks, Operands
from rnn_jax.layers.kernel_cells import CELLS, KERNEL_CELLS
from rnn_jax.layers.placement import vary_with
from rnn_jax.layers.recurrence import Carry, LSTMCarry, hidden_state
from rnn_jax.native import why_missing
from rnn_jax.trees import Tree

Function: TypeAlias = Callable[..., Sequence[jax.Array]]
Arrays: TypeAlias = Sequence[Any]
ABSENT = (0,)  # the shape of an array that is not there: the kernels take a fixed number of arrays


class Plan(NamedTuple):
    """What no array decides.

    Attributes:
      kind: the number of the cell.
      reverse: run from the last step to the first.
      keep: what the forward pass keeps: 0 nothing, 1 the carries, 2 also the activations.
      threads: that share the rows.
      moves: whether x has a tangent.
      learns: whether a weight has one. Frozen layers have none, and the kernels leave their gradients out.
      bfloat16: whether the operands of products are rounded to bfloat16.
      platform: whose kernels: "cpu" or "cuda".
    """

    kind: int
    reverse: bool
    keep: int
    threads: int
    moves: bool = False
    learns: bool = True
    bfloat16: bool = False
    platform: str = "cpu"


class Inputs(NamedTuple):
    """What the kernels read, arrays or their types: x [B, T, E], the operands, the first carry, the masks."""

    x: Any
    kernel: Any
    recurrent: Any
    bias: Any
    extra: Any
    first_c: Any
    first_h: Any
    hidden_mask: Any
    valid: Any


class Steps(NamedTuple):
    """What the forward pass gives: the last carry, and what it keeps of every step, [B, T, ...]."""

    last_c: jax.Array
    last_h: jax.Array
    h: jax.Array
    c: jax.Array
    kept: jax.Array


class Tangents(NamedTuple):
    """Changes of what a layer reads; in the order of the operands, x, and the carry."""

    kernel: jax.Array
    recurrent: jax.Array
    bias: jax.Array
    extra: jax.Array
    x: jax.Array
    first_c: jax.Array
    first_h: jax.Array


def or_absent(array: jax.Array | None) -> jax.Array:
    """Returns an array, or the one that stands for none."""
    return jnp.zeros(ABSENT, jnp.float32) if array is None else array


def is_absent(array: Any) -> bool:
    """Returns whether an array, or its type, stands for none."""
    return tuple(array.shape) == ABSENT


def memory_and_hidden(carry: Carry) -> tuple[jax.Array, jax.Array]:
    """Returns c, absent where the carry has none, and h."""
    return or_absent(carry[0] if isinstance(carry, tuple) else None), hidden_state(carry)


def carry_like(carry: Carry, c: jax.Array, h: jax.Array) -> Carry:
    """Returns c and h as a carry."""
    return LSTMCarry(c, h) if isinstance(carry, tuple) else h


def bind(primitive: Primitive, arrays: Sequence[jax.Array], plan: Plan) -> list[jax.Array]:
    """Returns the results of a primitive; its arrays vary over the same axes of a `shard_map`."""
    results: list[jax.Array] = primitive.bind(*vary_with(tuple(arrays)), plan=plan)
    return results


# What the primitives mean, in terms of the fused backend.


def forward_meaning(*arrays: jax.Array, plan: Plan) -> tuple[jax.Array, ...]:
    """Returns the fields of `Steps`."""
    inputs = Inputs(*arrays)

    def keep(carry: Carry, activations: Tree) -> tuple[Carry, Tree]:
        return carry, activations if plan.keep == 2 and KERNEL_CELLS[plan.kind].kept else None

    masks = Masks(*(None if is_absent(mask) else mask for mask in (inputs.valid, inputs.hidden_mask)))
    chunks, x, valid = chunked(inputs.x, masks.valid)
    carry, (carries, activations) = fused.steps_forward(
        fused_plan(plan), operands_in(inputs), x, first_carry(plan, inputs), Masks(valid, masks.hidden), keep
    )
    carries, activations = unchunked((carries, activations), inputs.x.shape[1], chunks)
    c, h = memory_and_hidden(carries)
    kept = or_absent(None) if activations is None else jnp.concatenate(jax.tree.leaves(activations), -1)
    return *memory_and_hidden(carry), h, c if plan.keep else or_absent(None), kept


def tangent_meaning(*arrays: jax.Array, plan: Plan) -> tuple[jax.Array, ...]:
    """Returns the changes of the last c, the last h, and of h at every step. Linear in the tangents."""
    count = len(Tangents._fields)
    changes, inputs = Tangents(*arrays[:count]), Inputs(*arrays[count:-3])
    h, c, kept = arrays[-3:]
    mask = None if is_absent(inputs.hidden_mask) else inputs.hidden_mask
    chunks, x, valid = chunked(inputs.x, None if is_absent(inputs.valid) else inputs.valid)
    first = first_carry(plan, inputs)
    carries = reshaped(carry_like(first, c, h), chunks)
    last = 0 if plan.reverse else -1
    ends = jax.tree.map(lambda state: state[:, last], carries)
    before = jax.tree.map(partial(fused.shift, reverse=plan.reverse), first, ends)
    chunk = Chunk(
        x,
        reshaped(changes.x, chunks) if plan.moves else None,
        before,
        carries,
        activations_in(plan, reshaped(kept, chunks), carries),
        valid,
    )
    extras = None if is_absent(changes.extra) else changes.extra
    operands_dot = Operands(changes.kernel, changes.recurrent, changes.bias, extras)
    if not plan.learns:
        operands_dot = jax.tree.map(jnp.zeros_like, operands_in(inputs))
    carry_dot = carry_like(first, changes.first_c, changes.first_h)
    carry_dot, h_dot = fused.steps_tangent(
        fused_plan(plan), operands_in(inputs), operands_dot, carry_dot, mask, chunk
    )
    return *memory_and_hidden(carry_dot), unchunked(h_dot, inputs.x.shape[1], chunks)


def backward_meaning(*arrays: jax.Array, plan: Plan) -> tuple[jax.Array, ...]:
    """Returns the cotangents of the fields of `Tangents`, from those of the last c, the last h and h."""
    known, cotangents = arrays[:-3], arrays[-3:]
    inputs = Inputs(*known[:-3])
    like = moved(plan, inputs)
    outputs = jax.eval_shape(partial(tangent_meaning, plan=plan), *like, *known)
    given = [jnp.zeros(out.shape, out.dtype) if is_absent(ct) and not is_absent(out) else ct
             for ct, out in zip(cotangents, outputs, strict=True)]  # fmt: skip
    transpose = jax.linear_transpose(lambda *changes: tangent_meaning(*changes, *known, plan=plan), *like)
    return tuple(transpose(tuple(vary_with(tuple(given), *known))))


def moved(plan: Plan, inputs: Inputs) -> Tangents:
    """Returns what has a tangent, and the type of an array that stands for none where the others would be."""
    none: Any = jax.ShapeDtypeStruct(ABSENT, jnp.float32)
    rest: tuple[Any, Any, Any] = inputs.x if plan.moves else none, inputs.first_c, inputs.first_h
    if not plan.learns:
        return Tangents(none, none, none, none, *rest)
    return Tangents(inputs.kernel, inputs.recurrent, inputs.bias, inputs.extra, *rest)


def chunked(x_BTE: jax.Array, valid_BT: jax.Array | None) -> tuple[tuple[int, int], jax.Array, Any]:
    """Returns the numbers of chunks and of their steps, and x and valid in chunks, padded to whole ones."""
    batch, steps, _ = x_BTE.shape
    length = fused.chunk_length(steps)
    count = 1 if isinstance(steps, int) and not steps else -(-steps // length)
    if count * length - steps and valid_BT is None:
        valid_BT = jnp.ones((batch, steps), bool)
    chunks = count, length
    return chunks, reshaped(x_BTE, chunks), None if valid_BT is None else reshaped(valid_BT, chunks)


def reshaped(tree: Tree, chunks: tuple[int, int]) -> Tree:
    """Returns arrays [B, T, ...] as [N, K, B, ...], padded with zeros; absent ones as they are."""

    def reshape(leaf: jax.Array) -> jax.Array:
        if is_absent(leaf):
            return leaf
        leaf = leaf.swapaxes(0, 1)
        added = chunks[0] * chunks[1] - leaf.shape[0]
        padded = jnp.pad(leaf, [(0, added), *[(0, 0)] * (leaf.ndim - 1)]) if added else leaf
        return padded.reshape(*chunks, *leaf.shape[1:])

    return jax.tree.map(reshape, tree)


def unchunked(tree: Tree, steps: int, chunks: tuple[int, int]) -> Tree:
    """Returns arrays [N, K, B, ...] as [B, T, ...]."""

    def reshape(leaf: jax.Array) -> jax.Array:
        return leaf.reshape(chunks[0] * chunks[1], *leaf.shape[2:])[:steps].swapaxes(0, 1)

    return jax.tree.map(reshape, tree)


def fused_plan(plan: Plan) -> FusedPlan:
    """Returns the plan of the same layer on the fused backend."""
    dtype = jnp.dtype("bfloat16" if plan.bfloat16 else "float32")
    unroll = plan.platform != "cpu" or 1  # all steps of a chunk on a GPU: see `fused.unrolled`
    return FusedPlan(CELLS[plan.kind], plan.reverse, plan.keep == 2, unroll, dtype)


def operands_in(inputs: Inputs) -> Operands:
    """Returns the weights."""
    extra = None if is_absent(inputs.extra) else inputs.extra
    return Operands(inputs.kernel, inputs.recurrent, inputs.bias, extra)


def first_carry(plan: Plan, inputs: Inputs) -> Carry:
    """Returns the carry before the first step."""
    return LSTMCarry(inputs.first_c, inputs.first_h) if KERNEL_CELLS[plan.kind].memory else inputs.first_h


def activations_in(plan: Plan, kept: jax.Array, carries: Carry) -> Tree:
    """Returns the activations as the fused backend has them; None if they were not kept."""
    return KERNEL_CELLS[plan.kind].activations(kept, hidden_state(carries)) if plan.keep == 2 else None


# The calls of the kernels.


def forward_call(*arrays: jax.Array, plan: Plan) -> Sequence[jax.Array]:
    """Calls the forward kernel."""
    call = jax.ffi.ffi_call("rnn_jax_forward", structs(forward_types(*map(jax.typeof, arrays), plan=plan)))
    return call(*arrays, **attributes(plan))


def backward_call(*arrays: jax.Array, plan: Plan) -> Sequence[jax.Array]:
    """Calls the backward kernel."""
    call = jax.ffi.ffi_call("rnn_jax_backward", structs(backward_types(*map(jax.typeof, arrays), plan=plan)))
    return call(*arrays, **attributes(plan))


def attributes(plan: Plan) -> dict[str, Any]:
    """Returns the attributes of a call."""
    return {
        "kind": np.int64(plan.kind),
        "reverse": np.bool_(plan.reverse),
        "threads": np.int64(plan.threads),
        "bfloat16": np.bool_(plan.bfloat16),
    }


def structs(types: Sequence[ShapedArray]) -> list[jax.ShapeDtypeStruct]:
    """Returns types as `jax.ffi` takes them."""
    return [jax.ShapeDtypeStruct(kind.shape, kind.dtype) for kind in types]


# The types of the results.


def typed(like: ShapedArray, *shape: int) -> ShapedArray:
    """Returns the type of a float32 array that varies over the same mesh axes as another."""
    sharding = like.sharding.update(spec=jax.sharding.PartitionSpec(*[None] * len(shape)))
    kind: ShapedArray = like.update(shape=shape, dtype=jnp.dtype("float32"), sharding=sharding)
    return kind


def forward_types(*types: ShapedArray, plan: Plan) -> list[ShapedArray]:
    """Returns the types of the fields of `Steps`."""
    inputs = Inputs(*types)
    batch, steps, _ = inputs.x.shape
    units = inputs.first_h.shape[1]
    of = partial(typed, inputs.x)
    memory, kept = KERNEL_CELLS[plan.kind].memory, KERNEL_CELLS[plan.kind].kept * units
    return [
        of(batch, units) if memory else of(*ABSENT),
        of(batch, units),
        of(batch, steps, units),
        of(batch, steps, units) if memory and plan.keep else of(*ABSENT),
        of(batch, steps, kept) if kept and plan.keep == 2 else of(*ABSENT),
    ]


def tangent_types(*types: ShapedArray, plan: Plan) -> list[ShapedArray]:
    """Returns the types of the changes of the last c, the last h, and h of every step."""
    return forward_types(*types[len(Tangents._fields) : -3], plan=plan._replace(keep=0))[:3]


def backward_types(*types: ShapedArray, plan: Plan) -> list[ShapedArray]:
    """Returns the types of the fields of `Tangents`."""
    inputs = Inputs(*types[: len(Inputs._fields)])
    return [typed(inputs.x, *kind.shape) for kind in moved(plan, inputs)]


# The primitives.


def make_primitive(
    name: str,
    meaning: Function,
    types: Callable[..., list[ShapedArray]],
    call: Function | None,
) -> Primitive:
    """Returns a primitive that means a function, and that is a call of a kernel on a CPU."""
    primitive = Primitive(name)
    primitive.multiple_results = True
    primitive.def_impl(lambda *arrays, plan: jax.jit(partial(primitive.bind, plan=plan))(*arrays))
    primitive.def_abstract_eval(types)
    mlir.register_lowering(primitive, mlir.lower_fun(meaning, multiple_results=True))
    if call is not None:
        register_kernel(primitive, "cpu", meaning, call)

    def batch(arrays: Sequence[jax.Array], axes: Sequence[Any], *, plan: Plan) -> Any:
        results = jax.vmap(partial(meaning, plan=plan), axes)(*arrays)
        return results, [0] * len(results)

    batching.primitive_batchers[primitive] = batch
    return primitive


def register_kernel(primitive: Primitive, platform: str, meaning: Function, call: Function) -> None:
    """Makes a primitive the call of a kernel on a platform, for plans of that platform, where it is built."""
    lower, lower_call = (mlir.lower_fun(function, multiple_results=True) for function in (meaning, call))

    def on_platform(context: Any, *arrays: Any, plan: Plan) -> Any:
        exported = context.module_context.lowering_parameters.for_export
        absent = exported or plan.platform != platform or why_missing(platform)
        return (lower if absent else lower_call)(context, *arrays, plan=plan)

    mlir.register_lowering(primitive, on_platform, platform=platform)


def derivative(meaning: Function, arrays: Arrays, tangents: Arrays, *, plan: Plan) -> tuple[Any, Any]:
    """Returns the results of a function, and their changes."""
    dense = [ad.instantiate_zeros(tangent) for tangent in tangents]
    moving = [index for index, array in enumerate(arrays) if jnp.issubdtype(array.dtype, jnp.floating)]

    def of_moving(*moved: jax.Array) -> Sequence[jax.Array]:
        every = list(arrays)
        for index, array in zip(moving, moved, strict=True):
            every[index] = array
        return tuple(meaning(*every, plan=plan))

    return jax.jvp(of_moving, [arrays[index] for index in moving], [dense[index] for index in moving])


def linear_derivative(
    primitive: Primitive, meaning: Function, count: int, arrays: Arrays, tangents: Arrays, *, plan: Plan
) -> tuple[Any, Any]:
    """The derivative of a primitive that is linear in its first arrays: where no other changes, itself."""
    if any(type(tangent) is not ad.Zero for tangent in tangents[count:]):
        return derivative(meaning, arrays, tangents, plan=plan)
    dense = [ad.instantiate_zeros(tangent) for tangent in tangents[:count]]
    return primitive.bind(*arrays, plan=plan), primitive.bind(*dense, *arrays[count:], plan=plan)


forward_p = make_primitive("rnn_forward", forward_meaning, forward_types, forward_call)
tangent_p = make_primitive("rnn_tangent", tangent_meaning, tangent_types, None)
backward_p = make_primitive("rnn_backward", backward_meaning, backward_types, backward_call)

ad.primitive_jvps[forward_p] = partial(derivative, forward_meaning)
ad.primitive_jvps[backward_p] = partial(derivative, backward_meaning)


def tangent_transpose(cotangents: Sequence[Any], *arrays: Any, plan: Plan) -> list[Any]:
    """The backward pass, whose results are the cotangents of the tangents."""
    count = len(Tangents._fields)
    known = arrays[count:]
    last_c, last_h, h = cotangents
    h = or_absent(None) if type(h) is ad.Zero else h
    given = [ad.instantiate_zeros(last_c), ad.instantiate_zeros(last_h), h]
    found = bind(backward_p, (*known, *given), plan)
    wanted = [ct if ad.is_undefined_primal(array) else None for ct, array in zip(found, arrays, strict=False)]
    return [*wanted, *[None] * len(known)]


ad.primitive_jvps[tangent_p] = partial(linear_derivative, tangent_p, tangent_meaning, len(Tangents._fields))
ad.primitive_transposes[tangent_p] = tangent_transpose
