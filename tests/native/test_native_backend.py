"""The native kernels against the scan: values and gradients at any shape, and what they refuse."""

import os
import re
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from rnn_jax import RNN, Bidirectional, GRUCell, LSTMCell, SimpleCell, Stacked
from rnn_jax.errors import InputError
from rnn_jax.native import SWITCH, built_from, cores, sources, why_missing
from tests.helpers.cases import EVERY_CELL, rnn
from tests.helpers.oracle import random_like

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(bool(why_missing()), reason=why_missing())
NAMES = ["simple", "gru", "lstm"]
BY_KERNELS = [(name, {"backend": "native", "remat": remat}) for name in NAMES for remat in (False, True)]
BY_KERNELS += [(name, {"backend": "linear"}) for name in ("min_gru", "min_lstm", "rglru")]
# Units that fill no vector, one, and several with a rest; rows that fill no tile, and tiles with a rest.
SHAPES = {"one": (1, 1, 1, 1), "odd": (5, 7, 3, 4), "rest": (9, 11, 2, 37), "wide": (13, 4, 17, 64)}
FROZEN = (max(9, cores()), 11, 2, 37)  # each thread of a minGRU's kernel has to have a row


def weighed(layer, params, x, carry, lengths, **options):
    """Returns a scalar of all outputs and the whole last carry, each entry with a weight of its own."""
    leaves = jax.tree.leaves(layer.apply({"params": params}, x, lengths, carry, **options))
    return sum((random_like(leaf, seed) * leaf).sum() for seed, leaf in enumerate(leaves))


def values_and_gradients(layer, params, x, carry, lengths, **options):
    def run(params, x, carry):
        values = layer.apply({"params": params}, x, lengths, carry, **options)
        return values, jax.grad(partial(weighed, layer), (0, 1, 2))(params, x, carry, lengths, **options)

    return jax.jit(run)(params, x, carry)


def arguments(name, batch, time, size, units, seed=0):
    cell = EVERY_CELL[name][0](units)
    x = np.random.default_rng(seed).normal(size=(batch, time, size)).astype(np.float32)
    shapes = jax.eval_shape(RNN(cell).init, jax.random.key(0), x)
    carry = random_like(cell.initialize_carry(jax.random.key(0), (batch, size)), seed + 1)
    lengths = np.random.default_rng(seed).integers(-1, time + 2, batch)
    # Weights so small that a rounding error does not grow from step to step.
    params = jax.tree.map(lambda leaf: leaf / np.sqrt(2 * units), random_like(shapes["params"], seed + 2))
    return params, x, carry, lengths


def assert_close(found, expected, relative):
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        scale = max(float(np.abs(other).max(initial=0)), 1)
        np.testing.assert_allclose(one, other, rtol=0, atol=relative * scale)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("remat", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", NAMES)
def test_values_and_gradients_are_those_of_the_scan(name, shape, remat, reverse):
    params, x, carry, lengths = arguments(name, *SHAPES[shape])
    lengths = lengths if shape != "odd" or remat else None
    native = rnn(name, SHAPES[shape][3], backend="native", reverse=reverse, remat=remat)
    scan = rnn(name, SHAPES[shape][3], backend="scan", reverse=reverse)
    found, expected = (values_and_gradients(layer, params, x, carry, lengths) for layer in (native, scan))
    assert_close(found[0], expected[0], 2e-6)
    assert_close(found[1], expected[1], 1e-5)


@pytest.mark.skipif(bool(why_missing(dtype="bfloat16")), reason=why_missing(dtype="bfloat16"))
@pytest.mark.parametrize("time", [1, 11])
@pytest.mark.parametrize("name", NAMES)
def test_bfloat16_products_are_those_of_the_fused_backend(name, time):
    """After one step but for float32's rounding; later a number near a tie may be rounded the other way."""
    batch, _, size, units = SHAPES["rest"]
    params, x, carry, lengths = arguments(name, batch, time, size, units)
    options = {"deterministic": False, "rngs": {"dropout": jax.random.key(5)}}
    found, expected, exact = (
        values_and_gradients(
            RNN(EVERY_CELL[name][0](units, dtype=dtype), backend=backend, recurrent_dropout=0.5),
            params, x, carry, lengths, **options,
        )
        for backend, dtype in (("native", jnp.bfloat16), ("fused", jnp.bfloat16), ("fused", None))
    )  # fmt: skip
    assert_close(found[0], expected[0], 2e-6 if time == 1 else 1e-2)
    assert_close(found[1], expected[1], 1e-2)
    assert [leaf.dtype for leaf in jax.tree.leaves(found)] == [
        leaf.dtype for leaf in jax.tree.leaves(expected)
    ]
    assert not np.array_equal(jax.tree.leaves(found[1])[0], jax.tree.leaves(exact[1])[0])  # it does round


@pytest.mark.parametrize("name", NAMES)
def test_dropout_on_the_state_drops_what_the_scan_drops(name):
    params, x, carry, lengths = arguments(name, *SHAPES["rest"])
    options = {"deterministic": False, "rngs": {"dropout": jax.random.key(5)}}
    found, expected = (
        values_and_gradients(
            rnn(name, 37, backend=backend, recurrent_dropout=0.5), params, x, carry, lengths, **options
        )
        for backend in ("native", "scan")
    )
    assert_close(found[0], expected[0], 2e-6)
    assert_close(found[1], expected[1], 1e-5)


@pytest.mark.parametrize(("batch", "time"), [(0, 3), (3, 0), (0, 0)])
@pytest.mark.parametrize("name", NAMES)
def test_an_empty_batch_gives_the_first_carry_and_no_gradient(name, batch, time):
    params, x, carry, _ = arguments(name, batch, time, 3, 4)
    (last, outputs), gradients = values_and_gradients(rnn(name, backend="native"), params, x, carry, None)
    assert outputs.shape == (batch, time, 4)
    jax.tree.map(np.testing.assert_array_equal, last, carry)
    assert not any(leaf.any() for leaf in jax.tree.leaves(gradients[0]))


@pytest.mark.parametrize("name", NAMES)
def test_nan_in_padding_reaches_nothing(name):
    params, x, carry, lengths = arguments(name, *SHAPES["odd"])
    padding = np.arange(x.shape[1])[:, None] >= np.asarray(lengths)[:, None, None]
    layer = rnn(name, backend="native")
    clean = values_and_gradients(layer, params, np.where(padding, np.float32(0), x), carry, lengths)
    dirty = values_and_gradients(layer, params, np.where(padding, np.float32(np.nan), x), carry, lengths)
    jax.tree.map(np.testing.assert_array_equal, dirty, clean)


@pytest.mark.parametrize(("name", "options"), BY_KERNELS)
def test_frozen_weights_change_no_other_gradient_and_have_none(name, options):
    params, x, carry, lengths = arguments(name, *FROZEN)
    layer = rnn(name, 37, **options)
    gradient = jax.grad(partial(weighed, layer), (1, 2))
    found = jax.jit(gradient)(params, x, carry, lengths)
    *_, expected = values_and_gradients(layer, params, x, carry, lengths)
    jax.tree.map(np.testing.assert_array_equal, found, expected[1:])
    program = str(jax.make_jaxpr(gradient)(params, x, carry, lengths))
    assert "backward[" in program
    assert "learns=False" in program  # the kernel is asked for no gradient of a weight


@pytest.mark.slow
@pytest.mark.parametrize(("name", "options"), BY_KERNELS)
def test_frozen_weights_in_forward_mode_twice_and_under_vmap_are_those_of_the_scan(name, options):
    params, x, carry, lengths = arguments(name, *FROZEN)

    def of(**options):
        run = partial(weighed, rnn(name, 37, **options), params, carry=carry, lengths=lengths)

        def everything(x):
            gradient, change = jax.grad(run), jnp.ones_like(x)
            forward, over = (jax.jvp(function, (x,), (change,))[1] for function in (run, gradient))
            twice = jax.grad(lambda x: jnp.sum(jnp.sin(gradient(x))))(x)
            return forward, over, twice, jax.vmap(gradient)(jnp.stack([x, 2 * x]))

        return jax.jit(everything)(x)

    assert_close(of(**options), of(backend="scan"), 1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_forward_mode_second_derivatives_and_vmap_are_those_of_the_scan(name):
    params, x, carry, lengths = arguments(name, 3, 4, 2, 3)

    def of(backend):
        run = partial(weighed, rnn(name, 3, backend=backend))

        def everything(params, x):
            gradient = jax.grad(run, (0, 1))
            change = jax.tree.map(jnp.ones_like, (params, x))
            forward = jax.jvp(lambda p, x: run(p, x, carry, lengths), (params, x), change)
            over = jax.jvp(lambda p, x: gradient(p, x, carry, lengths), (params, x), change)[1]
            twice = jax.grad(lambda x: jnp.sum(jnp.sin(gradient(params, x, carry, lengths)[1])))(x)
            many = jax.vmap(lambda x: gradient(params, x, carry, lengths))(jnp.stack([x, 2 * x]))
            return forward, over, twice, many

        return jax.jit(everything)(params, x)

    assert_close(of("native"), of("scan"), 1e-5)


def test_the_bits_are_the_same_from_run_to_run():
    params, x, carry, lengths = arguments("lstm", 9, 11, 2, 37)
    layer = rnn("lstm", 37, backend="native")
    runs = [values_and_gradients(layer, params, x, carry, lengths) for _ in range(3)]
    for other in runs[1:]:
        jax.tree.map(np.testing.assert_array_equal, runs[0], other)


def test_rows_do_not_depend_on_their_batch():
    params, x, carry, _ = arguments("gru", 9, 11, 2, 37)
    run = jax.jit(lambda x, carry: rnn("gru", 37, backend="native").apply({"params": params}, x, None, carry))
    whole = run(x, carry)
    for row in (0, 4, 8):
        jax.tree.map(
            lambda one, many, row=row: np.testing.assert_array_equal(one[0], many[row]),
            run(x[row : row + 1], carry[row : row + 1]),
            whole,
        )


def test_a_stack_of_both_directions_takes_the_kernels_and_equals_the_scan():
    def stack(backend):
        layer = Bidirectional(RNN(LSTMCell(5), backend=backend), RNN(GRUCell(4), backend=backend))
        return Stacked([layer, RNN(SimpleCell(3), backend=backend)])

    x = np.random.default_rng(0).normal(size=(3, 6, 2)).astype(np.float32)
    lengths = jnp.array([6, 0, 3])
    params = stack("scan").init(jax.random.key(0), x, lengths)["params"]

    def run(backend):
        def loss(params, x):
            outputs = stack(backend).apply({"params": params}, x, lengths)[1]
            return (random_like(outputs, 1) * outputs).sum()

        return jax.jit(jax.value_and_grad(loss, (0, 1)))(params, x)

    assert_close(run("native"), run("scan"), 1e-5)
    many = jnp.ones((32, 100, 2))  # enough work for "auto"
    text = jax.jit(lambda x: stack("auto").apply({"params": params}, x)).lower(many).as_text()
    assert text.count("stablehlo.custom_call @rnn_jax_forward") == 3


def test_devices_of_a_shard_map_run_their_own_rows():
    if jax.device_count() < 2:
        pytest.skip("one device")
    params, x, carry, lengths = arguments("lstm", 4, 6, 3, 4)
    mesh = jax.make_mesh((2,), ("rows",))
    rows = PartitionSpec("rows")

    def gradient(backend):
        layer = rnn("lstm", backend=backend)

        def loss(params, x, carry, lengths):
            (c, h), outputs = layer.apply({"params": params}, x, lengths, carry)
            return jax.lax.psum(jnp.sin(outputs).sum() + (c * h).sum(), "rows")

        split = jax.shard_map(
            loss, mesh=mesh, in_specs=(PartitionSpec(), rows, rows, rows), out_specs=PartitionSpec()
        )
        return jax.jit(jax.value_and_grad(split, (0, 1, 2)))(params, x, carry, jnp.asarray(lengths))

    assert_close(gradient("native"), gradient("scan"), 1e-5)


def test_an_exported_layer_has_no_call_of_a_kernel():
    layer = rnn("lstm", backend="native")
    x = jnp.ones((2, 3, 3))
    params = layer.init(jax.random.key(0), x)
    exported = jax.export.export(jax.jit(layer.apply))(params, x)
    assert "custom_call" not in exported.mlir_module()
    jax.tree.map(
        partial(np.testing.assert_allclose, rtol=1e-5), exported.call(params, x), layer.apply(params, x)
    )


@pytest.mark.parametrize(
    ("layer", "x", "reason"),
    [
        (rnn("norm_lstm", backend="native"), jnp.ones((1, 2, 3)), "normalises inside every step"),
        (
            RNN(LSTMCell(4, dtype=jnp.float16), backend="native"),
            jnp.ones((1, 2, 3)),
            "do not multiply float16",
        ),
        (RNN(LSTMCell(4), backend="native"), jnp.ones((1, 2, 3), jnp.bfloat16), "has bfloat16, float32"),
    ],
)
def test_what_the_kernels_do_not_take_is_refused_by_name(layer, x, reason):
    with pytest.raises(InputError, match=reason):
        layer.init(jax.random.key(0), x)


def test_kernels_of_other_sources_are_not_taken(monkeypatch, tmp_path):
    asked, built = why_missing.__wrapped__, sources.digest("_kernels")
    assert not asked()
    shutil.copytree(sources.FOLDER, tmp_path / "native")
    monkeypatch.setattr(sources, "FOLDER", tmp_path / "native")
    assert sources.digest("_kernels") == built  # wherever they lie
    with (tmp_path / "native" / "gated.inc").open("a") as file:
        file.write("// a line more\n")
    assert asked() == "native kernels were built from other sources than those here: install rnn_jax again"
    assert built_from(SimpleNamespace()) is None  # a library of a time when none said it


@pytest.mark.slow
@pytest.mark.parametrize(
    ("switch", "expected"), [("0", "turned off"), ("avx2", "AVX2"), ("portable", "portable|NEON")]
)
def test_a_variable_chooses_the_kernels(switch, expected):
    program = """
import jax, jax.numpy as jnp, numpy as np
from rnn_jax import RNN, GRUCell, LSTMCell, SimpleCell
from rnn_jax.native import processor, why_missing
print(why_missing() or processor())
x, lengths = jax.random.normal(jax.random.key(0), (5, 6, 3)), jnp.array([6, 2, 0, 5, 1])
for cell in (SimpleCell, GRUCell, LSTMCell):
    layers = [RNN(cell(21), backend=backend) for backend in ("auto", "scan")]
    params = layers[0].init(jax.random.key(1), x)
    ours, scan = (jax.grad(lambda p: jnp.sin(l.apply(p, x, lengths)[1]).sum())(params) for l in layers)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), ours, scan)
"""
    variables = os.environ | {SWITCH: switch}
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=variables, cwd=ROOT
    )
    assert found.returncode == 0, found.stderr
    assert re.search(expected, found.stdout)
