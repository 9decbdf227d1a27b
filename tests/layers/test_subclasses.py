"""Flax's protocol: a cell or layer with a `__call__` of its own is called, whatever it is a subclass of."""

from functools import partial
from itertools import product

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnn_jax import RNN, Bidirectional, GRUCell, LSTMCell, SimpleCell, Stacked
from rnn_jax.errors import InputError
from rnn_jax.layers import Cell, recurrent_product
from tests.helpers import oracle
from tests.helpers.cases import LENGTHS, UNITS, a_batch, carry_of, padded_with, parameters, run_of
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


class Doubled(LSTMCell):
    """z counts twice: the description of its parent does not hold."""

    def step(self, weights, carry, z, hidden_mask=None):
        return super().step(weights, carry, 2 * z, hidden_mask)


class DoubledAndDescribed(Doubled):
    fused_step = LSTMCell.fused_step._replace(read_inputs=lambda z: 2 * z)


class Undescribed(Cell):
    """h' = W x + U h + b, without a description."""

    @nn.compact
    def weights(self, input_size):
        kernel, bias = self.parameters(
            "i",
            kernel=(self.kernel_init, (input_size, self.features)),
            bias=(self.bias_init, (self.features,)),
        )
        recurrent = self.parameters("h", kernel=(self.recurrent_kernel_init, (self.features, self.features)))
        return self.join_gates([kernel], recurrent, [bias])

    def step(self, weights, carry, z, hidden_mask=None):
        h = z + recurrent_product(weights, carry, hidden_mask)
        return h, h


INPUTS = {"ii", "if", "ig", "io"}
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


@pytest.mark.slow
def test_gradients_reach_what_a_subclass_does():
    layer, x = RNN(NegatedLSTM(UNITS)), a_batch()
    params = parameters(RNN(LSTMCell(UNITS)))

    def total(params, layer):
        return layer.apply({"params": params}, x, LENGTHS)[1].sum()

    gradient = jax.jit(jax.grad(total), static_argnums=1)
    theirs, ours = gradient(params, layer), gradient(params, RNN(LSTMCell(UNITS)))
    assert_trees_close(theirs, jax.tree.map(jnp.negative, ours))


def is_fused(layer, params):
    return "custom_jvp_call" in str(jax.make_jaxpr(layer.apply)({"params": params}, a_batch(), LENGTHS))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["alone", "bidirectional", "stacked"])
def test_a_step_of_its_own_is_run_and_never_with_the_description_of_the_parent(kind):
    plain, theirs, described = (
        around(kind, partial(lambda cell: RNN(cell(UNITS)), cell))
        for cell in (LSTMCell, Doubled, DoubledAndDescribed)
    )
    params, x = parameters(plain), a_batch()
    assert not is_fused(theirs, params)
    assert is_fused(described, params)
    found = theirs.apply({"params": params}, x, LENGTHS)
    assert_trees_close(described.apply({"params": params}, x, LENGTHS), found)
    doubled = jax.tree_util.tree_map_with_path(
        lambda path, leaf: 2 * leaf if path[-2].key in INPUTS or path[-1].key == "bias" else leaf, params
    )
    assert_trees_close(found, plain.apply({"params": doubled}, x, LENGTHS))


def test_a_subclass_with_its_parents_step_keeps_its_description():
    class Forgetful(LSTMCell):
        forget_bias: float = -1.0

    assert is_fused(RNN(Forgetful(UNITS)), parameters(RNN(LSTMCell(UNITS))))


@pytest.mark.slow
def test_a_cell_without_a_description_is_scanned_with_dropout_inside():
    layer, x = RNN(Undescribed(UNITS), recurrent_dropout=0.5), a_batch()
    params = parameters(layer)
    assert not is_fused(layer, params)
    found = layer.apply({"params": params}, x, LENGTHS)

    def step(p, state, x, mask=1):
        return (oracle.affine(p["i"], x) + oracle.affine(p["h"], state[0] * mask),)

    zeros = [np.zeros((len(x), UNITS))]
    assert_trees_close(found, oracle.over_time(step, params["cell"], x, LENGTHS, zeros))
    options = {"deterministic": False, "rngs": {"dropout": jax.random.key(1)}}
    dropped = layer.apply({"params": params}, x, LENGTHS, **options)
    assert np.abs(np.asarray(dropped[1]) - np.asarray(found[1])).max() > 0.01


@pytest.mark.parametrize("cell", [Doubled, Undescribed])
def test_fused_is_refused_where_no_description_fits(cell):
    with pytest.raises(InputError, match=rf"{cell.__name__} has a step of its own and no fused_step"):
        RNN(cell(UNITS), backend="fused").init(jax.random.key(0), a_batch())


@pytest.mark.parametrize("backend", ["auto", "scan"])
def test_what_would_have_to_reach_inside_a_subclass_is_refused(backend):
    x = a_batch()
    with pytest.raises(InputError, match=r"NegatedLSTM has a __call__ of its own"):
        RNN(NegatedLSTM(UNITS), backend=backend, recurrent_dropout=0.5).init(jax.random.key(0), x)
    with pytest.raises(InputError, match=r"backend is \"fused\", but NegatedLSTM has a __call__ of its own"):
        RNN(NegatedLSTM(UNITS), backend="fused").init(jax.random.key(0), x)


# Layers


class Louder(RNN):
    def __call__(self, x, lengths=None, initial_carry=None, deterministic=True):
        carry, outputs = super().__call__(x, lengths, initial_carry, deterministic)
        return carry, 3 * outputs


def halved(params):
    return jax.tree.map(lambda leaf: leaf / 2, params)


Halved = nn.map_variables(RNN, "params", trans_in_fn=halved)
WITHIN = {
    "stacked": lambda layer: Stacked([layer, RNN(GRUCell(UNITS))]),
    "forward": lambda layer: Bidirectional(layer, RNN(GRUCell(UNITS))),
}


@pytest.mark.parametrize("within", WITHIN)
def test_a_layer_with_a_call_of_its_own_is_called_inside_others(within):
    around = WITHIN[within]
    plain, louder, mapped = (around(kind(SimpleCell(UNITS))) for kind in (RNN, Louder, Halved))
    params, x, initial = parameters(plain), a_batch(), carry_of(plain)
    scope = {"stacked": "layers_0", "forward": "forward_rnn"}[within]
    expected = run_of(plain)(params | {scope: halved(params[scope])}, x, LENGTHS, initial)
    assert_trees_close(run_of(mapped)(params, x, LENGTHS, initial), expected)
    alone = run_of(Louder(SimpleCell(UNITS)))(params[scope], x, LENGTHS, initial[0])
    (first, _), outputs = run_of(louder)(params, x, LENGTHS, initial)
    assert_trees_close(first, alone[0])
    if within == "forward":
        np.testing.assert_allclose(outputs[..., :UNITS], alone[1], rtol=1e-5, atol=1e-6)
    else:
        above = run_of(RNN(GRUCell(UNITS)))(params["layers_1"], alone[1], LENGTHS, initial[1])
        np.testing.assert_allclose(outputs, above[1], rtol=1e-5, atol=1e-6)


def test_a_layer_of_remat_is_computed_again_inside_a_stack():
    def program(kind):
        layer = Stacked([kind(LSTMCell(UNITS), recurrent_dropout=0.5, backend="scan")])
        variables, rngs = {"params": parameters(layer)}, {"dropout": jax.random.key(0)}
        return jax.make_jaxpr(lambda x: layer.apply(variables, x, deterministic=False, rngs=rngs))(a_batch())

    assert "prevent_cse" in str(program(nn.remat(RNN, static_argnums=(4,))))
    assert "prevent_cse" not in str(program(RNN))


REFUSED = {
    r"layers has a Dense of flax.linen.*, but only .* RNN\(cell\)": Stacked([RNN(GRUCell(2)), nn.Dense(4)]),
    r"layers has a GRUCell of rnn_jax": Stacked([GRUCell(2)]),
    r"layers has a RNN of flax.linen": Stacked([nn.RNN(nn.GRUCell(2))]),
    r"layers has a type of builtins": Stacked([RNN]),
    r"forward_rnn has a GRUCell of": Bidirectional(GRUCell(2), GRUCell(2)),
    r"backward_rnn has a Dense of": Bidirectional(RNN(GRUCell(2)), nn.Dense(4)),
    r"backward_rnn has a Louder, .* runs one way only": Bidirectional(RNN(GRUCell(2)), Louder(GRUCell(2))),
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_cannot_run_inside_a_layer_is_refused(message):
    with pytest.raises(InputError, match=message):
        jax.eval_shape(REFUSED[message].init, jax.random.key(0), a_batch())


def test_the_carries_of_a_layer_with_a_call_of_its_own_are_refused():
    layer = Stacked([Louder(GRUCell(UNITS))])
    with pytest.raises(InputError, match=r"layers has a Louder, .* no carry at every step"):
        layer.apply({"params": parameters(layer)}, a_batch(), method="carries")
