"""Digests: what is read back equals what was written, whatever happened to the file in between."""

import hashlib
import json

import numpy as np

from rnn_jax.trees import Tree, leaves_by_path


def digest_of_arrays(tree: Tree) -> str:
    """Returns a digest of the paths, types, shapes and bytes of a tree's arrays: 32 hexadecimal digits.

    Names count and the kinds of containers do not: a NamedTuple and the dict of its fields are equal.

    >>> digest_of_arrays({"a": np.zeros(2)}) == digest_of_arrays({"a": np.zeros(2)})
    True
    >>> digest_of_arrays({"a": np.zeros(2)}) == digest_of_arrays({"a": np.zeros((2, 1))})
    False
    """
    leaves = {name: np.asarray(leaf) for name, leaf in leaves_by_path(tree).items()}
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(leaves):
        array = leaves[name]
        digest.update(f"{name} {array.dtype} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).view(np.uint8).data if array.size else b"")
    return digest.hexdigest()


def digest_of_json(value: object) -> str:
    """Returns a digest of a value as JSON writes it: 32 hexadecimal digits.

    >>> digest_of_json((1, 2)) == digest_of_json([1, 2])
    True
    """
    return hashlib.blake2b(json.dumps(value).encode(), digest_size=16).hexdigest()
