"""Linear cells of gates: products, gates and state in one kernel, where XLA takes several passes.

Such cells are MinGRUCell, MinLSTMCell and RGLRUCell. XLA writes their gates to memory and reads them several
times. The native kernels of rnn_jax/native/gated.inc have them in registers, from the product to the state.
The primitives are as those of rnn_jax.layers.kernel_calls, and mean the products and the linear recurrence.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax.core import ShapedArray
from jax.custom_derivatives import SymbolicZero
from jax.interpreters import ad

from rnn_jax.layers.kernel_calls import (
    ABSENT,
    Plan,
    attributes,
    bind,
    derivative,
    is_absent,
    linear_derivative,
    make_primitive,
    or_absent,
    structs,
    typed,
)
from rnn_jax.layers.linear_recurrence import linear_recurrence
from rnn_jax.layers.matmul import products
from rnn_jax.layers.native import threads_for
from rnn_jax.layers.recurrence import along
from rnn_jax.native import why_missing
from rnn_jax.trees import Tree

AnyFunction = TypeVar("AnyFunction", bound=Callable[..., Any])
MARK = "gated_kernel"


class Gated(NamedTuple):
    """A cell that the kernels know.

    Attributes:
      kind: its number in C++: `Kind` in rnn_jax/native/recurrence.h.
      gates: the number of products x W + b, [..., H] each.
      terms: of these, and of the extra array [H] of a cell that has one, a and b of h' = a*h + b, and what a
        kernel keeps of a step for the backward pass.
      extra: whether the cell has an extra array.
    """

    kind: int
    gates: int
    terms: Callable[..., tuple[jax.Array, jax.Array, list[jax.Array]]]
    extra: bool = False


class Layer(NamedTuple):
    """What the kernels read, arrays or their types, or changes of these. Absent: `valid` where all steps are.

    Attributes:
      kernel, bias: [E, G*H] and [G*H].
      extra: [H], or absent.
      x: [B, T, E].
      first: the state before the first step that is run, [B, H].
      valid: [B, T]. It has no gradient.
    """

    kernel: Any
    bias: Any
    extra: Any
    x: Any
    first: Any
    valid: Any


WEIGHTS, MOVING = 3, 5  # the first fields of a Layer, and those that have a gradient
POWER = 8  # c of the RG-LRU's paper: at most what its gate r forgets


def min_gru(z: jax.Array, n: jax.Array) -> tuple[jax.Array, jax.Array, list[jax.Array]]:
    """Returns a = 1-z, b = z*n, and z and n."""
    opened = jax.nn.sigmoid(z)
    return jax.nn.sigmoid(-z), opened * n, [opened, n]


def min_lstm(f: jax.Array, i: jax.Array, g: jax.Array) -> tuple[jax.Array, jax.Array, list[jax.Array]]:
    """Returns a = f / (f+i), b = i*g / (f+i), and a, g, 1-f and 1-i, where f and i are the sigmoids."""
    stays, enters = shares(f, i)
    return stays, enters * g, [stays, g, jax.nn.sigmoid(-f), jax.nn.sigmoid(-i)]


@jax.custom_jvp
def shares(f: jax.Array, i: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns f / (f+i) and i / (f+i) of the sigmoids of two arrays."""
    # Below -80 a sigmoid comes near the least number of float32, and f / (f+i) would be 0 / 0.
    f, i = (jax.nn.sigmoid(jnp.maximum(gate, -80)) for gate in (f, i))
    share = 1 / (f + i)
    return f * share, i * share


@shares.defjvp
def shares_jvp(
    primals: tuple[jax.Array, jax.Array], tangents: tuple[jax.Array, jax.Array]
) -> tuple[tuple[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]:
    """The rule, with two arrays to keep where the derivative of each operation would keep eight."""
    (f, i), (f_dot, i_dot) = primals, tangents
    kept, let_in = shares(f, i)
    slope = kept * let_in
    change = slope * jax.nn.sigmoid(-f) * f_dot - slope * jax.nn.sigmoid(-i) * i_dot
    return (kept, let_in), (change, -change)


def rglru(
    r: jax.Array, i: jax.Array, g: jax.Array, log_a: jax.Array
) -> tuple[jax.Array, jax.Array, list[jax.Array]]:
    """Returns a and b = sqrt(1 - a^2) * i * g, and r, i and g, of `log_a` [H], log a where r is 1/8."""
    r, i = jax.nn.sigmoid(r), jax.nn.sigmoid(i)
    a, left = decay(POWER * r * along(r, log_a.astype(r.dtype)))
    return a, left * (i * g), [r, i, g]


@jax.custom_jvp
def decay(log_a: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns a and sqrt(1 - a^2), at least 1e-6."""
    return jnp.exp(log_a), jnp.sqrt(jnp.maximum(-jnp.expm1(2 * log_a), 1e-12))


@decay.defjvp
def decay_jvp(
    primals: tuple[jax.Array], tangents: tuple[jax.Array]
) -> tuple[tuple[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]:
    """The rule. The slope of a root at 0 is infinite, and a closed gate r would turn gradients into NaN."""
    (log_a,), (change,) = primals, tangents
    a, left = decay(log_a)
    return (a, left), (a * change, -(a * a / left) * change)


GATED = {
    "min_gru": Gated(3, 2, min_gru),
    "min_lstm": Gated(4, 3, min_lstm),
    "rglru": Gated(5, 3, rglru, extra=True),
}
OF_KIND = {each.kind: each for each in GATED.values()}


def by_kernel(name: str) -> Callable[[AnyFunction], AnyFunction]:
    """Decorates the `terms` of a cell in GATED: a cell that overrides them has no kernel."""

    def mark(terms: AnyFunction) -> AnyFunction:
        setattr(terms, MARK, name)
        return terms

    return mark


def gated_of(terms: Any, weights: Tree, x_TBE: jax.Array, state_BH: jax.Array) -> Gated | None:
    """Returns what the kernels know a cell as, by its `terms`; None where they do not run it."""
    gated = GATED.get(getattr(terms, MARK, ""))
    if gated is None or jax.default_backend() != "cpu" or why_missing(dtype=str(weights.kernel.dtype)):
        return None
    types = {str(jnp.result_type(leaf)) for leaf in jax.tree.leaves((weights, x_TBE))}
    rows, units = x_TBE.shape[1], state_BH.shape[-1]
    extras = [jnp.shape(leaf) for leaf in jax.tree.leaves(weights.extras)]
    fits = weights.bias is not None and weights.kernel.shape[1] == gated.gates * units
    fits = fits and extras == [(units,)] * gated.extra
    fits = fits and state_BH.dtype == jnp.float32 and types <= {"float32", str(weights.kernel.dtype)}
    # A thread owns rows for all steps: with fewer rows than threads XLA's products share the work better.
    return gated if fits and isinstance(rows, int) and rows >= threads_for(x_TBE) else None


def run_gated(
    gated: Gated,
    weights: Tree,
    x_TBE: jax.Array,
    state_BH: jax.Array,
    valid_TB: jax.Array | None,
    reverse: bool,
) -> tuple[jax.Array, jax.Array]:
    """Returns the states [B, T, H] and the last of them, [B, H], in float32."""
    rounded = weights.kernel.dtype == jnp.bfloat16
    plan = Plan(gated.kind, reverse, 0, threads_for(x_TBE), bfloat16=rounded)
    valid = jnp.zeros(ABSENT, bool) if valid_TB is None else valid_TB.T
    arrays = weights.kernel, weights.bias, or_absent(weights.extras), x_TBE.swapaxes(0, 1), state_BH
    return recurrence(plan, Layer._make([*(array.astype(jnp.float32) for array in arrays), valid]))


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def recurrence(plan: Plan, layer: Layer) -> tuple[jax.Array, jax.Array]:
    """Returns the states [B, T, H] and the last of them, [B, H]."""
    h, last, _ = bind(forward_p, layer, plan)
    return h, last


@partial(recurrence.defjvp, symbolic_zeros=True)
def recurrence_jvp(plan: Plan, primals: tuple[Layer], tangents: tuple[Layer]) -> tuple[Tree, Tree]:
    """The rule: a forward pass that keeps what the backward pass reads, and the pass over the changes."""
    (layer,), (changes,) = primals, tangents
    *weights, moves, _ = (not isinstance(change, SymbolicZero) for change in changes[:MOVING])
    plan = plan._replace(keep=2, moves=moves, learns=any(weights))
    h, last, kept = bind(forward_p, layer, plan)
    dots = [
        jnp.zeros_like(primal) if isinstance(change, SymbolicZero) else change
        for change, primal in zip(changes[:MOVING], layer, strict=False)
    ]
    weights_dot = dots[:WEIGHTS] if plan.learns else [or_absent(None)] * WEIGHTS
    x_dot = changes.x if plan.moves else or_absent(None)
    return (h, last), tuple(bind(tangent_p, (*weights_dot, x_dot, dots[-1], *layer, h, kept), plan))


def forward_meaning(*arrays: jax.Array, plan: Plan) -> tuple[jax.Array, ...]:
    """Returns the states, the last of them, and what is kept, absent where it is not wanted."""
    layer, gated = Layer(*arrays), OF_KIND[plan.kind]
    kernel = layer.kernel.astype(jnp.bfloat16) if plan.bfloat16 else layer.kernel
    sums = products(layer.x, tuple(jnp.split(kernel, gated.gates, axis=1)))
    biases = jnp.split(layer.bias, gated.gates)
    inputs = [each + along(each, bias) for each, bias in zip(sums, biases, strict=True)]
    a, b, kept = gated.terms(*inputs, *[layer.extra] * gated.extra)
    if not is_absent(layer.valid):
        valid_BT1 = layer.valid[:, :, None]
        a, b = jnp.where(valid_BT1, a, 1), jnp.where(valid_BT1, b, 0)
    h, last = linear_recurrence(a, b, layer.first, plan.reverse)
    return h, last, jnp.concatenate(kept, axis=-1) if plan.keep else or_absent(None)


def tangent_meaning(*arrays: jax.Array, plan: Plan) -> tuple[jax.Array, ...]:
    """Returns the changes of the states and of the last. It is linear in those of kernel to first."""
    (*weights_dot, x_dot, first_dot), layer = arrays[:MOVING], Layer(*arrays[MOVING:-2])
    x_dot = x_dot if plan.moves else jnp.zeros_like(layer.x)
    if not plan.learns:
        weights_dot = [jnp.zeros_like(weight) for weight in layer[:WEIGHTS]]

    def values(*moving: jax.Array) -> tuple[jax.Array, ...]:
        return forward_meaning(*moving, layer.valid, plan=plan._replace(keep=0))[:2]

    results: tuple[jax.Array, ...] = jax.jvp(values, layer[:MOVING], (*weights_dot, x_dot, first_dot))[1]
    return results


def backward_meaning(*arrays: jax.Array, plan: Plan) -> tuple[jax.Array, ...]:
    """Returns the cotangents of kernel to first, from those of the states and of the last."""
    layer, (h_ct, last_ct) = Layer(*arrays[:-4]), arrays[-2:]

    def values(*moving: jax.Array) -> tuple[jax.Array, ...]:
        return forward_meaning(*moving, layer.valid, plan=plan._replace(keep=0))[:2]

    (h, _), pullback = jax.vjp(values, *layer[:MOVING])
    *weights, x, first = pullback((jnp.zeros_like(h) if is_absent(h_ct) else h_ct, last_ct))
    none = or_absent(None)
    return *(weights if plan.learns else [none] * WEIGHTS), x if plan.moves else none, first


def forward_call(*arrays: jax.Array, plan: Plan) -> Sequence[jax.Array]:
    """Calls the forward kernel, for which recurrent weights and memory are absent."""
    layer, none = Layer(*arrays), or_absent(None)
    h_type, last_type, kept_type = structs(forward_types(*map(jax.typeof, arrays), plan=plan))
    absent = jax.ShapeDtypeStruct(ABSENT, jnp.float32)
    call = jax.ffi.ffi_call("rnn_jax_forward", [absent, last_type, h_type, absent, kept_type])
    inputs = layer.x, layer.kernel, none, layer.bias, layer.extra, none, layer.first, none, layer.valid
    _, last, h, _, kept = call(*inputs, **attributes(plan))
    return h, last, kept


def backward_call(*arrays: jax.Array, plan: Plan) -> Sequence[jax.Array]:
    """Calls the backward kernel, likewise."""
    layer, (h, kept, h_ct, last_ct), none = Layer(*arrays[:-4]), arrays[-4:], or_absent(None)
    kernel_type, *types, first_type = structs(backward_types(*map(jax.typeof, arrays), plan=plan))
    absent = jax.ShapeDtypeStruct(ABSENT, jnp.float32)
    call = jax.ffi.ffi_call("rnn_jax_backward", [kernel_type, absent, *types, absent, first_type])
    inputs = layer.x, layer.kernel, none, layer.bias, layer.extra, none, layer.first, none, layer.valid
    seen = h, none, kept, none, last_ct, h_ct
    kernel, _, bias, extra, x, _, first = call(*inputs, *seen, **attributes(plan))
    return kernel, bias, extra, x, first


def forward_types(*types: ShapedArray, plan: Plan) -> list[ShapedArray]:
    """Returns the types of the states, of the last, and of what is kept."""
    layer, gated = Layer(*types), OF_KIND[plan.kind]
    (batch, steps, _), units = layer.x.shape, layer.first.shape[1]
    of = partial(typed, layer.x)
    numbers = [jax.ShapeDtypeStruct((1,), jnp.float32)] * (gated.gates + gated.extra)
    kept = len(jax.eval_shape(gated.terms, *numbers)[2])
    return [
        of(batch, steps, units),
        of(batch, units),
        of(batch, steps, kept * units) if plan.keep else of(*ABSENT),
    ]


def tangent_types(*types: ShapedArray, plan: Plan) -> list[ShapedArray]:
    """Returns the types of the changes of the states and of the last."""
    return forward_types(*types[MOVING:-2], plan=plan)[:2]


def backward_types(*types: ShapedArray, plan: Plan) -> list[ShapedArray]:
    """Returns the types of the cotangents of kernel to first."""
    *weights, x, first = types[:MOVING]
    none = typed(x, *ABSENT)
    wanted = *(weights if plan.learns else [none] * WEIGHTS), x if plan.moves else none, first
    return [typed(x, *kind.shape) for kind in wanted]


forward_p = make_primitive("gated_forward", forward_meaning, forward_types, forward_call)
tangent_p = make_primitive("gated_tangent", tangent_meaning, tangent_types, None)
backward_p = make_primitive("gated_backward", backward_meaning, backward_types, backward_call)


def tangent_transpose(cotangents: Sequence[Any], *arrays: Any, plan: Plan) -> list[Any]:
    """The backward pass, whose results are the cotangents of the changes."""
    h_ct, last_ct = cotangents
    h_ct = or_absent(None) if type(h_ct) is ad.Zero else h_ct
    found = bind(backward_p, (*arrays[MOVING:], h_ct, ad.instantiate_zeros(last_ct)), plan)
    wanted = [ct if ad.is_undefined_primal(array) else None for ct, array in zip(found, arrays, strict=False)]
    return [*wanted, *[None] * len(arrays[MOVING:])]


ad.primitive_jvps[forward_p] = partial(derivative, forward_meaning)
ad.primitive_jvps[backward_p] = partial(derivative, backward_meaning)
ad.primitive_jvps[tangent_p] = partial(linear_derivative, tangent_p, tangent_meaning, MOVING)
ad.primitive_transposes[tangent_p] = tangent_transpose
