"""cuDNN's LSTM, a peer on an NVIDIA GPU."""

import jax.numpy as jnp
from jax.experimental import rnn


def cudnn_model(case):
    """Returns (init, apply) of cuDNN's LSTM as JAX calls it, on an NVIDIA GPU alone.

    Raises:
      ValueError: the cell is another; JAX has no call for it.
    """
    if case["cell"] != "LSTM":
        raise ValueError(f"jax.experimental.rnn has no {case['cell']}")
    sizes = case["E"], case["H"], case["layers"]
    directions = 1 + case["bidirectional"]
    full = jnp.full(case["B"], case["T"], jnp.int32)
    carry = jnp.zeros((directions * case["layers"], case["B"], case["H"]))

    def apply(params, x, lengths=full):
        outputs, hidden, _ = rnn.lstm(x, carry, carry, params, lengths, *sizes, 0.0, case["bidirectional"])
        return jnp.concatenate(list(hidden[-directions:]), axis=-1), outputs

    return lambda key, x: rnn.init_lstm_weight(key, *sizes, case["bidirectional"]), apply
