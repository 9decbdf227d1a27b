"""The kernels for NVIDIA GPUs, run on a CPU thread by thread, against loops in double precision.

Their source is compiled as it is. This shows that the arithmetic, the indices and the barriers are right. It
shows nothing of their speed.
"""

import ctypes
import os
import shutil
import subprocess
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import jaxlib
import numpy as np
import pytest

from rnn_jax.layers import persistent
from rnn_jax.layers.kernel_calls import ABSENT, Inputs, Plan, Steps

ROOT = Path(__file__).parents[2]
CUDA = ROOT / "rnn_jax" / "native" / "cuda"
HEADERS = Path(jaxlib.__file__).with_name("include")
FLAGS = [
    "-std=c++20",
    "-w",
    "-DRNN_JAX_EMULATED",
    "-DRNN_JAX_SOURCES=0",
    f"-I{ROOT / 'tests' / 'stress'}",
    f"-I{HEADERS}",
    "-x",
    "c++",
]
NVCC = shutil.which("nvcc", path=f"{os.environ.get('CUDA_HOME', '')}/bin") or shutil.which("nvcc")
TARGETS = ("rnn_jax_persistent_forward", "rnn_jax_persistent_backward")
NAMES = {"simple": 0, "lstm": 1, "gru": 2}
GATES = (1, 4, 3)
# Rows that fill no block, one, and two with a rest; units that fill no width, one, and one with a rest.
SHAPES = {
    "one": (1, 1, 1, 1),
    "odd": (3, 5, 4, 7),
    "rest": (9, 11, 3, 17),
    "48": (17, 4, 5, 48),
    "most": (8, 4, 3, 128),
}
pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")


@pytest.fixture(scope="module", autouse=True)
def _emulated(tmp_path_factory):
    """Builds the kernels for this CPU, and registers them in the place of those for a GPU."""
    path = tmp_path_factory.mktemp("emulated") / "kernels.so"
    sources = [CUDA / "persistent.cu", CUDA / "ffi.cc"]
    subprocess.run(["g++", "-O2", "-fPIC", "-shared", *FLAGS, *sources, "-o", path], check=True)
    library = ctypes.CDLL(str(path))
    for name in TARGETS:
        jax.ffi.register_ffi_target(name, jax.ffi.pycapsule(getattr(library, name)), platform="cpu")


def sigmoid(x):
    return 1 / (1 + jnp.exp(-x))


def in_double(kind, reverse, kernel, recurrent, bias, extra, x, c, h, mask, valid):
    """Returns the last c, the last h, and h of every step: one loop over the steps, nothing kept.

    Columns of sigmoids come halved, as the backends have them.
    """
    hidden = [None] * x.shape[1]
    for t in reversed(range(x.shape[1])) if reverse else range(x.shape[1]):
        z, q = x[:, t] @ kernel + bias[None], (h * mask) @ recurrent
        if kind == 0:
            new_c, new_h = c, jnp.tanh(z + q)
        elif kind == 1:
            i, f, g, o = jnp.split(z + q, 4, -1)
            new_c = sigmoid(2 * f) * c + sigmoid(2 * i) * jnp.tanh(g)
            new_h = sigmoid(2 * o) * jnp.tanh(new_c)
        else:
            (r, u, n), (r_q, u_q, n_q) = jnp.split(z, 3, -1), jnp.split(q, 3, -1)
            n = jnp.tanh(n + sigmoid(2 * (r + r_q)) * (n_q + extra[None]))
            update = sigmoid(2 * (u + u_q))
            new_c, new_h = c, (1 - update) * n + update * h
        keep = valid[:, t, None]
        c, h = jnp.where(keep, new_c, c) if kind == 1 else c, jnp.where(keep, new_h, h)
        hidden[t] = h
    return c, h, jnp.stack(hidden, 1) if hidden else jnp.zeros((*x.shape[:2], h.shape[-1]))


def arguments(kind, batch, time, size, units, ragged=True, masked=True, scale=1.0):
    """Returns what a layer reads, and the cotangents of what it gives, times a scale."""
    random, gates = np.random.default_rng(units), GATES[kind]

    def normal(*shape, by=1.0):
        return jnp.asarray(by * random.normal(size=shape), jnp.float32)

    lengths = random.integers(0, time + 1, batch)
    inputs = Inputs(
        normal(batch, time, size),
        normal(size, gates * units, by=size**-0.5),
        normal(units, gates * units, by=units**-0.5),
        normal(gates * units),
        normal(units) if kind == 2 else normal(*ABSENT),
        normal(batch, units) if kind == 1 else normal(*ABSENT),
        normal(batch, units, by=0.5),
        jnp.asarray(2 * random.integers(0, 2, (batch, units)), jnp.float32) if masked else normal(*ABSENT),
        jnp.asarray(np.arange(time) < lengths[:, None]) if ragged else jnp.zeros(ABSENT, bool),
    )
    last_c = normal(batch, units, by=scale) if kind == 1 else normal(*ABSENT)
    return inputs, (last_c, normal(batch, units, by=scale), normal(batch, time, units, by=scale))


def expected(kind, reverse, inputs, cotangents):
    """Returns the outputs and the gradients of `Tangents`, in double precision."""
    with jax.enable_x64(True):
        double = [jnp.asarray(np.asarray(a), bool if a.dtype == bool else np.float64) for a in inputs]
        inputs, cotangents = (
            Inputs(*double),
            tuple(jnp.asarray(np.asarray(ct), np.float64) for ct in cotangents),
        )
        batch, time, _ = inputs.x.shape
        mask = inputs.hidden_mask if inputs.hidden_mask.shape != ABSENT else jnp.ones_like(inputs.first_h)
        valid = inputs.valid if inputs.valid.shape != ABSENT else jnp.ones((batch, time), bool)

        def run(kernel, recurrent, bias, extra, x, c, h):
            return in_double(kind, reverse, kernel, recurrent, bias, extra, x, c, h, mask, valid)

        primals = (*inputs[1:5], inputs.x, inputs.first_c, inputs.first_h)
        outputs, transpose = jax.vjp(run, *primals)
        return [np.asarray(a) for a in outputs], [np.asarray(a) for a in transpose(cotangents)]


def found(plan, inputs, cotangents):
    """Returns the same from the kernels and the products around them."""
    steps = Steps(*jax.jit(partial(persistent.forward_call, plan=plan))(*inputs))
    read = (*inputs, steps.h, steps.c, steps.kept, *cotangents)
    return steps[:3], jax.jit(partial(persistent.backward_call, plan=plan))(*read)


def assert_close(found, expected, relative):
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape
        scale = np.abs(other).max(initial=0)
        np.testing.assert_allclose(one, other, rtol=0, atol=relative * max(scale, 1e-30))


@pytest.mark.parametrize(("reverse", "keep"), [(False, 2), (True, 1)])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", NAMES)
def test_values_and_gradients_are_those_of_loops_in_double_precision(name, shape, reverse, keep):
    kind = NAMES[name]
    inputs, cotangents = arguments(kind, *SHAPES[shape], ragged=shape != "one", masked=shape != "odd")
    plan = Plan(kind, reverse, keep, 1, moves=True, platform="cuda")
    values, gradients = found(plan, inputs, cotangents)
    right, right_gradients = expected(kind, reverse, inputs, cotangents)
    assert_close(values, right, 2e-3)  # 11 bits of mantissa, some steps long
    assert_close(gradients, right_gradients, 3e-3)


@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1e12])
@pytest.mark.parametrize("name", NAMES)
def test_gradients_of_any_size_are_as_exact(name, scale):
    kind = NAMES[name]
    inputs, cotangents = arguments(kind, *SHAPES["rest"], scale=scale)
    _, gradients = found(Plan(kind, False, 2, 1, moves=True, platform="cuda"), inputs, cotangents)
    assert_close(gradients, expected(kind, False, inputs, cotangents)[1], 3e-3)


@pytest.mark.parametrize(("batch", "time"), [(0, 3), (3, 0)])
@pytest.mark.parametrize("keep", [1, 2])
@pytest.mark.parametrize("name", NAMES)
def test_no_rows_or_no_steps_give_the_first_carry_and_pass_cotangents_on(name, keep, batch, time):
    kind = NAMES[name]
    inputs, cotangents = arguments(kind, batch, time, 2, 5, ragged=False)
    (c, h, _), gradients = found(Plan(kind, False, keep, 1, moves=True, platform="cuda"), inputs, cotangents)
    np.testing.assert_array_equal(h, inputs.first_h)
    np.testing.assert_array_equal(c, inputs.first_c)
    np.testing.assert_array_equal(gradients[5], cotangents[0])
    np.testing.assert_array_equal(gradients[6], cotangents[1])
    assert not any(np.any(gradient) for gradient in gradients[:4])


@pytest.mark.parametrize("name", NAMES)
def test_rows_that_have_ended_give_their_carry_at_every_later_step(name):
    kind = NAMES[name]
    inputs, cotangents = arguments(kind, 10, 6, 2, 5)
    lengths = np.array([2, 3, 0, 1, 3, 2, 0, 1, 5, 6])
    inputs = inputs._replace(valid=jnp.asarray(np.arange(6) < lengths[:, None]))
    (_, h, steps), _ = found(Plan(kind, False, 2, 1, platform="cuda"), inputs, cotangents)
    np.testing.assert_array_equal(h, steps[:, -1])
    for step in (3, 4, 5):  # no row of the first block runs
        np.testing.assert_array_equal(steps[:8, step], h[:8])
    np.testing.assert_array_equal(steps[2], jnp.broadcast_to(inputs.first_h[2], (6, 5)))


def test_without_cotangents_of_the_steps_and_of_x_nothing_else_changes():
    inputs, cotangents = arguments(1, *SHAPES["rest"])
    none, plan = jnp.zeros(ABSENT), Plan(1, False, 2, 1, moves=True, platform="cuda")
    zeros = jnp.zeros_like(cotangents[2])
    whole = found(plan, inputs, (*cotangents[:2], zeros))[1]
    short = found(plan._replace(moves=False), inputs, (*cotangents[:2], none))[1]
    assert short[4].shape == ABSENT
    for index in (0, 1, 2, 5, 6):
        np.testing.assert_array_equal(short[index], whole[index])


def test_without_gradients_of_weights_nothing_else_changes():
    inputs, cotangents = arguments(1, *SHAPES["rest"])
    plan = Plan(1, False, 2, 1, moves=True, platform="cuda")
    whole = found(plan, inputs, cotangents)[1]
    frozen = found(plan._replace(learns=False), inputs, cotangents)[1]
    assert [part.shape for part in frozen[:4]] == [ABSENT] * 4
    for index in (4, 5, 6):
        np.testing.assert_array_equal(frozen[index], whole[index])


def test_sizes_that_do_not_fit_are_refused_before_a_kernel_runs():
    inputs, _ = arguments(1, 2, 3, 4, 5)
    call = jax.jit(partial(persistent.forward_call, plan=Plan(1, False, 2, 1, platform="cuda")))
    with pytest.raises(Exception, match="c has a shape that does not fit"):
        jax.block_until_ready(call(*inputs._replace(first_c=jnp.zeros((2, 4)))))
    with pytest.raises(Exception, match="hidden_mask has a shape that does not fit"):
        jax.block_until_ready(call(*inputs._replace(hidden_mask=jnp.zeros((3, 5)))))


@pytest.mark.parametrize(("sanitizer", "threads"), [("address,undefined", False), ("thread", True)])
def test_the_kernels_are_clean_under_sanitizers(tmp_path, sanitizer, threads):
    program = tmp_path / "run"
    options = ["-g", "-O1", f"-fsanitize={sanitizer}", "-fno-sanitize-recover=all", "-pthread"]
    sources = [CUDA / "persistent.cu", ROOT / "tests" / "stress" / "persistent_fuzz.cc"]
    mode = ["-DRNN_JAX_THREADS"] if threads else []
    subprocess.run(["g++", *options, *mode, f"-I{CUDA}", *FLAGS, *sources, "-o", program], check=True)
    variables = os.environ | {"TSAN_OPTIONS": "halt_on_error=1"}
    rounds = "20" if threads else "40"
    done = subprocess.run([program, rounds], capture_output=True, text=True, env=variables)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]


@pytest.mark.skipif(NVCC is None, reason="no nvcc, in CUDA_HOME or on the PATH")
@pytest.mark.parametrize("architecture", ["sm_80", "sm_90"])
def test_nvcc_compiles_every_kernel_without_spills(tmp_path, architecture):
    command = [
        "nvcc",
        "-std=c++17",
        "-O3",
        "--expt-relaxed-constexpr",
        f"-arch={architecture}",
        "-Xptxas",
        "-v",
    ]
    source, built = CUDA / "persistent.cu", tmp_path / "kernels.o"
    done = subprocess.run([*command, "-c", source, "-o", built], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("bytes spill stores") >= 36  # three cells, six widths, forward and backward
    spilled = [
        line for line in done.stderr.splitlines() if "spill" in line and "0 bytes spill stores, 0" not in line
    ]
    assert not spilled
