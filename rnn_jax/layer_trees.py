"""Cells in the scopes of our layers: RNN's, Bidirectional's and Stacked's trees of parameters."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from flax.traverse_util import flatten_dict, unflatten_dict

from rnn_jax.cell_arrays import KINDS, Cell, read_cell, write_cell
from rnn_jax.errors import require

DIRECTIONS = ("forward_rnn", "backward_rnn")
Params = dict[str, Any]
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
