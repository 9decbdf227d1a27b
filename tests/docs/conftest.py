"""The pages are a reader's own program, which may let JAX add axes where our code may not."""

import jax
import pytest


@pytest.fixture(autouse=True)
def axes_may_be_added():
    with jax.numpy_rank_promotion("allow"):
        yield
