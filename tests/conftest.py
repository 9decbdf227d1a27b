"""Which tests run, how they are compiled, and their caches, which are in a temporary folder."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

STRESS = Path(__file__).parent / "stress"


# A test runs a program once or twice: XLA's optimisations would take most of the time of the tests.
QUICK = "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"


def pytest_addoption(parser):
    parser.addoption(
        "--optimised",
        action="store_true",
        help="compile as users do, in three times the time; the long suites always do",
    )


def asks_for_stress(config):
    """Returns whether the long suites are asked for: `pytest tests/stress`."""
    paths = [Path(argument.split("::")[0]).resolve() for argument in config.args]
    return any(STRESS in (path, *path.parents) for path in paths)


def pytest_ignore_collect(collection_path, config):
    """Leaves the long suites out, unless they are asked for."""
    return True if collection_path == STRESS and not asks_for_stress(config) else None


def pytest_configure(config):
    """Compiles fast rather than well, in this process and all that it starts, where XLA knows the flags.

    No rank is promoted in silence.
    """
    jax.config.update("jax_numpy_rank_promotion", "raise")
    as_given = config.option.optimised or asks_for_stress(config) or "XLA_FLAGS" in os.environ
    if not as_given and accepts(QUICK):
        os.environ["XLA_FLAGS"] = QUICK


def accepts(flags):
    """Returns whether XLA knows these flags: it ends a process with one that it does not know."""
    start = [sys.executable, "-c", "import jax; jax.devices()"]
    return not subprocess.run(start, capture_output=True, env=os.environ | {"XLA_FLAGS": flags}).returncode


# The files that take longest, which begin first: two workers then end at about the same time.
LONGEST = (
    "training/test_loop.py",
    "distributed/test_processes.py",
    "properties/test_transformations.py",
    "layers/test_fused.py",
    "docs/test_research.py",
    "training/test_parameter_groups.py",
    "inference/test_export.py",
    "models/test_losses.py",
)


def pytest_collection_modifyitems(items):
    places = {STRESS.parent / file: place for place, file in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path, len(places)))


@pytest.fixture(scope="session", autouse=True)
def own_caches(tmp_path_factory):
    folder = tmp_path_factory.mktemp("caches")
    # Tests compile the same small programs again and again: most of their time.
    jax.config.update("jax_compilation_cache_dir", str(folder / "xla"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RNN_JAX_CACHE", str(folder / "rnn_jax"))
        patch.setenv("HF_DATASETS_CACHE", str(folder / "datasets"))
        if "datasets" in sys.modules:  # it reads its environment when it is imported
            patch.setattr("datasets.config.HF_DATASETS_CACHE", folder / "datasets")
        yield
