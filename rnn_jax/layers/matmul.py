"""Matrix products: the types of their operands and results, and the layouts of their transposes."""

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.core import ShapedArray
from jax.custom_derivatives import SymbolicZero
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from rnn_jax.layers.placement import vary_with


def accumulated_dot(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Returns x @ kernel with operands of the kernel's type, accumulated and returned in float32 or wider."""
    return jnp.dot(x.astype(kernel.dtype), kernel, preferred_element_type=wide(kernel.dtype))


@jax.custom_jvp
def products(x: jax.Array, kernels: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
    """Returns `accumulated_dot(x, kernel)` for each kernel [E, F]. Their gradients read x transposed once.

    Each is an array of its own, so that what reads one gate of a cell need not take a joint array apart.
    """
    return tuple(accumulated_dot(x, kernel) for kernel in kernels)


@partial(products.defjvp, symbolic_zeros=True)
def products_jvp(
    primals: tuple[jax.Array, tuple[jax.Array, ...]], tangents: tuple[Any, Any]
) -> tuple[tuple[jax.Array, ...], tuple[jax.Array, ...]]:
    """The rule: products whose transposes are those of `contract`."""
    (x, kernels), (x_dot, kernels_dot) = primals, tangents
    changes = []
    x_T = lax.optimization_barrier(as_rows(x.astype(kernels[0].dtype)).T)
    for kernel, kernel_dot in zip(kernels, kernels_dot, strict=True):
        change = jnp.zeros((*x.shape[:-1], kernel.shape[1]), wide(kernel.dtype))
        if not isinstance(kernel_dot, SymbolicZero):
            change += contract(x_T, kernel_dot, (0, 0), kernel.dtype).reshape(change.shape)
        if not isinstance(x_dot, SymbolicZero):
            change += tangent_dot(x_dot, kernel.T)
        changes.append(change.astype(wide(kernel.dtype)))
    return products(x, kernels), tuple(changes)


def dot_with_tangent(x: jax.Array, kernel_dot: jax.Array, dtype: jnp.dtype) -> jax.Array:
    """Returns x [..., E] @ kernel_dot, operands in `dtype`, widened; its transpose is a kernel's gradient.

    Written so that the gradient is a product of an [E, rows] array that lies in memory as it is read.
    """
    x_T = lax.optimization_barrier(as_rows(x.astype(dtype)).T)
    return contract(x_T, kernel_dot, (0, 0), dtype).reshape(*x.shape[:-1], kernel_dot.shape[1])


def tangent_dot(x_dot: jax.Array, kernel_T: jax.Array) -> jax.Array:
    """Returns x_dot [..., E] @ kernel, widened, from kernel_T, which its transpose reads as it lies."""
    return contract(as_rows(x_dot), kernel_T, (1, 1), kernel_T.dtype).reshape(
        *x_dot.shape[:-1], kernel_T.shape[0]
    )


def as_rows(x: jax.Array) -> jax.Array:
    """Returns x [..., E] as a matrix [rows, E], which may have none."""
    return x.reshape(math.prod(x.shape[:-1]), x.shape[-1])


def contract(a: jax.Array, b: jax.Array, axes: tuple[int, int], dtype: jnp.dtype) -> jax.Array:
    """Returns the product of two matrices over one axis of each: operands in `dtype`, the result widened.

    So are its transposes: the cotangent, float32, is an operand in `dtype`. Those of `lax.dot_general` round
    the result to bfloat16 or multiply in float32: half as fast on a processor with bfloat16 units.
    """
    if jnp.dtype(dtype) == wide(dtype):
        return _contract(a, b, axes=axes, dtype=dtype)
    a, b = vary_with((a, b))
    product: jax.Array = contract_p.bind(a, b, axes=axes, dtype=jnp.dtype(dtype))
    return product


def _contract(a: jax.Array, b: jax.Array, *, axes: tuple[int, int], dtype: jnp.dtype) -> jax.Array:
    contracted = (axes[:1], axes[1:]), ((), ())
    return lax.dot_general(a.astype(dtype), b.astype(dtype), contracted, preferred_element_type=wide(dtype))


def _contract_type(a: ShapedArray, b: ShapedArray, *, axes: tuple[int, int], dtype: jnp.dtype) -> ShapedArray:
    shape = a.shape[1 - axes[0]], b.shape[1 - axes[1]]
    product: ShapedArray = a.update(shape=shape, dtype=wide(dtype))
    return product


def _transpose_a(
    ct_MN: jax.Array, a: ad.UndefinedPrimal, b: jax.Array, *, axes: tuple[int, int], dtype: jnp.dtype
) -> jax.Array:
    """Returns the cotangent of a, each factor and the result as they lie in memory; E is summed over."""
    n_axis_of_b = 1 - axes[1]
    if axes[0] == 1:  # a [M, E]
        ct_a = contract(ct_MN, b, (1, n_axis_of_b), dtype)
    else:  # a [E, M]
        ct_a = contract(b, ct_MN, (n_axis_of_b, 1), dtype)
    return ct_a.astype(a.aval.dtype)


def _transpose_b(
    ct_MN: jax.Array, a: jax.Array, b: ad.UndefinedPrimal, *, axes: tuple[int, int], dtype: jnp.dtype
) -> jax.Array:
    """Returns the cotangent of b, likewise."""
    m_axis_of_a = 1 - axes[0]
    if axes[1] == 0:  # b [E, N]
        ct_b = contract(a, ct_MN, (m_axis_of_a, 0), dtype)
    else:  # b [N, E]
        ct_b = contract(ct_MN, a, (0, m_axis_of_a), dtype)
    return ct_b.astype(b.aval.dtype)


def _batch(
    arguments: tuple[jax.Array, jax.Array],
    axes_of_batch: tuple[int | None, int | None],
    *,
    axes: tuple[int, int],
    dtype: jnp.dtype,
) -> tuple[jax.Array, int]:
    return jax.vmap(partial(_contract, axes=axes, dtype=dtype), axes_of_batch)(*arguments), 0


contract_p = Primitive("contract")
contract_p.def_impl(jax.jit(_contract, static_argnames=("axes", "dtype")))
contract_p.def_abstract_eval(_contract_type)
mlir.register_lowering(contract_p, mlir.lower_fun(_contract, multiple_results=False))
ad.defbilinear(contract_p, _transpose_a, _transpose_b)
batching.primitive_batchers[contract_p] = _batch


def wide(dtype: jnp.dtype) -> jnp.dtype:
    """Returns float32, or `dtype` where that is wider."""
    return jnp.promote_types(dtype, jnp.float32)
