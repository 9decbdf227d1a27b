"""Matrix products: the types of their operands and results, and the layouts of their transposes."""

import jax
import jax.numpy as jnp
from jax import lax


def accumulated_dot(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Returns x @ kernel with operands of the kernel's type, accumulated and returned in float32 or wider."""
    return jnp.dot(x.astype(kernel.dtype), kernel, preferred_element_type=wide(kernel.dtype))


def dot_with_tangent(x: jax.Array, kernel_dot: jax.Array, dtype: jnp.dtype) -> jax.Array:
    """Returns x [..., E] @ kernel_dot in `dtype`, widened; its transpose is the gradient of a kernel.

    Written so that the gradient is a product of an [E, rows] array that lies in memory as it is read.
    """
    x_T = lax.optimization_barrier(x.astype(dtype).reshape(-1, x.shape[-1]).T)
    product = lax.dot_general(x_T, kernel_dot.astype(dtype), (((0,), (0,)), ((), ())))
    return product.astype(wide(dtype)).reshape(*x.shape[:-1], -1)


def tangent_dot(x_dot: jax.Array, kernel_T: jax.Array) -> jax.Array:
    """Returns x_dot @ kernel, widened, from the kernel transposed, which its transpose reads as it lies."""
    last = x_dot.ndim - 1
    product = lax.dot_general(x_dot.astype(kernel_T.dtype), kernel_T, (((last,), (1,)), ((), ())))
    return product.astype(wide(kernel_T.dtype))


def wide(dtype: jnp.dtype) -> jnp.dtype:
    """Returns float32, or `dtype` where that is wider."""
    return jnp.promote_types(dtype, jnp.float32)
