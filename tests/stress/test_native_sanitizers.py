"""The native kernels at random shapes, built with sanitizers and for another processor: in bounds, right."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
KERNELS = ROOT / "rnn_jax" / "native"
ARM = "aarch64-linux-gnu-g++"


def build(compiler, program, *flags):
    sources = sorted(path for path in KERNELS.glob("*.cc") if path.stem != "ffi")
    fuzz = ROOT / "tests" / "stress" / "native_fuzz.cc"
    flags = ["-std=c++17", "-pthread", "-w", *flags, f"-I{KERNELS}"]
    subprocess.run([compiler, *flags, *map(str, sources), str(fuzz), "-o", str(program)], check=True)


def assert_right(*command):
    found = subprocess.run([*map(str, command)], capture_output=True, text=True)
    assert found.returncode == 0, found.stdout[-2000:] + found.stderr[-3000:]


@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")
@pytest.mark.parametrize("sanitizer", ["address,undefined", "thread"])
def test_the_kernels_are_clean_under_sanitizers_at_any_shape(tmp_path, sanitizer):
    build("g++", tmp_path / "fuzz", "-O1", "-g", f"-fsanitize={sanitizer}", "-fno-sanitize-recover=all")
    assert_right(tmp_path / "fuzz", 150)


@pytest.mark.skipif(
    shutil.which(ARM) is None or shutil.which("qemu-aarch64") is None,
    reason="no compiler for 64-bit ARM, or no emulator of one",
)
def test_the_kernels_are_right_on_an_emulated_arm_processor(tmp_path):
    build(ARM, tmp_path / "fuzz", "-O2", "-static")
    assert_right("qemu-aarch64", tmp_path / "fuzz", 60)
