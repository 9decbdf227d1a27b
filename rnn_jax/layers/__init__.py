"""Recurrent layers: cells, the ways to run them over time, and what surrounds them."""

from rnn_jax.layers.cells import Cell, GRUCell, LSTMCell, SimpleCell
from rnn_jax.layers.crf import CRF
from rnn_jax.layers.dropout import Dropout
from rnn_jax.layers.linear import LinearCarry, LinearCell, LinearWeights, Terms
from rnn_jax.layers.linear_cells import LRUCell, MinGRUCell, MinLSTMCell, RGLRUCell, SRUCell
from rnn_jax.layers.masking import valid_steps, zero_padding
from rnn_jax.layers.pooling import Pooling
from rnn_jax.layers.recurrence import Carry, FusedStep, LSTMCarry, Weights, recurrent_product
from rnn_jax.layers.rnn import RNN, Bidirectional, Stacked
from rnn_jax.layers.slstm import SLSTMCarry, SLSTMCell

__all__ = [
    "CRF",
    "RNN",
    "Bidirectional",
    "Carry",
    "Cell",
    "Dropout",
    "FusedStep",
    "GRUCell",
    "LRUCell",
    "LSTMCarry",
    "LSTMCell",
    "LinearCarry",
    "LinearCell",
    "LinearWeights",
    "MinGRUCell",
    "MinLSTMCell",
    "Pooling",
    "RGLRUCell",
    "SLSTMCarry",
    "SLSTMCell",
    "SRUCell",
    "SimpleCell",
    "Stacked",
    "Terms",
    "Weights",
    "recurrent_product",
    "valid_steps",
    "zero_padding",
]
