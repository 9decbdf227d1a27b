"""Where each framework keeps a recurrent cell's arrays: the table that `cell_arrays` reads both ways.

A cell is two products, z = x W + b and q = h U + d, of each gate: i, f, g, o of an LSTM; r, z, n of a GRU; h
of a simple cell. Only n, where r multiplies q alone, needs b and d apart; other gates have their sum, as b.
"""

from typing import NamedTuple

GATES = {"lstm": "ifgo", "gru": "rzn", "simple": "h"}
APART = "n"


class Block(NamedTuple):
    """An array: `parts`, of W [E, H], U [H, H], b and d [H], one on another, each with `gates` side by side.

    With `rows` it is transposed: gates one on another.
    """

    parts: str
    gates: str
    rows: bool = False


Layout = dict[str, Block]


def _flax(kernels: str, b: str, d: str) -> Layout:
    """Returns Flax's layout, a layer for each product of each gate; `b`, `d`: the gates with that bias."""
    name = {gate: "" if gate == "h" else gate for gate in kernels}
    return {
        **{f"i{name[gate]}/kernel": Block("W", gate) for gate in kernels},
        **{f"h{name[gate]}/kernel": Block("U", gate) for gate in kernels},
        **{f"i{name[gate]}/bias": Block("b", gate) for gate in b},
        **{f"h{name[gate]}/bias": Block("d", gate) for gate in d},
    }


def _joined(gates: str, kernel: str, recurrent: str, biases: dict[str, str], rows: bool = False) -> Layout:
    """Returns a layout with the gates side by side in every array; `biases` has names and their parts."""
    kernels = {kernel: Block("W", gates, rows), recurrent: Block("U", gates, rows)}
    return kernels | {name: Block(parts, gates) for name, parts in biases.items()}


_LINEN = {
    "lstm": _flax("ifgo", b="", d="ifgo"),
    "gru": _flax("rzn", b="rzn", d="n"),
    "simple": _flax("h", b="h", d=""),
}
_DENSE, _KERNELS = ("dense_i/kernel", "dense_h/kernel"), ("kernel", "recurrent_kernel")
_ROWS = ("weight_ih", "weight_hh")

LAYOUTS: dict[str, dict[str, Layout]] = {
    "linen": _LINEN,  # ours, too
    "nnx": {
        "lstm": _joined("ifgo", *_DENSE, {"dense_h/bias": "d"}),
        "gru": _joined("rzn", *_DENSE, {"dense_i/bias": "b"}),
        "simple": _joined("h", *_DENSE, {"dense_i/bias": "b"}),
    },
    "nnx_separate": {"lstm": {name.replace("if/", "if_/"): block for name, block in _LINEN["lstm"].items()}},
    "torch": {
        "lstm": _joined("ifgo", *_ROWS, {"bias_ih": "b", "bias_hh": "d"}, rows=True),
        "gru": _joined("rzn", *_ROWS, {"bias_ih": "b", "bias_hh": "d"}, rows=True),
        "simple": _joined("h", *_ROWS, {"bias_ih": "b", "bias_hh": "d"}, rows=True),
    },
    "equinox": {
        "lstm": _joined("ifgo", *_ROWS, {"bias": "b"}, rows=True),
        "gru": _joined("rzn", *_ROWS, {"bias": "b"}, rows=True) | {"bias_n": Block("d", "n")},
    },
    "keras": {
        "lstm": _joined("ifgo", *_KERNELS, {"bias": "b"}),
        "gru": _joined("zrn", *_KERNELS, {"bias": "bd"}),
        "simple": _joined("h", *_KERNELS, {"bias": "b"}),
    },
    "haiku": {"lstm": {"w": Block("WU", "igfo"), "b": Block("b", "igfo")}},
}
ADDED = {"haiku": {"bf": 1}}  # what the forward pass adds to a bias: hk.LSTM computes sigmoid(f + 1)

_BEFORE = "resets before the product with U, our GRU after it, so that no parameters make them equal"
REFUSED = {  # names of arrays that have no counterpart
    "linen": {"input_norm/scale": "layer_norm is an option of our LSTMCell alone"},
    "nnx": {"if_/kernel": "this is nnx.LSTMCell; give the framework 'nnx_separate'"},
    "nnx_separate": {"dense_i/kernel": "this is no nnx.LSTMCell; give the framework 'nnx'"},
    "torch": {"weight_hr": "proj_size projects the hidden state, which our LSTMCell does not"},
    "haiku": {"w_i": f"hk.GRU {_BEFORE}", "linear/w": "give one hk.LSTM, as params['lstm/linear']"},
}
ABSENT = {
    ("haiku", "gru"): f"hk.GRU {_BEFORE}",
    ("haiku", "simple"): "hk.VanillaRNN has a ReLU for the tanh",
    ("equinox", "simple"): "Equinox has no such cell",
    ("nnx_separate", "gru"): "nnx.GRUCell is of the framework 'nnx'",
    ("nnx_separate", "simple"): "nnx.SimpleCell is of the framework 'nnx'",
}
SHAPES = {  # what a wrong shape of an array means
    ("keras", "gru", "bias"): f": a bias (3H,) is that of reset_after=False, which {_BEFORE}",
}
