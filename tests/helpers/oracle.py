"""Plain numpy recurrences, one row and one step at a time: what the tests of cells and layers compare with.

A state is a tuple that ends in the hidden state: (h,) or (c, h). Parameters are trees with Flax's names.
"""

import jax
import numpy as np


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def normalise(x):
    return (x - x.mean()) / np.sqrt(x.var() + 1e-5)


def affine(leaf, x):
    return x @ leaf["kernel"] + leaf.get("bias", 0)


def simple(p, state, x, mask=1):
    return (np.tanh(affine(p["i"], x) + affine(p["h"], state[0] * mask)),)


def gru(p, state, x, mask=1):
    (h,) = state
    r = sigmoid(affine(p["ir"], x) + affine(p["hr"], h * mask))
    z = sigmoid(affine(p["iz"], x) + affine(p["hz"], h * mask))
    n = np.tanh(affine(p["in"], x) + r * affine(p["hn"], h * mask))
    return ((1 - z) * n + z * h,)


def lstm(p, state, x, mask=1):
    c, h = state
    i, f, g, o = (affine(p[f"i{gate}"], x) + affine(p[f"h{gate}"], h * mask) for gate in "ifgo")
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return c, sigmoid(o) * np.tanh(c)


def norm_lstm(p, state, x, mask=1):
    c, h = state
    wx = np.concatenate([x @ p[f"i{gate}"]["kernel"] for gate in "ifgo"])
    uh = np.concatenate([(h * mask) @ p[f"h{gate}"]["kernel"] for gate in "ifgo"])
    bias = np.concatenate([p[f"h{gate}"]["bias"] for gate in "ifgo"])
    z = normalise(wx) * p["input_norm"]["scale"] + normalise(uh) * p["recurrent_norm"]["scale"] + bias
    i, f, g, o = np.split(z, 4)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return c, sigmoid(o) * np.tanh(normalise(c) * p["cell_norm"]["scale"] + p["cell_norm"]["bias"])


def min_gru(p, state, x, mask=1):
    (h,) = state
    z = sigmoid(affine(p["iz"], x))
    return ((1 - z) * h + z * affine(p["in"], x),)


def min_lstm(p, state, x, mask=1):
    (h,) = state
    f, i = sigmoid(affine(p["if"], x)), sigmoid(affine(p["ii"], x))
    return (f / (f + i) * h + i / (f + i) * affine(p["ig"], x),)


def sru(p, state, x, mask=1):
    c, _ = state
    f, r = sigmoid(affine(p["if"], x)), sigmoid(affine(p["ir"], x))
    c = f * c + (1 - f) * affine(p["ig"], x)
    return c, r * c + (1 - r) * (affine(p["is"], x) if "is" in p else x)


def lru(p, state, x, mask=1):
    real, imaginary = np.split(state[0], 2)
    b = p["ir"]["kernel"] + 1j * p["ii"]["kernel"]
    out = p["or"]["kernel"] + 1j * p["oi"]["kernel"]
    turn = np.exp(-np.exp(p["rates"]["nu"]) + 1j * np.exp(p["rates"]["theta"]))
    c = turn * (real + 1j * imaginary) + np.exp(p["scale"]["gamma_log"]) * (x @ b)
    return np.concatenate([c.real, c.imag]), (c @ out).real + affine(p["id"], x)


def rglru(p, state, x, mask=1):
    (h,) = state
    r, i = sigmoid(affine(p["ir"], x)), sigmoid(affine(p["ii"], x))
    a = sigmoid(p["rates"]["logit"]) ** (8 * r)
    return (a * h + np.sqrt(1 - a**2) * i * affine(p["ig"], x),)


def slstm(p, state, x, mask=1):
    c, n, m, h = state
    i, f, z, o = (affine(p[f"i{gate}"], x) + affine(p[f"h{gate}"], h * mask) for gate in "ifzo")
    # The plain equations; m only says by what c and n are divided.
    whole_c = sigmoid(f) * c * np.exp(m) + np.exp(i) * np.tanh(z)
    whole_n = sigmoid(f) * n * np.exp(m) + np.exp(i)
    m = np.where(n == 0, i, np.maximum(np.log(sigmoid(f)) + m, i))
    return whole_c / np.exp(m), whole_n / np.exp(m), m, sigmoid(o) * whole_c / whole_n


def over_time(step, params, x_BTE, lengths, initial, reverse=False, masks=None):
    """Returns (state [B, H] each, outputs [B, T, H]) of the rows run alone, each for its own length."""
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    state = [np.array(part, np.float64) for part in initial]
    outputs = np.zeros((*x_BTE.shape[:2], state[-1].shape[-1]))
    for row, length in enumerate(lengths):
        row_state = tuple(part[row] for part in state)
        for t in reversed(range(length)) if reverse else range(length):
            mask = 1 if masks is None else masks[row]
            row_state = step(params, row_state, np.asarray(x_BTE[row, t], np.float64), mask)
            outputs[row, t] = row_state[-1]
        for part, value in zip(state, row_state, strict=True):
            part[row] = value
    return tuple(state), outputs


def random_like(tree, seed=0, scale=0.5):
    """Returns the tree with every leaf redrawn, so that no bias is zero and no scale is one."""
    leaves, structure = jax.tree.flatten(tree)
    random = np.random.default_rng(seed)
    return structure.unflatten([scale * random.normal(size=leaf.shape).astype(leaf.dtype) for leaf in leaves])


def assert_trees_close(actual, expected, rtol=1e-5, atol=1e-6):
    """Asserts that two trees hold equal numbers of leaves, and close ones."""
    actual, expected = jax.tree.leaves(actual), jax.tree.leaves(expected)
    assert len(actual) == len(expected)
    for one, other in zip(actual, expected, strict=True):
        np.testing.assert_allclose(np.asarray(one, np.float64), np.asarray(other, np.float64), rtol, atol)
