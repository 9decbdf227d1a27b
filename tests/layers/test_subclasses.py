"""Flax's cell protocol: a cell with a `__call__` of its own is called, whichever cell it is a subclass of."""

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnn_jax import RNN, Bidirectional, GRUCell, LSTMCell, SimpleCell, Stacked
from rnn_jax.errors import InputError
from rnn_jax.layers.cells import Cell
from tests.helpers.cases import LENGTHS, UNITS, a_batch, padded_with, parameters, run_of
from tests.helpers.oracle import assert_trees_close


class NegatedSimple(SimpleCell):
    def __call__(self, carry, inputs):
        carry, output = super().__call__(carry, inputs)
        return carry, -output


class NegatedGRU(GRUCell):
    def __call__(self, carry, inputs):
        carry, output = super().__call__(carry, inputs)
        return carry, -output


class NegatedLSTM(LSTMCell):
    def __call__(self, carry, inputs):
        carry, output = super().__call__(carry, inputs)
        return carry, -output


class Sum(Cell):
    """A cell without parameters: h' = h + sum x."""

    def __call__(self, carry, inputs):
        carry = carry + inputs.sum(axis=-1, keepdims=True)
        return carry, carry


NEGATED = {SimpleCell: NegatedSimple, GRUCell: NegatedGRU, LSTMCell: NegatedLSTM}


def around(kind, make):
    if kind == "alone":
        return make()
    if kind == "bidirectional":
        return Bidirectional(make(), make())
    return Stacked([make()])


CASES = list(product(NEGATED, ["auto", "scan"], ["alone", "bidirectional", "stacked"]))
# Which cell, and where it is, are two things: the others are slow and show them together.
SLOW = [(parent, _, kind) for parent, _, kind in CASES if parent is not LSTMCell and kind != "alone"]


@pytest.mark.parametrize(
    ("parent", "backend", "kind"),
    [pytest.param(*case, marks=pytest.mark.slow if case in SLOW else ()) for case in CASES],
    ids=lambda part: part if isinstance(part, str) else part.__name__,
)
def test_a_subclass_is_called_on_every_backend(parent, backend, kind):
    theirs = around(kind, lambda: RNN(NEGATED[parent](UNITS), backend=backend))
    ours = around(kind, lambda: RNN(parent(UNITS)))
    params, x = parameters(ours), padded_with(a_batch(), LENGTHS, np.nan)
    carry, outputs = run_of(ours)(params, x, LENGTHS)
    their_carry, their_outputs = run_of(theirs)(params, x, LENGTHS)
    assert_trees_close(their_carry, carry)
    np.testing.assert_allclose(their_outputs, -np.asarray(outputs), rtol=1e-5, atol=1e-6)
    assert np.abs(np.asarray(outputs)).max() > 0.1


def test_a_subclass_of_the_base_class_needs_nothing_but_its_call():
    x = a_batch()
    carry, outputs = RNN(Sum(UNITS)).apply({}, x, LENGTHS)
    sums = np.where(np.arange(x.shape[1])[:, None] < LENGTHS[:, None, None], x, 0).sum(axis=2).cumsum(axis=1)
    np.testing.assert_allclose(carry, np.repeat(sums[:, -1:], UNITS, axis=1), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(np.asarray(outputs)[2, :, 0], sums[2], rtol=1e-5, atol=1e-5)


def test_gradients_reach_what_a_subclass_does():
    layer, x = RNN(NegatedLSTM(UNITS)), a_batch()
    params = parameters(RNN(LSTMCell(UNITS)))

    def total(params, layer):
        return layer.apply({"params": params}, x, LENGTHS)[1].sum()

    gradient = jax.jit(jax.grad(total), static_argnums=1)
    theirs, ours = gradient(params, layer), gradient(params, RNN(LSTMCell(UNITS)))
    assert_trees_close(theirs, jax.tree.map(jnp.negative, ours))


@pytest.mark.parametrize("backend", ["auto", "scan"])
def test_what_would_have_to_reach_inside_a_subclass_is_refused(backend):
    x = a_batch()
    with pytest.raises(InputError, match=r"NegatedLSTM has a __call__ of its own"):
        RNN(NegatedLSTM(UNITS), backend=backend, recurrent_dropout=0.5).init(jax.random.key(0), x)
    with pytest.raises(InputError, match=r"backend is \"fused\", but NegatedLSTM has a __call__ of its own"):
        RNN(NegatedLSTM(UNITS), backend="fused").init(jax.random.key(0), x)
