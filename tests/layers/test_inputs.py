"""What layers are given: lists and lengths of any kind, empty batches, and what is refused by name."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from rnn_jax import RNN, Bidirectional, GRUCell, LanguageModel, LSTMCell, Stacked, TextClassifier
from rnn_jax.errors import InputError
from rnn_jax.layers import Dropout, LSTMCarry, Pooling
from rnn_jax.layers.inputs import fit_carry, row_lengths
from rnn_jax.models import WordTagger
from tests.helpers.cases import LAYERS, SIZE, a_batch, bidirectional, parameters, rnn, slow_but
from tests.helpers.oracle import assert_trees_close, random_like

X, UNITS = a_batch(batch=2), 4
EMPTY = {
    **{
        f"{name}_{backend}": rnn(name, backend=backend)
        for name in ("lstm", "gru")
        for backend in ("fused", "scan")
    },
    **{name: LAYERS[name] for name in ("simple", "norm_lstm", "lstm_reverse", "bidirectional", "flax_cells")},
    "stacked": Stacked([rnn("lstm"), rnn("gru")], dropout=0.5),
}


@pytest.mark.parametrize("shape", [(0, 3, SIZE), (2, 0, SIZE)])
@pytest.mark.parametrize("name", slow_but({"lstm_fused", "gru_scan"}, EMPTY))
def test_no_rows_or_no_steps_give_no_outputs_the_initial_carry_and_no_gradient(name, shape):
    layer, x = EMPTY[name], np.zeros(shape, np.float32)
    params = parameters(layer)
    initial = random_like(jax.eval_shape(layer.apply, {"params": params}, x)[0])

    def total(params, x, initial):
        carry, outputs = layer.apply({"params": params}, x, [7] * len(x), initial)
        return sum((leaf**2).sum() for leaf in jax.tree.leaves((carry, outputs))), (carry, outputs)

    run = jax.jit(jax.value_and_grad(total, argnums=(0, 1, 2), has_aux=True))
    (_, (carry, outputs)), (of_params, of_x, of_carry) = run(params, x, initial)
    assert outputs.shape[:2] == shape[:2]
    assert_trees_close(carry, initial, rtol=0, atol=0)
    assert of_x.shape == shape
    assert not any(np.asarray(leaf).any() for leaf in jax.tree.leaves(of_params))
    assert_trees_close(of_carry, jax.tree.map(lambda leaf: 2 * leaf, initial), rtol=1e-6, atol=0)


@pytest.mark.parametrize("kind", slow_but({"mean"}, ["last", "mean", "max", "concat", "attention"]))
def test_a_length_outside_of_the_text_is_clamped_in_layers_and_pooling(kind):
    model = TextClassifier(9, SIZE, 3, RNN(GRUCell(2)), kind)
    ids = np.array([[5, 2, 7], [1, 3, 4]])
    params = random_like(jax.eval_shape(model.init, jax.random.key(0), ids)["params"])
    run = jax.jit(model.apply)
    expected = run({"params": params}, ids, np.array([3, 0]))
    again = run({"params": params}, ids, np.array([200, -9]))
    np.testing.assert_array_equal(again, expected)
    final, outputs = np.ones((2, 3), np.float32), np.ones((2, 4, 3), np.float32)
    pool = jax.jit(partial(Pooling(kind).init_with_output, jax.random.key(0), final, outputs))
    np.testing.assert_array_equal(pool(np.array([99, -2]))[0], pool(np.array([4, 0]))[0])


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int64, np.uint32, jnp.int8])
def test_lengths_of_any_integer_type_are_clamped_to_a_time_that_the_type_cannot_hold(dtype):
    lengths = (jnp if dtype is jnp.int8 else np).array([100, 3], dtype)
    assert row_lengths(lengths, (2,), 1000).tolist() == [100, 3]
    assert row_lengths(lengths, (2,), 50).tolist() == [50, 3]
    assert row_lengths([2**40, -(2**40)], (2,), 50).tolist() == [50, 0]


@pytest.mark.slow
def test_lists_and_tuples_are_arrays():
    layer = rnn("gru")
    params = parameters(layer)
    expected = layer.apply({"params": params}, X, np.array([2, 5]))
    for lengths in ([2, 5], (2, 5), jnp.array([2, 5])):
        assert_trees_close(layer.apply({"params": params}, X.tolist(), lengths), expected, rtol=0, atol=0)
    ids = np.array([[5, 2, 7], [1, 3, 4]])
    for model in (TextClassifier(9, SIZE, 3, RNN(GRUCell(2))), LanguageModel(9, SIZE, RNN(GRUCell(2)))):
        variables = model.init(jax.random.key(0), ids.tolist(), [3, 1])
        listed, arrays = (
            model.apply(variables, ids.tolist(), [3, 1]),
            model.apply(variables, ids, np.array([3, 1])),
        )
        assert_trees_close(listed, arrays, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("name", "backend"), [("gru", "scan"), ("gru", "fused"), ("gru", "auto"), ("min_gru", "linear")]
)
def test_a_carry_of_integers_or_booleans_is_read_as_floats(name, backend):
    layer = rnn(name, backend=backend)
    params, ones = {"params": parameters(layer)}, np.ones((2, UNITS), np.float32)
    expected = layer.apply(params, X, initial_carry=ones)
    for dtype in (int, bool):
        found = layer.apply(params, X, initial_carry=ones.astype(dtype))
        assert_trees_close(found, expected, rtol=0, atol=0)
    assert expected[0].dtype == found[0].dtype == np.float32
    assert layer.apply(params, X, initial_carry=ones.astype(jnp.bfloat16))[0].dtype == jnp.bfloat16


def test_a_carry_that_counts_stays_a_count():
    assert fit_carry(np.ones(2, int), jnp.zeros(2, jnp.int32), "Counter").dtype == np.int32


def classifier(token_ids):
    return TextClassifier(9, SIZE, 2, RNN(GRUCell(2))), (token_ids,)


both, stack = bidirectional("gru"), Stacked([rnn("gru"), rnn("lstm")])
h = np.zeros((2, UNITS), np.float32)
ERRORS = {
    r"x has shape \(3,\)": (rnn(), (np.zeros(3),)),
    r"x has shape \(2, 5, 0\), with 0 features": (stack, (np.zeros((2, 5, 0)),)),
    "features of GRUCell is 0; give at least 1": (RNN(GRUCell(0)), (X,)),
    "features of LSTMCell is -1; give at least 1": (Stacked([RNN(LSTMCell(-1))]), (X,)),
    r"^rate is 1.5, but has to be at least 0 and below 1": (Dropout(1.5), (X, True)),
    r"^rate is -1.0, but has to be at least 0 and below 1": (Dropout(-1.0), (X, False)),
    r"^x has shape \(4,\); each row has a mask: give": (Dropout(0.5), (np.zeros(4), False)),
    r"^embedding_dropout is 50.0": (TextClassifier(9, 3, 2, rnn(), embedding_dropout=50.0), ([[1]],)),
    r"^dropout is 2.0": (WordTagger(9, 3, 2, rnn(), dropout=2.0), ([[1]],)),
    "x is a list that is no array of numbers": (rnn(), ([[[1.0]], [[1.0], [2.0]]],)),
    r"lengths has shape \(3,\), but x has rows of shape \(2,\)": (rnn(), (X, [1, 2, 3])),
    r"lengths has shape \(\), but x has rows of shape \(2,\)": (rnn(), (X, 3)),
    "lengths has dtype float64": (rnn(), (X, [1.0, 2.0])),
    "lengths has dtype bool": (rnn(), (X, [True, False])),
    "give one integer a row": (rnn(), (X, [[1], [2, 3]])),
    "initial_carry is a LSTMCarry; give 2 carries, one for each of the directions": (
        both,
        (X, None, LSTMCarry(h, h)),
    ),
    "initial_carry is a float; give 2": (both, (X, None, 1.0)),
    "initial_carry holds 3 carries for 2 directions": (both, (X, None, (h, h, h))),
    "initial_carry is a dict; give 2 carries, one for each of the layers": (
        stack,
        (X, None, {"a": h, "b": h}),
    ),
    r"initial_carry has shapes \[\(2, 3\)\], but GRUCell carries \[\(2, 4\)\]": (
        both,
        (X, None, (h, h[:, 1:])),
    ),
    "token_ids has dtype float32": classifier([[1.0, 2.0]]),
    r"token_ids has shape \(2,\)": classifier([1, 2]),
    "token_ids is a list that is no array": classifier([[1, 2], [3]]),
    "token_ids is a list that is no array of": classifier([["film"]]),
    r"cell is an nnx LSTMCell.*rnn_jax.LSTMCell.*nnx.bridge.ToNNX": (
        RNN(nnx.LSTMCell(3, 4, rngs=nnx.Rngs(0))),
        (X,),
    ),
    r"cell is an nnx SimpleCell.*rnn_jax.SimpleCell": (RNN(nnx.SimpleCell(3, 4, rngs=nnx.Rngs(0))), (X,)),
    r"cell is the class LSTMCell; give a cell": (RNN(LSTMCell), (X,)),
}


@pytest.mark.parametrize("message", ERRORS)
def test_a_wrong_argument_is_named(message):
    layer, arguments = ERRORS[message]
    with pytest.raises(InputError, match=message):
        layer.init(jax.random.key(0), *arguments)


@pytest.mark.parametrize("layer", [rnn("lstm"), rnn("gru", backend="scan"), RNN(nn.GRUCell(4))])
def test_x_of_another_width_is_refused_with_the_width_of_the_parameters(layer):
    with pytest.raises(InputError, match=r"x has 7 features, but the parameters of .* were made for 3; give"):
        layer.apply({"params": parameters(layer)}, a_batch(size=7))
    with pytest.raises(InputError, match=r"the parameters of .* do not fit.*has shape \(3, 4\)"):
        type(layer)(layer.cell.clone(features=5)).apply({"params": parameters(layer)}, X)


def test_the_width_of_a_layer_above_is_checked_too():
    layer = Bidirectional(rnn(), rnn())
    with pytest.raises(InputError, match="were made for 3"):
        layer.apply({"params": parameters(layer)}, a_batch(size=2))
