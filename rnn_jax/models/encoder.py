"""Recurrent layers from settings: the cells by name, stacks of them, and layers of contextual vectors."""

from collections.abc import Callable
from functools import partial
from typing import NotRequired, TypedDict

import flax.linen as nn
import jax.numpy as jnp

from rnn_jax.errors import check_rate, choose, require
from rnn_jax.layers.cells import GRUCell, LSTMCell, SimpleCell
from rnn_jax.layers.linear import LinearCell
from rnn_jax.layers.linear_cells import LRUCell, MinGRUCell, MinLSTMCell, RGLRUCell, SRUCell
from rnn_jax.layers.rnn import MERGES, RNN, Bidirectional, Layer, Stacked
from rnn_jax.layers.slstm import SLSTMCell

CELLS: dict[str, Callable[..., nn.RNNCellBase]] = {
    "simple": SimpleCell,
    "lstm": LSTMCell,
    "gru": GRUCell,
    "min_gru": MinGRUCell,
    "min_lstm": MinLSTMCell,
    "sru": SRUCell,
    "lru": LRUCell,
    "rglru": RGLRUCell,
    "slstm": SLSTMCell,
}
DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}
DEEPEST = 256  # layers: each is an object before anything is compiled


class EncoderSettings(TypedDict):
    """The keys of `config.model` that describe the recurrent layers.

    Attributes:
      cell: "simple", "lstm", "gru", "min_gru", "min_lstm", "sru", "lru", "rglru" or "slstm".
      hidden: H, the units of each direction, at least 1.
      layers: how many, 1 to 256.
      bidirectional: read both ways.
      merge: joins the two directions: "concat", "sum", "mul" or "ave".
      merge_at: "layer" merges after each layer, "top" runs a stack each way and merges their outputs.
      residual: see `Stacked`.
      layer_norm: see `LSTMCell`; of the lstm only.
      recurrent_dropout: rate in [0, 1) inside the cells; see `RNN`.
      layer_dropout: rate in [0, 1) between layers; it needs at least two layers.
      stride: steps whose mean is one step of the next layer, at least 1; see `Stacked`. More than 1 needs at
        least two layers.
      backend: see `RNN`. No key of `config.model`, whose networks take "auto".
    """

    cell: str
    hidden: int
    layers: int
    bidirectional: bool
    merge: str
    merge_at: NotRequired[str]
    backend: NotRequired[str]
    residual: bool
    layer_norm: bool
    recurrent_dropout: float
    layer_dropout: float
    stride: NotRequired[int]


def build_encoder(
    *,
    cell: str,
    hidden: int,
    layers: int,
    bidirectional: bool,
    merge: str,
    residual: bool,
    layer_norm: bool,
    recurrent_dropout: float,
    layer_dropout: float,
    dtype: jnp.dtype,
    merge_at: str = "layer",  # what runs have that were saved before it was a setting
    stride: int = 1,  # likewise
    backend: str = "auto",
) -> Layer:
    """Returns `layers` equal recurrent layers from the keys of `EncoderSettings`; `dtype` is that of compute.

    Raises:
      InputError: as `build_classifier`.

    >>> import jax.numpy as jnp
    >>> from rnn_jax.models import build_encoder
    >>> options = {"merge": "concat", "residual": False, "layer_norm": False, "dtype": jnp.float32}
    >>> rates = {"recurrent_dropout": 0.0, "layer_dropout": 0.0}
    >>> len(build_encoder(cell="lstm", hidden=8, layers=2, bidirectional=False, **options, **rates).layers)
    2
    """
    rnn = rnn_maker(cell, hidden, layer_norm, recurrent_dropout, dtype, backend)
    options = layer_dropout, residual, stride
    check_stack(layers, layer_dropout, bidirectional, merge, merge_at, stride)

    def stack(both: bool) -> Layer:
        stacked: list[Layer] = [Bidirectional(rnn(), rnn(), merge) if both else rnn() for _ in range(layers)]
        return stacked[0] if layers == 1 and not residual else Stacked(stacked, *options)

    if bidirectional and merge_at == "top":
        return Bidirectional(stack(both=False), stack(both=False), merge)
    return stack(bidirectional)


def check_weight_drop(setting: str, rate: float, cell: str) -> None:
    """Raises InputError unless a setting's rate is in [0, 1), and 0 for cells without recurrent kernels."""
    check_rate(setting, rate)
    made = CELLS[cell]
    linear = isinstance(made, type) and issubclass(made, LinearCell)
    require(
        not rate or not linear,
        f"{setting} is {rate}, but the cell {cell!r} has no recurrent kernel to drop from; set it to 0",
    )


def check_stack(
    layers: int, layer_dropout: float, bidirectional: bool, merge: str, merge_at: str, stride: int = 1
) -> None:
    """Raises InputError unless the settings are known, in range, and of use together."""
    choose("model.merge", merge, MERGES)
    choose("model.merge_at", merge_at, {"layer": None, "top": None})
    for name, value, plain in (("merge", merge, "concat"), ("merge_at", merge_at, "layer")):
        require(
            bidirectional or value == plain, f"model.{name} is {value!r}, but model.bidirectional is False"
        )
    require(0 < layers <= DEEPEST, f"model.layers is {layers}; give at least 1, and at most {DEEPEST}")
    check_rate("model.layer_dropout", layer_dropout)
    require(
        stride == 1 or stride > 1 < layers,
        f"model.stride is {stride} of {layers} layers; give at least 1, and above 1 at least two layers",
    )
    require(
        layers > 1 or not layer_dropout, f"model.layer_dropout is {layer_dropout}, but there is one layer"
    )


def rnn_maker(
    cell: str,
    hidden: int,
    layer_norm: bool,
    recurrent_dropout: float,
    dtype: jnp.dtype,
    backend: str = "auto",
) -> Callable[[], RNN]:
    """Returns a function that makes one layer in one direction, another each time."""
    make_cell = partial(choose("model.cell", cell, CELLS), features=hidden, dtype=dtype)
    require(hidden > 0, f"model.hidden is {hidden}; give at least 1")
    check_rate("model.recurrent_dropout", recurrent_dropout)
    if layer_norm:
        require(cell == "lstm", f"model.layer_norm is an option of the lstm, but model.cell is {cell!r}")
        make_cell = partial(make_cell, layer_norm=True)
    return lambda: RNN(make_cell(), recurrent_dropout=recurrent_dropout, backend=backend)


def build_contextual(
    dtype: jnp.dtype, *, cell: str = "lstm", hidden: int = 0, layers: int = 1
) -> "Layer | None":
    """Returns the encoders of two language models, one for each direction; None where `hidden` is 0.

    Raises:
      InputError: an unknown cell, or a size out of its range.

    >>> build_contextual(jnp.float32, hidden=8).merge
    'concat'
    """
    choose("model.contextual.cell", cell, CELLS)
    require(hidden >= 0, f"model.contextual.hidden is {hidden}; give the units of each direction, or 0")
    require(
        0 < layers <= DEEPEST, f"model.contextual.layers is {layers}; give at least 1, and at most {DEEPEST}"
    )
    if not hidden:
        return None
    return build_encoder(
        cell=cell,
        hidden=hidden,
        layers=layers,
        bidirectional=True,
        merge="concat",
        merge_at="top",
        residual=False,
        layer_norm=False,
        recurrent_dropout=0.0,
        layer_dropout=0.0,
        dtype=dtype,
    )
