"""Each fault of tests.stress.faults once, in its own process: it forks, as one that runs JAX must not."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.stress.faults import FAULTS, PAGE, SECTION

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the faults are injected through Linux")
def test_after_each_fault_the_run_goes_on_to_the_same_bits(tmp_path):
    page = tmp_path / PAGE
    page.parent.mkdir()
    page.write_text(f"<!-- {SECTION}: begin -->\n<!-- {SECTION}: end -->\n")
    command = [sys.executable, "-m", "tests.stress.faults", f"--trials={len(FAULTS)}", "--seed=1"]
    variables = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert all(f"| {name} | 1 |" in page.read_text() for name in FAULTS)
