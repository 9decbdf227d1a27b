"""Digests: what is read back equals what was written, whatever happened to the file in between."""

import hashlib
import json
from typing import Any

import jax
import numpy as np


def digest_of_arrays(tree: Any) -> str:
    """Returns a digest of the names, types, shapes and bytes of a tree's arrays.

    Names count and the kinds of containers do not: a NamedTuple and the dict of its fields are equal.
    """
    leaves = {
        "/".join(str(_name(key)) for key in path): np.asarray(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(leaves):
        array = leaves[name]
        digest.update(f"{name} {array.dtype} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).view(np.uint8).data if array.size else b"")
    return digest.hexdigest()


def digest_of_json(value: Any) -> str:
    """Returns a digest of a value as JSON writes it."""
    return hashlib.blake2b(json.dumps(value).encode(), digest_size=16).hexdigest()


def _name(key: Any) -> Any:
    """Returns what a path of `jax.tree_util` calls a child: a dict's key, a field or an index."""
    return next(getattr(key, kind) for kind in ("key", "name", "idx") if hasattr(key, kind))
