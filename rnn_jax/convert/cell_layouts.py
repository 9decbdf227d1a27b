"""Where each framework keeps the arrays of a recurrent cell, and reading and writing a cell by that table.

A cell is two products for each gate, z = x W + b and q = h U + d. The gates are i, f, g, o of an LSTM; r, z,
n of a GRU; h of a simple cell. Only n, where r multiplies q alone, needs b and d apart; every other gate has
their sum, as b. `read_cell` takes a framework's arrays apart into W, U, b and d of each gate; `write_cell`
puts them together as another framework has them.
"""

from collections.abc import Mapping
from typing import NamedTuple, TypeAlias

import jax.numpy as jnp
import numpy as np

from rnn_jax.errors import InputError, nearest, require

GATES = {"lstm": "ifgo", "gru": "rzn", "simple": "h"}
KINDS = {"lstm": "an LSTM", "gru": "a GRU", "simple": "a simple RNN"}
APART = "n"  # the gate whose biases b and d are not added up


class Block(NamedTuple):
    """How one array of a framework is made up.

    Attributes:
      parts: which of W [E, H], U [H, H], b [H] and d [H] it holds, one above the other.
      gates: the gates that each part has, side by side.
      rows: whether the array is transposed, so that the gates are one above the other.
    """

    parts: str
    gates: str
    rows: bool = False


Layout: TypeAlias = dict[str, Block]  # by the names that a framework has for the arrays


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


class CellArrays(NamedTuple):
    """The arrays of a cell, whatever framework it is of.

    Attributes:
      kind: "lstm", "gru" or "simple".
      parts: the arrays by part and gate, such as "Wi" [E, H], "Uf" [H, H], "bo" [H] and "dn" [H].
    """

    kind: str
    parts: dict[str, np.ndarray]

    @property
    def sizes(self) -> tuple[int, int]:
        """(E inputs, H units)."""
        rows, units = self.parts[f"W{GATES[self.kind][0]}"].shape
        return rows, units


def read_cell(framework: str, arrays: Mapping[str, object], label: str = "{}") -> CellArrays:
    """Returns the cell that has these arrays; their names and shapes tell its kind.

    Args:
      framework: a key of LAYOUTS.
      arrays: by the framework's names.
      label: the name that the caller knows an array by, with "{}" for the name here; errors use it.

    Raises:
      InputError: a name is missing or unknown, or an array's shape or type does not fit.
    """
    given = {name: as_array(value, label.format(name)) for name, value in arrays.items()}
    kind = _kind_of(framework, given, label)
    layout = LAYOUTS[framework][kind]
    heights = _heights(layout, given, label)
    parts: dict[str, np.ndarray] = {}
    for name, block in layout.items():
        array, shape = given[name], _shape(block, heights)
        require(
            array.shape == shape,
            f"{label.format(name)} has shape {array.shape}, but {KINDS[kind]} of {heights['W']} inputs and "
            f"{heights['U']} units has {shape} there{SHAPES.get((framework, kind, name), '')}",
        )
        rows = np.atleast_2d(array.T if block.rows else array)
        ends = np.cumsum([heights[part] for part in block.parts])[:-1]
        for part, stripe in zip(block.parts, np.split(rows, ends), strict=True):
            for gate, piece in zip(block.gates, np.split(stripe, len(block.gates), axis=1), strict=True):
                parts[part + gate] = piece[0] if part in "bd" else piece
    for name, added in ADDED.get(framework, {}).items():
        parts[name] = parts[name] + np.asarray(added, parts[name].dtype)
    return CellArrays(kind, _sum_biases(kind, parts))


def write_cell(framework: str, cell: CellArrays) -> dict[str, np.ndarray]:
    """Returns the cell's arrays, copied, under the names of a framework.

    Raises:
      InputError: that framework has no such cell, or no place for one of its biases.
    """
    require(cell.kind in LAYOUTS[framework], f"{framework}: {ABSENT.get((framework, cell.kind))}")
    layout = LAYOUTS[framework][cell.kind]
    held = {part + gate for block in layout.values() for part in block.parts for gate in block.gates}
    parts = dict(cell.parts)
    for name, added in ADDED.get(framework, {}).items():
        parts[name] = parts[name] - np.asarray(added, parts[name].dtype)
    for gate in GATES[cell.kind]:
        if gate != APART:  # one of two biases gets the sum, the other zeros
            bias = parts[f"b{gate}"]
            parts[f"d{gate}"] = np.zeros_like(bias) if f"b{gate}" in held else bias
        elif f"d{gate}" not in held:
            require(
                not parts[f"d{gate}"].any(),
                f"{framework} has no place for the GRU's bias hn, which is not zero here; it has none inside "
                "r * (U h + bias)",
            )
    return {name: _join(block, parts) for name, block in layout.items()}


def as_array(value: object, name: str) -> np.ndarray:
    """Returns any framework's array as numpy's; raises InputError unless its numbers are floating point."""
    if hasattr(value, "detach"):  # a tensor of torch; numpy cannot read its bfloat16
        tensor = value.detach().cpu()
        if str(tensor.dtype) == "torch.bfloat16":
            value = tensor.float().numpy().astype(jnp.bfloat16)
        else:
            value = tensor.numpy()
    try:
        array = np.asarray(value)
    except ValueError as error:  # lists of unequal lengths
        raise InputError(f"{name} is no array: {error}; give an array of floating point numbers") from error
    require(
        bool(jnp.issubdtype(array.dtype, jnp.floating)),
        f"{name} is of type {array.dtype}; give an array of floating point numbers",
    )
    return array


def _kind_of(framework: str, given: Mapping[str, np.ndarray], label: str) -> str:
    """Returns the kind that has arrays of these names; of several kinds the one whose U fits."""
    layouts = LAYOUTS[framework]
    for name, reason in REFUSED.get(framework, {}).items():
        require(name not in given, f"{label.format(name)}: {reason}")
    kinds = [kind for kind, layout in layouts.items() if layout.keys() == given.keys()]
    if not kinds:
        raise InputError(_names_differ(framework, given, label))
    if len(kinds) == 1:
        return kinds[0]
    name, block = _block_of("U", layouts[kinds[0]])
    shape = _shape_by_columns(given[name], block)
    units = shape[0] if shape else 0
    fitting = [kind for kind in kinds if units > 0 and shape == (units, units * len(GATES[kind]))]
    sides = " or ".join(f"{len(GATES[kind])}H" for kind in kinds)
    found = f"{label.format(name)} has shape {given[name].shape}"
    require(len(fitting) == 1, f"{found}; give a matrix whose sides are H and {sides}")
    return fitting[0]


def _names_differ(framework: str, given: Mapping[str, np.ndarray], label: str) -> str:
    layouts = LAYOUTS[framework].values()
    near = max(layouts, key=lambda layout: len(layout.keys() & given.keys()))
    unknown, missing = sorted(given.keys() - near.keys()), sorted(near.keys() - given.keys())
    named = [f"{label.format(name)} is unknown.{nearest(name, missing)}" for name in unknown[:3]]
    named += [f"{label.format(name)} is missing" for name in missing[:3]]
    ours = "Only LSTMCell, GRUCell and SimpleCell can be converted. " if framework == "linen" else ""
    return (
        f"{ours}{'; '.join(named)}. A cell of {framework} has: {', '.join(near)}; a layer built without "
        "biases needs zeros for them, and of a larger model only the recurrent part is given"
    )


def _block_of(part: str, layout: Layout) -> tuple[str, Block]:
    return next((name, block) for name, block in layout.items() if part in block.parts)


def _heights(layout: Layout, given: Mapping[str, np.ndarray], label: str) -> dict[str, int]:
    """Returns the rows of each part: E of W and H of U, by the shapes of these two, and 1 of a bias."""
    shapes = {}
    for part in "UW":
        name, block = _block_of(part, layout)
        shapes[part] = _shape_by_columns(given[name], block)
        require(len(shapes[part]) == 2, f"{label.format(name)} has shape {given[name].shape}; give a matrix")
    units = shapes["U"][1] // len(block.gates)
    inputs = shapes["W"][0]
    if block.parts == "WU":  # one array, U below W
        inputs -= units
    require(units > 0 and inputs > 0, f"{label.format(name)} has shape {given[name].shape}: too small")
    return {"W": inputs, "U": units, "b": 1, "d": 1}


def _shape_by_columns(array: np.ndarray, block: Block) -> tuple[int, ...]:
    """Returns the shape that the array has with the gates side by side."""
    return array.shape[::-1] if block.rows else array.shape


def _shape(block: Block, heights: Mapping[str, int]) -> tuple[int, ...]:
    rows, columns = sum(heights[part] for part in block.parts), heights["U"] * len(block.gates)
    if block.parts in ("b", "d"):
        return (columns,)
    return (columns, rows) if block.rows else (rows, columns)


def _sum_biases(kind: str, parts: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the parts with each gate's sum of biases as b; only the gate APART keeps its d."""
    for gate in GATES[kind]:
        b, d = f"b{gate}", f"d{gate}"
        if gate == APART:
            parts.setdefault(d, np.zeros_like(parts[b]))
        elif d in parts and b in parts:
            bias = parts.pop(d)
            # -0.0 + 0.0 is 0.0, so zeros are not added: what was one bias comes back to the bit.
            parts[b] = np.where(bias == 0, parts[b], parts[b] + bias)
        elif d in parts:
            parts[b] = parts.pop(d)
    return parts


def _join(block: Block, parts: Mapping[str, np.ndarray]) -> np.ndarray:
    stripes = [np.concatenate([parts[part + gate] for gate in block.gates], axis=-1) for part in block.parts]
    array = np.vstack(stripes) if len(stripes) > 1 else stripes[0]
    return np.ascontiguousarray(array.T if block.rows else array)
