"""Training loops over several CPU devices that read no result: they end, beside two busy processes."""

import os
import signal
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow
SOON = (
    "--xla_cpu_collective_call_warn_stuck_timeout_seconds=5 "
    "--xla_cpu_collective_call_terminate_timeout_seconds=5"
)


@pytest.fixture(scope="module", autouse=True)
def load():
    loop = f"import os\nwhile os.getppid() == {os.getpid()}: pass"
    busy = [subprocess.Popen([sys.executable, "-c", loop]) for _ in range(2)]
    yield
    for process in busy:
        process.kill()
        process.wait()


def queued(*arguments, seconds=300, **variables):
    return subprocess.run(
        [sys.executable, "-m", "tests.stress.queued_steps", *map(str, arguments)],
        env=os.environ | {"XLA_FLAGS": ""} | variables,
        capture_output=True,
        text=True,
        timeout=seconds,
    )


@pytest.mark.parametrize("native", ["0", "1"])
@pytest.mark.parametrize("units", [4, 32])
@pytest.mark.parametrize("devices", [2, 4])
def test_a_loop_that_never_reads_its_metrics_ends(devices, units, native):
    done = queued(devices, units, 1000, RNN_JAX_NATIVE=native)
    assert done.returncode == 0, done.stderr[-2000:]
    assert float(done.stdout) < 0.1


@pytest.mark.parametrize("devices", [2, 4])
def test_without_the_bound_the_loop_hangs(devices):
    """If this fails, XLA no longer needs the bound, and rnn_jax/distributed/pacing.py can go."""
    done = queued(devices, 32, 5000, "free", XLA_FLAGS=SOON, RNN_JAX_NATIVE="0")
    assert done.returncode == -signal.SIGABRT, done.stdout
    assert "Termination timeout for `all reduce" in done.stderr


def test_the_bound_changes_no_bit():
    found = [queued(2, 4, 20, *free, RNN_JAX_NATIVE="0").stdout for free in ((), ("free",))]
    assert found[0] == found[1] != ""
