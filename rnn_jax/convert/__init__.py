"""Parameters to and from other frameworks, and as files that other programs read."""

from rnn_jax.convert.frameworks import from_cells, from_keras, from_torch, to_cells, to_keras, to_torch
from rnn_jax.convert.parameter_files import load_params, save_params

__all__ = [
    "from_cells",
    "from_keras",
    "from_torch",
    "load_params",
    "save_params",
    "to_cells",
    "to_keras",
    "to_torch",
]
