"""The persistent backend without a GPU: what it lowers to on each platform, and what it refuses by name."""

import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnn_jax import RNN, GRUCell, LSTMCell, SimpleCell
from rnn_jax.errors import InputError
from rnn_jax.layers import backends, kernel_calls, persistent
from rnn_jax.native import LIBRARIES, SWITCH, why_missing
from tests.helpers.cases import rnn

ROOT = Path(__file__).parents[2]
CALLS = LIBRARIES["cuda"][1]
NAMES = ["simple", "gru", "lstm"]


@pytest.fixture
def _on_a_gpu(monkeypatch):
    """Makes this machine look as if it had kernels, and a GPU that runs them."""
    gpu = SimpleNamespace(platform="gpu", compute_capability="9.0", device_kind="a GPU")
    monkeypatch.setattr(persistent, "why_missing", lambda *_, **__: "")
    monkeypatch.setattr(kernel_calls, "why_missing", lambda *_, **__: "")
    monkeypatch.setattr(persistent.jax, "devices", lambda: [gpu])


def gradient_of(layer, x, lengths=None):
    """Returns a function of the parameters, and parameters."""
    params = layer.init(jax.random.key(0), x)
    return jax.jit(jax.grad(lambda params: jnp.sin(layer.apply(params, x, lengths)[1]).sum())), params


def lowered(layer, platform, x):
    gradient, params = gradient_of(layer, x, jnp.full(x.shape[0], 2))
    return gradient.trace(params).lower(lowering_platforms=(platform,)).as_text()


@pytest.mark.usefixtures("_on_a_gpu")
@pytest.mark.parametrize("name", NAMES)
def test_a_gradient_is_two_kernels_for_cuda_and_none_elsewhere(name):
    x = jnp.ones((3, 5, 2))
    layer = rnn(name, 7, backend="persistent")
    text = lowered(layer, "cuda", x)
    assert [text.count(f"custom_call @{call}") for call in CALLS] == [1, 1]
    assert "stablehlo.while" not in text
    for platform in ("cpu", "rocm", "tpu"):
        assert "custom_call @rnn_jax" not in lowered(layer, platform, x)


@pytest.mark.usefixtures("_on_a_gpu")
@pytest.mark.parametrize("name", NAMES)
def test_it_means_what_the_fused_backend_computes(name):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(3, 5, 2)), jnp.float32)
    (run, params), (fused, _) = (
        gradient_of(rnn(name, 4, backend=backend), x, jnp.array([5, 0, 3]))
        for backend in ("persistent", "fused")
    )
    close = partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
    jax.tree.map(close, run(params), fused(params))  # on this CPU


@pytest.mark.usefixtures("_on_a_gpu")
def test_vmap_forward_mode_and_export_take_no_kernel():
    x, layer = jnp.ones((3, 5, 2)), rnn("lstm", 4, backend="persistent")
    params = layer.init(jax.random.key(0), x)

    def apply(x):
        return layer.apply(params, x)[1]

    functions = [
        jax.vmap(lambda scale: apply(scale * x)),
        lambda s: jax.jvp(jax.grad(lambda s: apply(s * x).sum()), (s,), (s,)),
    ]
    for function, argument in zip(functions, (jnp.ones(2), jnp.float32(1)), strict=True):
        text = jax.jit(function).trace(argument).lower(lowering_platforms=("cuda",)).as_text()
        assert "custom_call @rnn_jax_persistent_backward" not in text
    assert "custom_call" not in jax.export.export(jax.jit(apply), platforms=["cuda"])(x).mlir_module()


@pytest.mark.usefixtures("_on_a_gpu")
@pytest.mark.parametrize("precision", ["float32", "highest", "tensorfloat32"])
def test_a_context_that_asks_for_float32_products_takes_the_fused_backend(precision):
    with jax.default_matmul_precision(precision):
        text = lowered(rnn("lstm", 7, backend="persistent"), "cuda", jnp.ones((3, 5, 2)))
    assert ("custom_call @rnn_jax" in text) == (precision == "tensorfloat32")


def test_auto_never_takes_it():
    assert backends.runner("auto", LSTMCell.fused_step, *arrays(LSTMCell(4))) is not persistent.run_persistent


def arrays(cell, x=None):
    x = jnp.ones((5, 3, 2)) if x is None else x
    weights = cell.init_with_output(jax.random.key(0), x.shape[-1], method="weights")[0]
    return weights, x, cell.initialize_carry(jax.random.key(0), (x.shape[1], x.shape[2]))


@pytest.mark.usefixtures("_on_a_gpu")
@pytest.mark.parametrize(
    ("cell", "x", "reason"),
    [
        (GRUCell(129), None, "at most 128 units, and the layer has 129"),
        (LSTMCell(4, dtype=jnp.bfloat16), None, "persistent kernels compute in float32"),
        (
            SimpleCell(128),
            jax.ShapeDtypeStruct((2**15, 256, 2), jnp.float32),
            "at most 4194304 steps of rows",
        ),
    ],
)
def test_what_the_kernels_do_not_take_is_refused_by_name(cell, x, reason):
    weights, small, carry = arrays(cell)
    with pytest.raises(InputError, match=f'backend is "persistent", but .*{reason}'):
        backends.runner("persistent", cell.fused_step, weights, small if x is None else x, carry)


@pytest.mark.parametrize(
    ("platform", "capability", "reason"),
    [
        ("cpu", None, "for NVIDIA GPUs, and the default device is a cpu"),
        ("gpu", "7.5", "need an NVIDIA GPU of compute capability 8.0, and .* has 7.5"),
        ("gpu", "gfx90a", "need an NVIDIA GPU of compute capability 8.0, and .* has gfx90a"),
    ],
)
def test_a_device_that_cannot_run_them_is_refused_by_name(monkeypatch, platform, capability, reason):
    device = SimpleNamespace(platform=platform, compute_capability=capability, device_kind="it")
    monkeypatch.setattr(persistent, "why_missing", lambda *_, **__: "")
    monkeypatch.setattr(persistent.jax, "devices", lambda: [device])
    with pytest.raises(InputError, match=reason):
        RNN(LSTMCell(4), backend="persistent").init(jax.random.key(0), jnp.ones((1, 2, 3)))


def test_the_switch_and_a_missing_compiler_are_named(monkeypatch):
    asked = why_missing.__wrapped__
    monkeypatch.setenv(SWITCH, "0")
    assert asked("cuda") == "persistent kernels are turned off (RNN_JAX_NATIVE=0)"
    monkeypatch.setenv(SWITCH, "1")
    monkeypatch.setitem(LIBRARIES, "cuda", ("_nothing", *LIBRARIES["cuda"][1:]))
    assert asked("cuda") == "persistent kernels were not built: there was no nvcc when rnn_jax was installed"


@pytest.mark.slow
@pytest.mark.parametrize(("fails", "switch", "built"), [(0, "1", True), (1, "1", False), (0, "0", False)])
def test_nvcc_is_optional_and_the_switch_holds_for_the_build(tmp_path, fails, switch, built):
    nvcc = tmp_path / "bin" / "nvcc"
    nvcc.parent.mkdir()
    nvcc.write_text(f'#!/bin/sh\nfor last; do :; done\ntest {fails} = 0 && echo "$@" > "$last"\n')
    nvcc.chmod(0o755)
    variables = os.environ | {"CUDA_HOME": str(tmp_path), SWITCH: switch, "CC": "false", "CXX": "false"}
    folders = ["--build-lib", tmp_path / "lib", "--build-temp", tmp_path / "temp"]
    done = subprocess.run(
        [sys.executable, "setup.py", "-q", "build_ext", *folders],
        cwd=ROOT,
        env=variables,
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr
    libraries = list(tmp_path.glob("lib/rnn_jax/native/_persistent*"))
    assert bool(libraries) == built
    if built:
        assert all(
            code in libraries[0].read_text() for code in ("code=sm_80", "code=sm_90", "-cudart static")
        )
