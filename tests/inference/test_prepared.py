"""A program that is cut in two: its results, and what a call still computes."""

import jax
import jax.numpy as jnp
import numpy as np

from rnn_jax.inference.prepared import Prepared, cut

X = np.arange(6, dtype=np.float32).reshape(2, 3)


def program(variables, x, scale=None):
    joined = jnp.concatenate([variables["a"], variables["b"]], axis=1) * np.float32([[1, 2, 3, 4]])
    y = x @ joined + jnp.zeros((2, 4))[: len(x)]
    return jax.nn.relu(y if scale is None else scale[:, None] * y)


def variables(seed):
    a, b = np.random.default_rng(seed).normal(size=(2, 3, 2)).astype(np.float32)
    return {"a": jnp.asarray(a), "b": jnp.asarray(b)}


def test_results_are_those_of_the_program_whatever_changes_between_calls():
    prepared, plain = Prepared(jax.jit(program)), jax.jit(program)
    one, other = variables(0), variables(1)
    scale = np.ones(2, np.float32)
    for call in ((one, X), (one, X[:1]), (other, X), ({**one, "b": other["b"]}, X), (one, X)):
        np.testing.assert_array_equal(prepared(*call), plain(*call))
    np.testing.assert_array_equal(prepared(one, X, scale=scale), plain(one, X, scale=scale))
    one["a"] = other["a"]  # in place
    np.testing.assert_array_equal(prepared(one, X), plain(one, X))


def test_a_call_computes_nothing_that_parameters_alone_decide():
    leaves, tree = jax.tree.flatten(variables(0))
    like = [jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in (*leaves, X)]
    text, prepare, finish = cut(jax.jit(program), tree, (), *like)
    called = finish.lower(*prepare(*leaves), *leaves, X).as_text()
    for operation in ("concatenate", "mul"):
        assert operation in text
        assert operation not in called
    assert "dot_general" in called
    assert "dot_general" not in text
