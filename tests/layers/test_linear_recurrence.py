"""The primitive h' = a*h + b: a loop in numpy, its transpose, and the parallel form of other devices."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from rnn_jax.layers.linear_recurrence import Form, bind, in_parallel, linear_recurrence, step_by_step
from tests.helpers.oracle import assert_trees_close

FORMS = [
    Form(reverse, late, paired, conjugate)
    for reverse in (False, True)
    for late in (False, True)
    for paired, conjugate in ((False, False), (True, False), (True, True))
]


def arrays(rows=2, time=5, units=4, dtype=np.float32):
    random = np.random.default_rng(0)
    shapes = (rows, time, units), (rows, time, units), (rows, units)
    return [random.normal(size=shape).astype(dtype) for shape in shapes]


def loop(a, b, first, form):
    """Returns (h, last) as the formulas have it, in complex numbers where they are meant."""
    if form.paired:
        half = a.shape[-1] // 2
        a, b, first = (part[..., :half] + 1j * part[..., half:] for part in (a, b, first))
        a = a.conj() if form.conjugate else a
    h, state = np.zeros_like(b), first
    for t in reversed(range(a.shape[1])) if form.reverse else range(a.shape[1]):
        h[:, t] = state = b[:, t] + (state if form.late else a[:, t] * state)
        state = a[:, t] * state if form.late else state
    found = h, state
    return [np.concatenate([part.real, part.imag], -1) for part in found] if form.paired else found


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_every_form_is_its_loop_by_steps_and_in_parallel(form):
    given = arrays()
    for run in (partial(bind, form=form), partial(step_by_step, form=form), partial(in_parallel, form=form)):
        assert_trees_close(jax.jit(run)(*given), loop(*given, form))


@pytest.mark.parametrize("sizes", [(1, 3, 70), (3, 2, 2), (5, 4, 38), (2, 0, 4)], ids=str)
def test_kernels_take_any_number_of_rows_units_and_threads(sizes):
    """One row is split by its units; units fill no vector, or several and a rest."""
    given = arrays(*sizes)
    for form in (Form(False, threads=3), Form(True, True, True, True, threads=7)):
        whole = [part[..., : sizes[2] // 2 * 2] if form.paired else part for part in given]
        assert_trees_close(jax.jit(partial(bind, form=form))(*whole), loop(*whole, form))


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS, ids=str)
def test_derivatives_of_both_modes_and_of_two_orders_are_differences(form):
    with jax.enable_x64(True):
        given = tuple(map(jnp.asarray, arrays(1, 3, 4, np.float64)))
        check_grads(jax.jit(lambda *given: tuple(bind(*given, form))), given, order=2, rtol=1e-6, atol=1e-6)


def test_a_gradient_is_the_recurrence_and_no_loop_through_steps():
    gradient = jax.grad(lambda *given: linear_recurrence(*given)[0].sum(), (0, 1, 2))
    program = jax.make_jaxpr(gradient)(*arrays())
    assert str(program).count("linear_recurrence[") == 2
    assert "scan" not in str(program)


def test_vmap_over_any_arguments_is_a_loop_of_calls():
    a, b, first = arrays()
    many = np.stack([a, 2 * a, -a], axis=1)
    found = jax.vmap(linear_recurrence, in_axes=(1, None, None))(many, b, first)
    for at in range(3):
        alone = linear_recurrence(many[:, at], b, first)
        assert_trees_close(jax.tree.map(lambda leaf, at=at: leaf[at], found), alone)


def test_halves_are_computed_in_single_precision():
    a, b, first = (array.astype(jnp.bfloat16) for array in arrays())
    h, last = linear_recurrence(a, b, first)
    assert h.dtype == last.dtype == jnp.float32
    exact = loop(*(np.asarray(array, np.float32) for array in (a, b, first)), Form(reverse=False))
    assert_trees_close((h, last), exact)


def test_other_devices_run_it_in_parallel_and_a_cpu_without_kernels_by_steps(monkeypatch):
    monkeypatch.setattr("rnn_jax.layers.linear_recurrence.why_missing", lambda: "no kernels")

    def lowered(platform):
        traced = jax.jit(linear_recurrence).trace(*map(jnp.asarray, arrays()))
        return traced.lower(lowering_platforms=(platform,)).as_text()

    assert "stablehlo.while" in lowered("cpu")
    assert "stablehlo.while" not in lowered("cuda")
    assert "stablehlo.while" not in lowered("tpu")
