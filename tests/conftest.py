"""Which tests run, and their caches: those of the library, `datasets` and XLA are in a temporary folder."""

import sys
from pathlib import Path

import jax
import pytest

STRESS = Path(__file__).parent / "stress"


def pytest_ignore_collect(collection_path, config):
    """Leaves the long suites out, unless they are asked for: `pytest tests/stress`."""
    asked = any(
        STRESS in (path := Path(argument.split("::")[0]).resolve(), *path.parents) for argument in config.args
    )
    return True if collection_path == STRESS and not asked else None


def pytest_configure(config):
    """Refuses to promote ranks, and compiles fast rather than well for a quick look, `-m "not slow"`."""
    jax.config.update("jax_numpy_rank_promotion", "raise")
    if config.option.markexpr == "not slow":
        jax.config.update("jax_disable_most_optimizations", True)


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
