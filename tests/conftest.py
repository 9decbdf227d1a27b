"""Keeps the caches of a test run, the library's and that of `datasets`, in the run's own temporary folder."""

import sys

import pytest


@pytest.fixture(scope="session", autouse=True)
def own_caches(tmp_path_factory):
    folder = tmp_path_factory.mktemp("caches")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RNN_JAX_CACHE", str(folder / "rnn_jax"))
        patch.setenv("HF_DATASETS_CACHE", str(folder / "datasets"))
        if "datasets" in sys.modules:  # it reads its environment when it is imported
            patch.setattr("datasets.config.HF_DATASETS_CACHE", folder / "datasets")
        yield
