"""cuDNN's LSTM, a peer on an NVIDIA GPU."""

import jax.numpy as jnp
from jax.experimental import rnn


def cudnn_model(case):
    """Returns (init, apply) of cuDNN's LSTM as JAX calls it: one layer, on an NVIDIA GPU alone.

    Raises:
      ValueError: the cell is another; JAX has no call for it.
    """
    if case["cell"] != "LSTM":
        raise ValueError(f"jax.experimental.rnn has no {case['cell']}")
    sizes = case["E"], case["H"], 1
    lengths = jnp.full(case["B"], case["T"], jnp.int32)
    carry = jnp.zeros((1 + case["bidirectional"], case["B"], case["H"]))

    def apply(params, x):
        outputs, hidden, _ = rnn.lstm(x, carry, carry, params, lengths, *sizes, 0.0, case["bidirectional"])
        return jnp.concatenate(list(hidden), axis=-1), outputs

    return lambda key, x: rnn.init_lstm_weight(key, *sizes, case["bidirectional"]), apply
