"""What is chosen for the machine, and that a user's choice stays."""

import subprocess
import sys
from types import SimpleNamespace

import pytest

from configs import language_model, smoke, tagger
from rnn_jax.distributed import host
from rnn_jax.errors import InputError
from rnn_jax.models.encoder import CELLS
from rnn_jax.training import TASKS, command


@pytest.fixture
def variables(monkeypatch):
    for name in ("XLA_FLAGS", "GLIBC_TUNABLES"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def test_a_device_is_chosen_for_each_core_and_the_users_flags_are_kept(variables):
    variables.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=false")
    flags = host.environment()["XLA_FLAGS"].split()
    assert flags == [
        "--xla_cpu_enable_fast_math=false",
        f"{host.DEVICE_COUNT_FLAG}={host.cores()}",
        host.FUSION,
    ]
    assert f"{host.DEVICE_COUNT_FLAG}=3" in host.environment(3)["XLA_FLAGS"].split()


def test_what_the_user_has_set_is_left_alone(variables):
    variables.setenv("XLA_FLAGS", f"{host.DEVICE_COUNT_FLAG}=5 {host.FUSION_FLAG}=a=1")
    variables.setenv("GLIBC_TUNABLES", "glibc.malloc.check=1")
    assert host.environment(2) == {}
    assert f"{host.DEVICE_COUNT_FLAG}=5" in host.describe_environment()


def test_recipes_have_the_fusion_flag_and_it_names_what_exists():
    for recipe in (smoke, language_model, tagger):
        config = recipe.get_config()
        assert host.fusion_pays(config.task, config.model.cell), recipe.__name__
    assert set(host.FUSED_CELLS) <= set(CELLS)
    assert set(host.FUSED_TASKS) <= set(TASKS)


@pytest.mark.parametrize(("task", "cell"), [("stars", "lstm"), ("classify", "mine"), ("", ""), ("tag", None)])
def test_code_of_a_user_is_compiled_without_the_fusion_flag(variables, task, cell):
    """`jax.lax.associative_scan` takes 500 ms with the flag where it takes 1 without."""
    flags = host.environment(2, fusion=host.fusion_pays(task, cell))["XLA_FLAGS"]
    assert flags == f"{host.DEVICE_COUNT_FLAG}=2"


@pytest.mark.parametrize(("cell", "fusion"), [("gru", True), ("mine", False)])
def test_a_command_asks_for_the_flag_by_its_cell(monkeypatch, cell, fusion):
    def stop(*asked):
        raise InputError(f"asked {asked}")

    config = smoke.get_config()
    config.model.cell = cell
    monkeypatch.setattr(command, "restart", stop)
    monkeypatch.setattr(command, "chosen_config", lambda _: ("smoke", config, ""))
    with pytest.raises(SystemExit, match=rf"float32', False, {fusion}\)"):
        command.run_command(SimpleNamespace(workdir=None, verbosity=-1))


@pytest.mark.slow
def test_a_command_starts_again_once_with_its_arguments():
    code = (
        "import os, sys; from rnn_jax.distributed import host;"
        "print('begins', flush=True); host.restart(3, 32);"
        "import jax; print(jax.device_count(), sys.argv[1:], 'GLIBC_TUNABLES' in os.environ)"
    )
    clean = {
        name: value for name, value in host.os.environ.items() if name not in ("XLA_FLAGS", "GLIBC_TUNABLES")
    }
    done = subprocess.run(
        [sys.executable, "-c", code, "a", "--b=c d"], env=clean, capture_output=True, text=True
    )
    assert done.stdout.splitlines()[:2] == ["begins", "begins"], done.stderr
    assert done.stdout.splitlines()[2].startswith("3 ['a', '--b=c d']")


@pytest.mark.slow
def test_xla_takes_the_fusion_option_and_counts_the_same():
    """The option has no documentation: that XLA still knows it, and that a step then has fewer kernels."""
    code = (
        "import jax, jax.numpy as jnp; a = jnp.ones((64, 64));"
        "step = lambda c, x: ((jnp.tanh(c[0] + x), jnp.tanh(c[1] * x)), (c[0] * x, c[1] + x));"
        "run = jax.jit(lambda a: jax.lax.scan(step, (a, a), jnp.stack([a, a, a]))).lower(a).compile();"
        "print(run.as_text().count('fusion('))"
    )
    counts = []
    for flags in ("", host.FUSION):
        environment = {**host.os.environ, "XLA_FLAGS": flags}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        counts.append(int(done.stdout))
    assert counts[1] < counts[0]


def test_layers_that_the_kernels_run_have_one_device(monkeypatch):
    monkeypatch.setattr(host, "why_missing", lambda *, dtype: "" if dtype == "float32" else "no units")
    assert host.cpu_devices(32) == 1
    assert host.cpu_devices(32, layer_norm=True) == host.cpu_devices(32, "bfloat16") == host.cores()


def test_wide_layers_without_kernels_share_one_device(monkeypatch):
    monkeypatch.setattr(host, "why_missing", lambda *, dtype: "not built")
    assert host.cpu_devices(511) == host.cpu_devices(1023, "bfloat16") == host.cores()
    assert host.cpu_devices(512) == host.cpu_devices(1024, "bfloat16") == 1
