"""The linear recurrence h' = a*h + b over all steps, as one primitive whose transpose is itself, run back.

It has two forms. The early one multiplies before a state is put out, h_t = a_t h_(t-1) + b_t. The late one
multiplies afterwards, h_t = b_t + u_(t-1) with u_t = a_t h_t. Each is the transpose of the other in the other
direction. So forward mode, reverse mode, vmap and any order of derivatives are this primitive again, and
nothing is differentiated through a loop.

How it runs is chosen here and nowhere else: on a CPU by the native kernel, or where that is not built by a
scan over time, and on other devices by `lax.associative_scan`. On a CPU the associative scan takes hundreds
of times longer under `xla_cpu_use_multi_output_fusion` (`FUSION` of `rnn_jax.distributed.host`).
Arrays are rows first, [B, T, N].
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from rnn_jax.layers.native import threads_for
from rnn_jax.layers.placement import vary_with
from rnn_jax.native import why_missing

Planes = tuple[jax.Array, ...]  # a real array, or the real and the imaginary part of a complex one


class Form(NamedTuple):
    """What no array decides.

    Attributes:
      reverse: run from the last step to the first.
      late: multiply after a state is put out, and not before.
      paired: the last axis holds real parts and then as many imaginary parts.
      conjugate: multiply by the conjugate of a.
      threads: that share the rows, in the native kernel.
    """

    reverse: bool
    late: bool = False
    paired: bool = False
    conjugate: bool = False
    threads: int = 1

    def transposed(self) -> "Form":
        """Returns the form of the transpose."""
        conjugate = self.paired and not self.conjugate
        return self._replace(reverse=not self.reverse, late=not self.late, conjugate=conjugate)


def linear_recurrence(
    a: jax.Array, b: jax.Array, first: jax.Array, reverse: bool = False, paired: bool = False
) -> tuple[jax.Array, jax.Array]:
    """Returns the states h of all steps of h' = a*h + b, [B, T, N], and the last of them, [B, N].

    Values are computed in float32 or wider. A step with a = 1 and b = 0 passes its state on.

    Args:
      a: what multiplies the state at each step, [B, T, N].
      b: what is added, [B, T, N].
      first: the state before the first step that is run, [B, N].
      reverse: run from the last step to the first, whose state is then the last.
      paired: complex numbers: the last axis is the N / 2 real parts and then the imaginary parts.

    >>> ones = jnp.ones((1, 3, 1))
    >>> h, last = linear_recurrence(2 * ones, ones, jnp.zeros((1, 1)))
    >>> h.ravel().tolist(), last.tolist()
    ([1.0, 3.0, 7.0], [[7.0]])
    """
    dtype = jnp.promote_types(jnp.result_type(a, b, first), jnp.float32)
    a, b, first = (array.astype(dtype) for array in (a, b, first))
    h, last = bind(a, b, first, Form(reverse, paired=paired, threads=threads_for(b)))
    return h, last


def bind(a: jax.Array, b: jax.Array, first: jax.Array, form: Form) -> list[jax.Array]:
    """Returns (h, last) of a form; the arrays vary over the same axes of a `shard_map`."""
    results: list[jax.Array] = recurrence_p.bind(*vary_with((a, b, first)), form=form)
    return results


def multiply(a: jax.Array, h: jax.Array, paired: bool = False, conjugate: bool = False) -> jax.Array:
    """Returns a*h; of complex numbers where the last axis is real parts and then imaginary parts.

    >>> multiply(jnp.array([0.0, 1.0]), jnp.array([0.0, 1.0]), paired=True).tolist()  # i times i
    [-1.0, 0.0]
    """
    if not paired:
        return a * h
    return jnp.concatenate(product(planes(a, True, conjugate), planes(h, True)), axis=-1)


def planes(array: jax.Array, paired: bool, conjugate: bool = False) -> Planes:
    """Returns the array, or its real and its imaginary parts."""
    if not paired:
        return (array,)
    real, imaginary = jnp.split(array, 2, axis=-1)
    return real, -imaginary if conjugate else imaginary


def product(a: Planes, h: Planes) -> Planes:
    """Returns a*h."""
    if len(a) == 1:
        return (a[0] * h[0],)
    return a[0] * h[0] - a[1] * h[1], a[0] * h[1] + a[1] * h[0]


def total(one: Planes, other: Planes) -> Planes:
    """Returns the sum."""
    return tuple(plane + more for plane, more in zip(one, other, strict=True))


def step_by_step(a: jax.Array, b: jax.Array, first: jax.Array, *, form: Form) -> tuple[jax.Array, ...]:
    """Returns (h, last), one step after another."""

    def step(h: Planes, of_step: tuple[Planes, Planes]) -> tuple[Planes, Planes]:
        a, b = of_step
        if form.late:
            h = total(h, b)
            return product(a, h), h
        h = total(product(a, h), b)
        return h, h

    # Planes are taken apart before the loop: a step that reads a slice of its slice does not vectorise.
    a_TBN, b_TBN = a.swapaxes(0, 1), b.swapaxes(0, 1)
    steps = planes(a_TBN, form.paired, form.conjugate), planes(b_TBN, form.paired)
    last, h = lax.scan(step, planes(first, form.paired), steps, reverse=form.reverse)
    return jnp.concatenate(h, axis=-1).swapaxes(0, 1), jnp.concatenate(last, axis=-1)


def in_parallel(a: jax.Array, b: jax.Array, first: jax.Array, *, form: Form) -> tuple[jax.Array, ...]:
    """Returns (h, last), in a number of rounds that grows with the logarithm of T (Blelloch 1990)."""
    if not isinstance(a.shape[1], int) or a.shape[1] < 2:
        return step_by_step(a, b, first, form=form)
    at, end = (-1, 0) if form.reverse else (0, -1)
    multiplied = partial(multiply, paired=form.paired, conjugate=form.conjugate)
    last_factor = a[:, end]
    if form.late:  # a step multiplies by the factor of the step before it
        a = shifted(a, jnp.zeros_like(first), form.reverse)
        b = b.at[:, at].add(first)
    else:
        b = b.at[:, at].add(multiplied(a[:, at], first))

    def join(one: tuple[Planes, Planes], other: tuple[Planes, Planes]) -> tuple[Planes, Planes]:
        return product(other[0], one[0]), total(product(other[0], one[1]), other[1])

    elements = planes(a, form.paired, form.conjugate), planes(b, form.paired)
    _, found = lax.associative_scan(join, elements, reverse=form.reverse, axis=1)
    h = jnp.concatenate(found, axis=-1)
    return h, multiplied(last_factor, h[:, end]) if form.late else h[:, end]


def shifted(h: jax.Array, before: jax.Array, reverse: bool) -> jax.Array:
    """Returns what each step of [B, T, N] gets from the step before it; the first one gets `before`."""
    edge = before[:, None]
    return jnp.concatenate([h[:, 1:], edge] if reverse else [edge, h[:, :-1]], axis=1)


def types(a: ShapedArray, b: ShapedArray, first: ShapedArray, *, form: Form) -> list[ShapedArray]:
    """Returns the types of h and of the last state."""
    return [b.update(weak_type=False), first.update(weak_type=False)]


recurrence_p = Primitive("linear_recurrence")
recurrence_p.multiple_results = True
recurrence_p.def_impl(lambda *arrays, form: jax.jit(partial(recurrence_p.bind, form=form))(*arrays))
recurrence_p.def_abstract_eval(types)
mlir.register_lowering(recurrence_p, mlir.lower_fun(in_parallel, multiple_results=True))


def kernel_call(*arrays: jax.Array, form: Form) -> Sequence[jax.Array]:
    """Calls the native kernel."""
    results = [jax.ShapeDtypeStruct(array.shape, array.dtype) for array in arrays[1:]]
    attributes = {name: np.bool_(value) for name, value in form._asdict().items() if name != "threads"}
    return jax.ffi.ffi_call("rnn_jax_recurrence", results)(
        *arrays, **attributes, threads=np.int64(form.threads)
    )


def on_cpu(context: Any, *arrays: Any, form: Form) -> Any:
    """Lowers to the native kernel where it is built, of float32 numbers, and not to be exported."""
    exported = context.module_context.lowering_parameters.for_export
    float32 = all(kind.dtype == jnp.float32 for kind in context.avals_in)
    function = step_by_step if exported or not float32 or why_missing() else kernel_call
    return mlir.lower_fun(function, multiple_results=True)(context, *arrays, form=form)


mlir.register_lowering(recurrence_p, on_cpu, platform="cpu")


def derivative(primals: Sequence[jax.Array], tangents: Sequence[Any], *, form: Form) -> tuple[Any, Any]:
    """Returns (h, last) and their changes: the same recurrence of what the changes of a and b add."""
    a, b, first = primals
    a_dot, b_dot, first_dot = tangents
    h, last = bind(a, b, first, form)
    b_dot, first_dot = ad.instantiate_zeros(b_dot), ad.instantiate_zeros(first_dot)
    multiplied = partial(multiply, paired=form.paired, conjugate=form.conjugate)
    late_dot = jnp.zeros_like(first)
    if type(a_dot) is not ad.Zero and form.late:
        of_a = multiplied(a_dot, h)
        b_dot = b_dot + shifted(of_a, jnp.zeros_like(first), form.reverse)
        late_dot = of_a[:, 0 if form.reverse else -1]
    elif type(a_dot) is not ad.Zero:
        b_dot = b_dot + multiplied(a_dot, shifted(h, first, form.reverse))
    h_dot, last_dot = bind(a, b_dot, first_dot, form)
    return (h, last), (h_dot, last_dot + late_dot)


def transpose(cotangents: Sequence[Any], a: Any, b: Any, first: Any, *, form: Form) -> list[Any]:
    """Returns the cotangents of b and of the first state: the other form, in the other direction."""
    h_ct, last_ct = map(ad.instantiate_zeros, cotangents)
    b_ct, first_ct = bind(a, h_ct, last_ct, form.transposed())
    wanted = [
        b_ct if ad.is_undefined_primal(b) else None,
        first_ct if ad.is_undefined_primal(first) else None,
    ]
    return [None, *wanted]


def batch(
    arrays: Sequence[jax.Array], axes: Sequence[Any], *, form: Form
) -> tuple[list[jax.Array], list[int]]:
    """Returns (h, last) of many recurrences: their rows are rows of one."""
    size = next(array.shape[axis] for array, axis in zip(arrays, axes, strict=True) if axis is not None)
    moved = [
        jnp.broadcast_to(array[None], (size, *array.shape)) if axis is None else jnp.moveaxis(array, axis, 0)
        for array, axis in zip(arrays, axes, strict=True)
    ]
    rows = moved[0].shape[1]
    a, b, first = (array.reshape(size * rows, *array.shape[2:]) for array in moved)
    results = [each.reshape(size, rows, *each.shape[1:]) for each in bind(a, b, first, form)]
    return results, [0, 0]


ad.primitive_jvps[recurrence_p] = derivative
ad.primitive_transposes[recurrence_p] = transpose
batching.primitive_batchers[recurrence_p] = batch
