"""Parameters to and from other frameworks: torch, Keras, Flax (linen and nnx), Haiku and Equinox.

Ours are the trees of RNN ({"cell": ...}), Bidirectional ({"forward_rnn": ..., "backward_rnn": ...}) and
Stacked ({"layers_0": ...}), as in `params["encoder"]` of a classifier. A conversion goes through
`CellArrays`: the cells of each layer are read, and written as the other framework has them. Results are numpy
arrays, copied.

Parameters don't record the surrounding computation. How directions are merged, which activation is used and
what stands between layers, you must match yourself.
"""

import re
from collections.abc import Mapping, Sequence

import numpy as np
from flax.core import FrozenDict
from flax.traverse_util import flatten_dict, unflatten_dict

from rnn_jax.convert.cell_layouts import KINDS, LAYOUTS, CellArrays, read_cell, write_cell
from rnn_jax.errors import InputError, choose, require
from rnn_jax.trees import Params

DIRECTION_SCOPES = ("forward_rnn", "backward_rnn")  # of Bidirectional's parameters
SCOPE = re.compile(r"cell|forward_rnn|backward_rnn|layers_\d+")
TORCH_NAME = re.compile(r"(?P<name>(?:weight|bias)_(?:ih|hh|hr))_l(?P<layer>\d+)(?P<reverse>_reverse)?")
KERAS_NAMES = tuple(LAYOUTS["keras"]["lstm"])


def from_cells(tree: Mapping[str, object], framework: str) -> Params:
    """Returns our parameters of a framework's cell, or of any nesting of cells in the scopes of our layers.

    The arrays of a cell have the names that the framework has for them, as in `cell_layouts.LAYOUTS`:
      linen: any tree of nn.RNN, nn.Bidirectional and cells; it is checked and comes back equal.
      nnx: nnx.to_pure_dict(nnx.state(module, nnx.Param)) of nnx.RNN, nnx.Bidirectional and cells, except for
        nnx.LSTMCell: that is "nnx_separate".
      equinox: weight_ih, weight_hh and bias of eqx.nn.LSTMCell, and bias_n of GRUCell.
      haiku: w and b of one hk.LSTM, params["lstm/linear"]; 1 is added to the forget bias, as it does itself.
      torch: the state dict of one nn.LSTMCell, nn.GRUCell or nn.RNNCell.
      keras: kernel, recurrent_kernel and bias of one layer.

    Args:
      tree: nested dicts of arrays: of numpy, JAX or torch.
      framework: one of the names above.

    Raises:
      InputError: an array's name or shape is not that of a cell of this framework.

    >>> keras = {"kernel": np.zeros((3, 8)), "recurrent_kernel": np.zeros((2, 8)), "bias": np.zeros(8)}
    >>> sorted(from_cells(keras, "keras"))
    ['hf', 'hg', 'hi', 'ho', 'if', 'ig', 'ii', 'io']
    """
    choose("framework", framework, LAYOUTS)
    return convert_cells(tree, framework, "linen")


def to_cells(params: Mapping[str, object], framework: str) -> Params:
    """Returns what `from_cells` takes: the framework's arrays in the scopes of `params`.

    Args:
      params: parameters of one of our cells, or of layers that hold cells.
      framework: one of those that `from_cells` lists.

    Raises:
      InputError: `params` are not ours, or the framework has no equal cell; the message says why.

    >>> cell = {"i": {"kernel": np.zeros((3, 2)), "bias": np.zeros(2)}, "h": {"kernel": np.eye(2)}}
    >>> {name: array.shape for name, array in to_cells({"cell": cell}, "torch")["cell"].items()}
    {'weight_ih': (2, 3), 'weight_hh': (2, 2), 'bias_ih': (2,), 'bias_hh': (2,)}
    """
    choose("framework", framework, LAYOUTS)
    return convert_cells(params, "linen", framework)


def from_torch(source: object) -> Params:
    """Returns our parameters of torch's nn.LSTM, nn.GRU or nn.RNN: RNN's or Bidirectional's, or Stacked's.

    Args:
      source: the module, or its state dict, which does not tell whether an nn.RNN has a tanh or a ReLU.

    Raises:
      InputError: proj_size, bias=False, a ReLU, names or shapes of another module.

    >>> state = {"weight_ih_l0": np.zeros((8, 3)), "weight_hh_l0": np.zeros((8, 2))}
    >>> params = from_torch(state | {"bias_ih_l0": np.zeros(8), "bias_hh_l0": np.ones(8)})
    >>> params["cell"]["hf"]["bias"].tolist()
    [1.0, 1.0]
    """
    if hasattr(source, "state_dict"):
        relu = getattr(source, "nonlinearity", "tanh") != "tanh"
        require(not relu, "nonlinearity is 'relu', but our SimpleCell has a tanh")
        source = source.state_dict()
    if not isinstance(source, Mapping):
        raise InputError(f"source is {type(source).__name__}; give a module or its state dict")
    groups: dict[tuple[int, str], dict[str, object]] = {}
    for key, value in source.items():
        match = TORCH_NAME.fullmatch(str(key))
        if match is None:
            raise InputError(
                f"{key} is no name of nn.LSTM, nn.GRU or nn.RNN; give the state dict of one alone, and that "
                "of an nn.LSTMCell, nn.GRUCell or nn.RNNCell to from_cells(state_dict, 'torch')"
            )
        place = int(match["layer"]), match["reverse"] or ""
        groups.setdefault(place, {})[match["name"]] = value
    depth = 1 + max((layer for layer, _ in groups), default=0)
    suffixes = sorted({suffix for _, suffix in groups} | {""})
    layers = [
        [read_cell("torch", groups.get((k, suffix), {}), f"{{}}_l{k}{suffix}") for suffix in suffixes]
        for k in range(depth)
    ]
    check_equal(layers)
    return tree_of(layers)


def to_torch(params: Mapping[str, object]) -> dict[str, np.ndarray]:
    """Returns the state dict, as numpy arrays, of the nn.LSTM, nn.GRU or nn.RNN that equals our layers.

    Each bias is in bias_ih. bias_hh is zero, except for the bias of a GRU's gate n that has its own place.

    Args:
      params: parameters of RNN, Bidirectional or Stacked.

    Raises:
      InputError: `params` are not ours, or the layers differ in kind, width or directions: torch's do not.

    >>> cell = {"i": {"kernel": np.zeros((3, 2)), "bias": np.zeros(2)}, "h": {"kernel": np.eye(2)}}
    >>> list(to_torch({"cell": cell}))
    ['weight_ih_l0', 'weight_hh_l0', 'bias_ih_l0', 'bias_hh_l0']
    """
    layers = layers_of(params)
    check_equal(layers)
    return {
        f"{name}_l{k}{suffix}": array
        for k, layer in enumerate(layers)
        for cell, suffix in zip(layer, ("", "_reverse"), strict=False)
        for name, array in write_cell("torch", cell).items()
    }


def from_keras(layers: Sequence[Sequence[object]]) -> Params:
    """Returns our parameters of Keras layers, LSTM, GRU, SimpleRNN or Bidirectional, one on another.

    Args:
      layers: `layer.get_weights()` of each: three arrays, or six where it is bidirectional.

    Raises:
      InputError: use_bias=False, a GRU with reset_after=False, or shapes of another layer.

    >>> weights = [np.zeros((3, 8)), np.zeros((2, 8)), np.zeros(8)]
    >>> sorted(from_keras([weights, [np.zeros((2, 8)), *weights[1:]]]))
    ['layers_0', 'layers_1']
    """
    size, cells = len(KERAS_NAMES), []
    listed = isinstance(layers, list | tuple)
    require(listed, f"layers is {type(layers).__name__}; give a list of `layer.get_weights()` of each")
    for k, arrays in enumerate(layers):
        require(
            isinstance(arrays, list | tuple),
            f"layer {k} is {type(arrays).__name__}; give a list of `layer.get_weights()` of each, of a "
            "single layer [layer.get_weights()]",
        )
        require(
            len(arrays) in (size, 2 * size),
            f"layer {k} has {len(arrays)} arrays; give kernel, recurrent_kernel and bias of an LSTM, GRU or "
            "SimpleRNN, or of both directions; a layer with use_bias=False needs a bias of zeros",
        )
        directions = [arrays[:size], arrays[size:]][: len(arrays) // size]
        named = [dict(zip(KERAS_NAMES, direction, strict=True)) for direction in directions]
        cells.append([read_cell("keras", direction, f"{{}} of layer {k}") for direction in named])
        _check_widths(k, cells[-1])
    require(len(cells) > 0, "layers is empty; give the weights of at least one")
    return tree_of(cells)


def to_keras(params: Mapping[str, object]) -> list[list[np.ndarray]]:
    """Returns the arrays for `layer.set_weights` of each Keras layer; a GRU's with reset_after, the default.

    Args:
      params: parameters of RNN, Bidirectional or Stacked.

    Raises:
      InputError: `params` are not ours.

    >>> cell = {"i": {"kernel": np.zeros((3, 2)), "bias": np.zeros(2)}, "h": {"kernel": np.eye(2)}}
    >>> [[array.shape for array in weights] for weights in to_keras({"cell": cell})]
    [[(3, 2), (2, 2), (2,)]]
    """
    return [
        [array for cell in layer for array in write_cell("keras", cell).values()]
        for layer in layers_of(params)
    ]


def convert_cells(tree: object, source: str, target: str, path: str = "") -> Params:
    """Returns the tree with each cell's arrays in another framework's layout, its scopes as they are."""
    scope = _scope(tree, path)
    if any(SCOPE.fullmatch(name) for name in scope):
        return {name: convert_cells(inner, source, target, f"{path}{name}/") for name, inner in scope.items()}
    cell = read_cell(source, _by_path(scope), f"{path}{{}}")
    return unflatten_dict(write_cell(target, cell), sep="/")


def layers_of(params: Mapping[str, object]) -> list[list[CellArrays]]:
    """Returns the cells of each layer: one, or one for each direction."""
    scope = _scope(params, "")
    numbered = [f"layers_{k}" for k in range(len(scope))]
    if set(scope) == set(numbered):
        return [_directions(scope[name], f"{name}/") for name in numbered]
    return [_directions(scope, "")]


def tree_of(layers: Sequence[Sequence[CellArrays]]) -> Params:
    """Returns the parameters of the layers: those of the only one, or a stack's."""
    trees: list[Params] = []
    for layer in layers:
        cells = [{"cell": unflatten_dict(write_cell("linen", cell), sep="/")} for cell in layer]
        trees.append(cells[0] if len(cells) == 1 else dict(zip(DIRECTION_SCOPES, cells, strict=True)))
    return trees[0] if len(trees) == 1 else {f"layers_{k}": tree for k, tree in enumerate(trees)}


def check_equal(layers: Sequence[Sequence[CellArrays]]) -> None:
    """Raises InputError unless layers are as torch's: equal, and reading all directions of the one below."""
    (inputs, units), kind, directions = layers[0][0].sizes, layers[0][0].kind, len(layers[0])
    for k, layer in enumerate(layers):
        expected = (kind, inputs if k == 0 else directions * units, units, directions)
        for cell in layer:
            found = (cell.kind, *cell.sizes, len(layer))
            require(
                found == expected,
                f"layer {k} is {KINDS[found[0]]} of (inputs, units, directions) {found[1:]}, but where all "
                f"are equal, as in torch, {KINDS[kind]} of {expected[1:]}; convert each layer alone",
            )


def _check_widths(k: int, layer: Sequence[CellArrays]) -> None:
    """Raises InputError where the two cells of a layer of Keras cannot be directions, which read the same."""
    inputs = [cell.sizes[0] for cell in layer]
    require(
        len(set(inputs)) == 1,
        f"layer {k} has cells of {inputs} inputs, but both directions of Bidirectional read the same; of "
        "cells one on another, as RNN([cell, cell]) has them, give each as a layer",
    )


def _directions(tree: object, path: str) -> list[CellArrays]:
    scope = _scope(tree, path)
    if set(scope) == set(DIRECTION_SCOPES):
        return [_cell(scope[name], f"{path}{name}/") for name in DIRECTION_SCOPES]
    return [_cell(scope, path)]


def _cell(tree: object, path: str) -> CellArrays:
    scope = _scope(tree, path)
    require(
        list(scope) == ["cell"],
        f"{path or 'params'} has {', '.join(scope)}; give the parameters of RNN, of Bidirectional with two "
        "RNN, or of Stacked with these; those of a cell alone as {'cell': ...}",
    )
    return read_cell("linen", _by_path(_scope(scope["cell"], f"{path}cell")), f"{path}cell/{{}}")


def _scope(tree: object, path: str) -> dict[str, object]:
    """Returns the tree. Raises InputError unless it is a dict with names, and not empty."""
    name = path.rstrip("/") or "the tree"
    if not isinstance(tree, dict | FrozenDict):
        raise InputError(f"{name} is {type(tree).__name__}; give a dict with names")
    named = len(tree) > 0 and all(isinstance(key, str) for key in tree)
    require(named, f"{name} has the names {list(tree)[:5]}; give strings, at least one")
    require(bool(path) or list(tree) != ["params"], "the tree is {'params': ...}; give what is in it")
    return dict(tree)


def _by_path(scope: dict[str, object]) -> dict[str, object]:
    """Returns a cell's arrays by their paths; a name that is no string is written as one, for the error."""
    return {"/".join(map(str, path)): leaf for path, leaf in flatten_dict(scope).items()}
