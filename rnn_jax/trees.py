"""Trees of arrays: what they are called in signatures, and the paths of their leaves.

A tree is what `jax.tree` takes: arrays in any nesting of dicts, lists, tuples and NamedTuples. The path of a
leaf is the names on the way to it, joined by slashes: "encoder/layers_0/cell/hi/kernel".
"""

from typing import Any, TypeAlias

import jax
from jax.tree_util import KeyPath

Tree: TypeAlias = Any  # of arrays; which ones is known as the program runs, and not to a type checker
Params: TypeAlias = dict[str, Tree]  # the nested dict of a model's parameters


def names_on(path: KeyPath) -> tuple[str, ...]:
    """Returns the names on a path of `jax.tree_util`: a dict's keys, fields, and positions in a list.

    >>> [(path, _)] = jax.tree_util.tree_leaves_with_path({"cells": [{"kernel": 0}]})
    >>> names_on(path)
    ('cells', '0', 'kernel')
    """
    return tuple(jax.tree_util.keystr((key,), simple=True) for key in path)


def leaves_by_path(tree: Tree) -> dict[str, Tree]:
    """Returns the leaves by their paths, in the order of `jax.tree.leaves`.

    >>> leaves_by_path({"embedding": {"embedding": 0}, "head": {"bias": 1, "kernel": 2}})
    {'embedding/embedding': 0, 'head/bias': 1, 'head/kernel': 2}
    """
    return {"/".join(names_on(path)): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
