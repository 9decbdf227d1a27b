"""Programs on several CPU devices, which a process gets before JAX starts."""

import os

from rnn_jax.distributed.host import DEVICE_COUNT_FLAG


def flags_for(count: int) -> str:
    """Returns XLA's flags as they are, so that what is compiled fast stays fast, and so many CPU devices."""
    return f"{os.environ.get('XLA_FLAGS', '')} {DEVICE_COUNT_FLAG}={count}"
