"""The native kernels at random shapes, built with sanitizers: in bounds, without a race, and right."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
KERNELS = ROOT / "rnn_jax" / "native"


@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")
@pytest.mark.parametrize("sanitizer", ["address,undefined", "thread"])
def test_the_kernels_are_clean_under_sanitizers_at_any_shape(tmp_path, sanitizer):
    sources = sorted(path for path in KERNELS.glob("*.cc") if path.stem != "ffi")
    program = tmp_path / "fuzz"
    flags = [
        "-std=c++17",
        "-O1",
        "-g",
        f"-fsanitize={sanitizer}",
        "-fno-sanitize-recover=all",
        "-pthread",
        "-w",
    ]
    fuzz = ROOT / "tests" / "stress" / "native_fuzz.cc"
    command = [
        "g++",
        *flags,
        f"-I{KERNELS}",
        *map(str, sources),
        str(fuzz),
        "-o",
        str(program),
    ]
    subprocess.run(command, check=True)
    found = subprocess.run([program, "150"], capture_output=True, text=True)
    assert found.returncode == 0, found.stdout[-2000:] + found.stderr[-3000:]
