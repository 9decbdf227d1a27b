"""Paths of leaves, and the digests that are made of them."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from rnn_jax.hashing import digest_of_arrays, digest_of_json
from rnn_jax.trees import leaves_by_path


class Pair(NamedTuple):
    first: object
    second: object


TREE = {
    "b": [np.arange(3, dtype=np.int32), np.float32(1.5)],
    "a": Pair(np.zeros((0, 2)), {"c": np.array(True)}),
}


def test_paths_name_keys_fields_and_positions_in_the_order_of_the_leaves():
    found = leaves_by_path(TREE)
    assert list(found) == ["a/first", "a/second/c", "b/0", "b/1"]
    assert all(ours is theirs for ours, theirs in zip(found.values(), jax.tree.leaves(TREE), strict=True))


def test_an_optimisers_state_has_a_path_for_every_leaf():
    state = optax.multi_transform({"x": optax.adam(0.1)}, {"w": "x"}).init({"w": jnp.ones(2)})
    paths = [path.removeprefix("inner_states/x/inner_state/0/") for path in leaves_by_path(state)]
    assert paths == ["count", "mu/w", "nu/w"]


def test_digests_are_those_in_the_checkpoints_of_earlier_versions():
    assert digest_of_arrays(TREE) == "e243a849cd41f5a096e678b52a5cf2b9"
    assert digest_of_json({"a": [1, 2.5, None]}) == "7a4fb391ccf1df08a3aac060e8e98fee"
    adam = optax.adam(1e-3).init({"w": jnp.ones(2)})
    assert digest_of_arrays(adam) == "bec7bced2b1ed3508cb4911c38788352"


def test_a_digest_sees_names_types_shapes_and_bytes_and_not_containers():
    plain = {"a": {"first": TREE["a"].first, "second": TREE["a"].second}, "b": TREE["b"]}
    assert digest_of_arrays(plain) == digest_of_arrays(TREE)
    one = np.zeros(2, np.float32)
    others = [{"b": one}, {"a": one.astype(np.int32)}, {"a": one[:, None]}, {"a": -one}]
    assert digest_of_arrays({"a": one}) not in map(digest_of_arrays, others)
