"""The layers that the tests run, and one compiled function for each: compiling is what takes the time."""

from functools import cache, partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnn_jax import (
    RNN,
    Bidirectional,
    GRUCell,
    LRUCell,
    LSTMCell,
    MinGRUCell,
    MinLSTMCell,
    RGLRUCell,
    SimpleCell,
    SLSTMCell,
    SRUCell,
    Stacked,
)
from tests.helpers import oracle
from tests.helpers.oracle import random_like

BATCH, TIME, SIZE, UNITS = 4, 6, 3, 4
LENGTHS = np.array([4, 0, 6, 1])
CELLS = {
    "simple": (SimpleCell, oracle.simple),
    "gru": (GRUCell, oracle.gru),
    "lstm": (LSTMCell, oracle.lstm),
    "norm_lstm": (partial(LSTMCell, layer_norm=True), oracle.norm_lstm),
}
LINEAR = {
    "min_gru": (MinGRUCell, oracle.min_gru),
    "min_lstm": (MinLSTMCell, oracle.min_lstm),
    "sru": (SRUCell, oracle.sru),
    "lru": (LRUCell, oracle.lru),
    "rglru": (RGLRUCell, oracle.rglru),
}
EVERY_CELL = CELLS | LINEAR | {"slstm": (SLSTMCell, oracle.slstm)}


def slow_but(fast, cases):
    """Returns the cases of a test, as slow where they only repeat what those in `fast` show."""
    return [pytest.param(case, marks=() if case in fast else pytest.mark.slow) for case in cases]


def rnn(name="lstm", units=UNITS, **options):
    return RNN(EVERY_CELL[name][0](units), **options)


def bidirectional(name="lstm", units=UNITS, merge="concat"):
    return Bidirectional(rnn(name, units), rnn(name, units), merge)


LAYERS = {
    **{name: rnn(name) for name in EVERY_CELL},
    **{f"{name}_reverse": rnn(name, reverse=True) for name in EVERY_CELL},
    "bidirectional": bidirectional(),
    "stacked": Stacked([bidirectional("lstm"), bidirectional("gru", 2)]),
    "residual": Stacked([rnn("gru", SIZE), rnn("simple", SIZE, reverse=True)], residual=True),
    "flax_cells": Stacked([Bidirectional(RNN(nn.GRUCell(2)), RNN(nn.GRUCell(2))), RNN(nn.LSTMCell(2))]),
}


def a_batch(seed=0, batch=BATCH, time=TIME, size=SIZE):
    return np.random.default_rng(seed).normal(size=(batch, time, size)).astype(np.float32)


def padded_with(x, lengths, value):
    """Returns x with `value` at every padded step."""
    return np.where(np.arange(x.shape[1])[:, None] < np.asarray(lengths)[:, None, None], x, np.float32(value))


def every_cell(fast=("sru",)):
    """Returns the names of all cells; those beside CELLS and `fast` are slow: they only repeat these."""
    return slow_but([*CELLS, *fast], EVERY_CELL)


def parameters(layer, seed=1):
    shapes = jax.eval_shape(layer.init, jax.random.key(0), jnp.zeros((1, 2, SIZE)))
    return random_like(shapes["params"], seed)


def carry_of(layer, seed=3):
    """Returns a random carry of the layer's structure."""
    carry, _ = jax.eval_shape(layer.apply, {"params": parameters(layer)}, a_batch())
    return random_like(carry, seed)


def compiled(function, **options):
    """Returns `function(model, ...)` compiled once for each model: layers in lists have no hash."""
    programs = {}

    def call(model, *arguments, **named):
        if id(model) not in programs:
            programs[id(model)] = model, jax.jit(partial(function, model), **options)
        return programs[id(model)][1](*arguments, **named)

    return call


def run_of(layer, **options):
    """Returns the layer as a compiled function of (params, x, lengths, initial_carry)."""

    @jax.jit
    def run(params, x, lengths=None, initial_carry=None):
        return layer.apply({"params": params}, x, lengths, initial_carry, **options)

    return run


@cache
def run_and_gradients(name):
    """Returns a compiled (params, x, lengths, carry) -> ((carry, outputs), gradients of params, x, carry)."""

    def loss(params, x, initial, lengths):
        carry, outputs = LAYERS[name].apply({"params": params}, x, lengths, initial)
        leaves = [*jax.tree.leaves(carry), outputs]
        return sum((random_like(leaf, i) * leaf).sum() for i, leaf in enumerate(leaves)), (carry, outputs)

    def run(params, x, lengths, initial):
        gradients, values = jax.grad(loss, argnums=(0, 1, 2), has_aux=True)(params, x, initial, lengths)
        return values, gradients

    return jax.jit(run)


def run_layer(name, *arguments):
    """Returns (carry, outputs) of a layer of LAYERS for (params, x, lengths, initial_carry)."""
    return run_and_gradients(name)(*arguments)[0]


def first_state(name, rows, units=UNITS, initial=None):
    """Returns the arrays of a carry of a cell, the initial one if none is given."""
    if initial is None:
        initial = EVERY_CELL[name][0](units).initialize_carry(jax.random.key(0), (rows, SIZE))
    return jax.tree.leaves(initial)


def expected_rnn(name, params, x, lengths, reverse=False, initial=None, units=UNITS):
    """Returns the oracle's (state, outputs) of one direction."""
    initial = first_state(name, len(x), units, initial)
    return oracle.over_time(EVERY_CELL[name][1], params["cell"], x, lengths, initial, reverse)
