"""Parameters to and from other frameworks: torch, Keras, Flax (linen and nnx), Haiku and Equinox.

Ours are the trees of RNN ({"cell": ...}), Bidirectional ({"forward_rnn": ..., "backward_rnn": ...}) and
Stacked ({"layers_0": ...}), as in `params["encoder"]` of a classifier. What comes out is numpy's, and a copy.

Parameters do not tell how directions are merged, which activation is used, or what stands between layers.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from rnn_jax.convert.cell_layouts import KINDS, LAYOUTS, Cell, read_cell, write_cell
from rnn_jax.errors import InputError, choose, require

Params = dict[str, Any]
TORCH_NAME = re.compile(r"(?P<name>(?:weight|bias)_(?:ih|hh|hr))_l(?P<layer>\d+)(?P<reverse>_reverse)?")
KERAS_NAMES = tuple(LAYOUTS["keras"]["lstm"])


def from_cells(tree: Mapping[str, Any], framework: str) -> Params:
    """Returns our parameters of a framework's cell, or of any nesting of cells in the scopes of our layers.

    The arrays of a cell are named by the framework's own attributes, as in `layouts.LAYOUTS`:
      linen: any tree of nn.RNN, nn.Bidirectional and cells; it is checked and comes back equal.
      nnx: nnx.to_pure_dict(nnx.state(module, nnx.Param)) of nnx.RNN, nnx.Bidirectional and cells, except for
        nnx.LSTMCell: that is "nnx_separate".
      equinox: weight_ih, weight_hh and bias of eqx.nn.LSTMCell, and bias_n of GRUCell.
      haiku: w and b of one hk.LSTM, params["lstm/linear"]; 1 is added to the forget bias, as it does itself.
      torch, keras: one nn.LSTMCell, nn.GRUCell or nn.RNNCell; kernel, recurrent_kernel and bias of one layer.

    Raises:
      InputError: an array's name or shape is not that of a cell of this framework.
    """
    choose("framework", framework, LAYOUTS)
    return convert_cells(tree, framework, "linen")


def to_cells(params: Mapping[str, Any], framework: str) -> dict[str, Any]:
    """Returns what `from_cells` takes: the framework's arrays in the scopes of `params`.

    Raises:
      InputError: `params` are not ours, or the framework has no equal cell; the message has the reason.
    """
    choose("framework", framework, LAYOUTS)
    return convert_cells(params, "linen", framework)


def from_torch(source: Any) -> Params:
    """Returns our parameters of torch's nn.LSTM, nn.GRU or nn.RNN: RNN's or Bidirectional's, or Stacked's.

    Args:
      source: the module, or its state dict, which does not tell whether an nn.RNN has a tanh or a ReLU.

    Raises:
      InputError: proj_size, bias=False, a ReLU, names or shapes of another module.
    """
    if hasattr(source, "state_dict"):
        relu = getattr(source, "nonlinearity", "tanh") != "tanh"
        require(not relu, "nonlinearity is 'relu', but our SimpleCell has a tanh")
        source = source.state_dict()
    require(
        isinstance(source, Mapping), f"source is {type(source).__name__}; give a module or its state dict"
    )
    groups: dict[tuple[int, str], dict[str, Any]] = {}
    for key, value in source.items():
        match = TORCH_NAME.fullmatch(str(key))
        if match is None:
            raise InputError(
                f"{key} is no name of nn.LSTM, nn.GRU or nn.RNN; give the state dict of one alone"
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


def to_torch(params: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Returns the state dict, as numpy arrays, of the nn.LSTM, nn.GRU or nn.RNN that equals our layers.

    Each bias is in bias_ih, and bias_hh is zero but for the one that a GRU needs apart.

    Raises:
      InputError: the layers differ in kind, width or directions, which those of torch do not.
    """
    layers = layers_of(params)
    check_equal(layers)
    return {
        f"{name}_l{k}{suffix}": array
        for k, layer in enumerate(layers)
        for cell, suffix in zip(layer, ("", "_reverse"), strict=False)
        for name, array in write_cell("torch", cell).items()
    }


def from_keras(layers: Sequence[Sequence[Any]]) -> Params:
    """Returns our parameters of Keras layers, LSTM, GRU, SimpleRNN or Bidirectional, one on another.

    Args:
      layers: `layer.get_weights()` of each: three arrays, or six where it is bidirectional.

    Raises:
      InputError: use_bias=False, a GRU with reset_after=False, or shapes of another layer.
    """
    size, cells = len(KERAS_NAMES), []
    listed = isinstance(layers, list | tuple) and all(isinstance(arrays, list | tuple) for arrays in layers)
    require(listed, f"layers is {type(layers).__name__}; give a list of `layer.get_weights()` of each")
    for k, arrays in enumerate(layers):
        require(
            len(arrays) in (size, 2 * size),
            f"layer {k} has {len(arrays)} arrays; give kernel, recurrent_kernel and bias of an LSTM, GRU or "
            "SimpleRNN, or of both directions; a layer with use_bias=False needs a bias of zeros",
        )
        directions = [arrays[:size], arrays[size:]][: len(arrays) // size]
        named = [dict(zip(KERAS_NAMES, direction, strict=True)) for direction in directions]
        cells.append([read_cell("keras", direction, f"{{}} of layer {k}") for direction in named])
    require(len(cells) > 0, "layers is empty; give the weights of at least one")
    return tree_of(cells)


def to_keras(params: Mapping[str, Any]) -> list[list[np.ndarray]]:
    """Returns the arrays for `layer.set_weights` of each Keras layer; a GRU's with reset_after, the default.

    Raises:
      InputError: `params` are not ours.
    """
    return [
        [array for cell in layer for array in write_cell("keras", cell).values()]
        for layer in layers_of(params)
    ]


DIRECTIONS = ("forward_rnn", "backward_rnn")
SCOPE = re.compile(r"cell|forward_rnn|backward_rnn|layers_\d+")


def convert_cells(tree: Any, source: str, target: str, path: str = "") -> dict[str, Any]:
    """Returns the tree with each cell's arrays in another framework's layout, its scopes as they are."""
    if any(SCOPE.fullmatch(name) for name in _names(tree, path)):
        return {name: convert_cells(tree[name], source, target, f"{path}{name}/") for name in tree}
    cell = read_cell(source, _named(tree), f"{path}{{}}")
    return unflatten_dict(write_cell(target, cell), sep="/")


def layers_of(params: Mapping[str, Any]) -> list[list[Cell]]:
    """Returns the cells of each layer, one or those of both directions."""
    names = _names(params, "")
    numbered = [f"layers_{k}" for k in range(len(names))]
    if set(names) == set(numbered):
        return [_directions(params[name], f"{name}/") for name in numbered]
    return [_directions(params, "")]


def tree_of(layers: Sequence[Sequence[Cell]]) -> Params:
    """Returns the parameters of the layers: those of the only one, or a stack's."""
    trees: list[Params] = []
    for layer in layers:
        cells = [{"cell": unflatten_dict(write_cell("linen", cell), sep="/")} for cell in layer]
        trees.append(cells[0] if len(cells) == 1 else dict(zip(DIRECTIONS, cells, strict=True)))
    return trees[0] if len(trees) == 1 else {f"layers_{k}": tree for k, tree in enumerate(trees)}


def check_equal(layers: Sequence[Sequence[Cell]]) -> None:
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


def _directions(tree: Any, path: str) -> list[Cell]:
    if set(_names(tree, path)) == set(DIRECTIONS):
        return [_cell(tree[name], f"{path}{name}/") for name in DIRECTIONS]
    return [_cell(tree, path)]


def _cell(tree: Any, path: str) -> Cell:
    names = _names(tree, path)
    require(
        names == ["cell"],
        f"{path or 'params'} has {', '.join(names)}; give the parameters of RNN, of Bidirectional with two "
        "RNN, or of Stacked with these; those of a cell alone as {'cell': ...}",
    )
    _names(tree["cell"], f"{path}cell")
    return read_cell("linen", _named(tree["cell"]), f"{path}cell/{{}}")


def _names(tree: Any, path: str) -> list[str]:
    named = isinstance(tree, dict) and len(tree) > 0 and all(isinstance(name, str) for name in tree)
    require(named, f"{path.rstrip('/') or 'the tree'} is {type(tree).__name__}; give a dict with names")
    return list(tree)


def _named(tree: dict[str, Any]) -> dict[str, Any]:
    return {"/".join(map(str, path)): leaf for path, leaf in flatten_dict(tree).items()}
