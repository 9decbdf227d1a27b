"""Parameters to and from other frameworks: equal outputs on ragged rows, and equal bits after both ways."""

from functools import cache

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from flax.core import freeze
from flax.traverse_util import flatten_dict, unflatten_dict
from hypothesis import given, settings
from hypothesis import strategies as st

from rnn_jax import RNN, Bidirectional, GRUCell, LSTMCell, SimpleCell, Stacked
from rnn_jax.convert import frameworks as convert
from rnn_jax.convert.cell_layouts import LAYOUTS
from rnn_jax.errors import InputError
from rnn_jax.models import encoder as models
from tests.helpers import oracle
from tests.helpers.oracle import random_like, sigmoid

SIZE, UNITS, TIME = 3, 4, 5
LENGTHS = np.array([5, 1, 3])
x_BTE = np.random.default_rng(0).normal(size=(3, TIME, SIZE)).astype(np.float32)
CELLS = {"lstm": LSTMCell, "gru": GRUCell, "simple": SimpleCell}
STEPS = {"lstm": oracle.lstm, "gru": oracle.gru, "simple": oracle.simple}
GATES = {"lstm": 4, "gru": 3, "simple": 1}
NETWORKS = {"one_way": (1, 1), "bidirectional": (1, 2), "stacked": (2, 2)}
every_kind = pytest.mark.parametrize("kind", CELLS)


def our_layer(kind, network):
    layers, directions = NETWORKS[network]
    one = lambda: RNN(CELLS[kind](UNITS))  # noqa: E731
    stack = [one() if directions == 1 else Bidirectional(one(), one()) for _ in range(layers)]
    return stack[0] if layers == 1 else Stacked(stack)


@cache
def our_program(kind, network):
    layer = our_layer(kind, network)
    return jax.jit(lambda params: layer.apply({"params": params}, x_BTE, LENGTHS)[1])


def our_params(kind, network, seed=0):
    shapes = jax.eval_shape(our_layer(kind, network).init, jax.random.key(0), x_BTE)
    return random_like(shapes["params"], seed)


def valid(outputs_BTH):
    """Returns the outputs of the valid steps, [sum of the lengths, H]."""
    return np.concatenate([np.asarray(row)[:n] for row, n in zip(outputs_BTH, LENGTHS, strict=True)])


def assert_converts(kind, network, weights, run, take, give):
    """Their weights in our layers, and those given back in theirs, have the outputs that they had there."""
    expected = run(weights)
    params = take(weights)
    np.testing.assert_allclose(valid(our_program(kind, network)(params)), expected, rtol=0, atol=1e-6)
    np.testing.assert_allclose(run(give(params)), expected, rtol=0, atol=1e-6)


def assert_same_bits(actual, expected):
    actual, expected = flatten_dict(actual), flatten_dict(expected)
    assert actual.keys() == expected.keys()
    for name, array in expected.items():
        assert isinstance(actual[name], np.ndarray)
        assert actual[name].dtype == array.dtype
        assert np.array_equal(actual[name], array)
        assert np.array_equal(np.signbit(actual[name]), np.signbit(array)), name


# Against the frameworks


def torch_module(kind, network):
    torch = pytest.importorskip("torch", reason="the framework to compare with; pip install torch")
    layers, directions = NETWORKS[network]
    module = getattr(torch.nn, {"lstm": "LSTM", "gru": "GRU", "simple": "RNN"}[kind])(
        SIZE, UNITS, num_layers=layers, bidirectional=directions == 2, batch_first=True
    )
    return torch, module


@pytest.mark.slow
@pytest.mark.parametrize("network", NETWORKS)
@every_kind
def test_torch_has_the_same_outputs(kind, network):
    torch, module = torch_module(kind, network)
    weights = random_like({name: value.numpy() for name, value in module.state_dict().items()})

    def run(weights):
        module.load_state_dict({name: torch.tensor(array) for name, array in weights.items()}, strict=True)
        packed = torch.nn.utils.rnn.pack_padded_sequence(
            torch.tensor(x_BTE), torch.tensor(LENGTHS), batch_first=True, enforce_sorted=False
        )
        with torch.no_grad():
            outputs, _ = torch.nn.utils.rnn.pad_packed_sequence(module(packed)[0], batch_first=True)
        return valid(outputs)

    assert_converts(kind, network, weights, run, convert.from_torch, convert.to_torch)
    run(weights)
    assert_same_bits(convert.from_torch(module), convert.from_torch(weights))


def test_torch_modules_and_tensors_are_copied():
    torch, module = torch_module("gru", "one_way")
    params = convert.from_torch(module.to(torch.bfloat16))
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {np.dtype(jnp.bfloat16)}
    kernel = params["cell"]["ir"]["kernel"]
    before = kernel.copy()
    assert np.array_equal(before.astype(np.float32), module.weight_ih_l0[:UNITS].detach().float().numpy().T)
    with torch.no_grad():
        module.weight_ih_l0.zero_()
    assert np.array_equal(kernel, before)
    module = module.float()
    params = convert.from_torch(module)
    before = jax.tree.map(np.copy, params)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
    assert_same_bits(params, before)


@pytest.fixture(scope="module")
def keras(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:  # Keras reads these when it is imported
        patch.setenv("KERAS_BACKEND", "jax")
        patch.setenv("KERAS_HOME", str(tmp_path_factory.mktemp("keras")))
        yield pytest.importorskip("keras", reason="the framework to compare with; pip install keras")


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras's own get_weights
@pytest.mark.slow
@pytest.mark.parametrize("network", NETWORKS)
@every_kind
def test_keras_has_the_same_outputs(keras, kind, network):
    make = {"lstm": keras.layers.LSTM, "gru": keras.layers.GRU, "simple": keras.layers.SimpleRNN}[kind]
    depth, directions = NETWORKS[network]
    layers = [make(UNITS, return_sequences=True) for _ in range(depth)]
    layers = [keras.layers.Bidirectional(layer) if directions == 2 else layer for layer in layers]
    with jax.numpy_rank_promotion("allow"):  # Keras adds arrays of other ranks
        model = keras.Sequential([keras.Input((None, SIZE)), *layers])
    weights = random_like([layer.get_weights() for layer in layers])

    def run(weights):
        for layer, arrays in zip(layers, weights, strict=True):
            layer.set_weights(arrays)
        with jax.numpy_rank_promotion("allow"):
            rows = [model(x_BTE[row : row + 1, :length])[0] for row, length in enumerate(LENGTHS)]
        return np.concatenate(rows)

    assert_converts(kind, network, weights, run, convert.from_keras, convert.to_keras)
    assert_same_bits(
        convert.from_keras([layer.get_weights() for layer in layers]), convert.from_keras(weights)
    )


LINEN = {"lstm": nn.LSTMCell, "gru": nn.GRUCell, "simple": nn.SimpleCell}


@pytest.mark.slow
@pytest.mark.parametrize("network", ["one_way", "bidirectional"])
@every_kind
def test_linen_has_the_same_outputs_and_the_same_tree(kind, network):
    one = lambda: nn.RNN(LINEN[kind](UNITS))  # noqa: E731
    module = one() if network == "one_way" else nn.Bidirectional(one(), one())
    shapes = jax.eval_shape(module.init, jax.random.key(0), x_BTE)["params"]
    program = jax.jit(lambda params: module.apply({"params": params}, x_BTE, seq_lengths=LENGTHS))
    weights = random_like(shapes)
    assert_converts(
        kind,
        network,
        weights,
        lambda weights: valid(program(weights)),
        lambda tree: convert.from_cells(tree, "linen"),
        lambda params: convert.to_cells(params, "linen"),
    )
    assert_same_bits(convert.from_cells(weights, "linen"), weights)


NNX = {
    "lstm": (nnx.OptimizedLSTMCell, "nnx"),
    "separate": (nnx.LSTMCell, "nnx_separate"),
    "gru": (nnx.GRUCell, "nnx"),
    "simple": (nnx.SimpleCell, "nnx"),
}


@pytest.mark.slow
@pytest.mark.parametrize("network", ["one_way", "bidirectional"])
@pytest.mark.parametrize("name", NNX)
def test_nnx_has_the_same_outputs(name, network):
    cell, framework = NNX[name]
    kind = "lstm" if name == "separate" else name
    one = lambda: nnx.RNN(cell(SIZE, UNITS, rngs=nnx.Rngs(0)))  # noqa: E731
    module = one() if network == "one_way" else nnx.Bidirectional(one(), one())
    state = nnx.state(module, nnx.Param)
    program = nnx.jit(lambda module: module(x_BTE, seq_lengths=LENGTHS))

    def run(weights):
        nnx.replace_by_pure_dict(state, weights)
        nnx.update(module, state)
        return valid(program(module))

    assert_converts(
        kind,
        network,
        random_like(nnx.to_pure_dict(state)),
        run,
        lambda tree: convert.from_cells(tree, framework),
        lambda params: convert.to_cells(params, framework),
    )


@pytest.mark.slow
def test_haiku_has_the_same_outputs():
    hk = pytest.importorskip("haiku", reason="the framework to compare with; pip install -e '.[interop]'")

    def unroll(x_BTE):
        core = hk.LSTM(UNITS)
        return hk.dynamic_unroll(core, x_BTE, core.initial_state(len(x_BTE)), time_major=False)[0]

    transformed = hk.without_apply_rng(hk.transform(unroll))
    shapes = jax.eval_shape(transformed.init, jax.random.key(0), x_BTE)
    assert_converts(
        "lstm",
        "one_way",
        {"cell": random_like(shapes)["lstm/linear"]},
        lambda tree: valid(
            transformed.apply({"lstm/linear": tree["cell"]}, x_BTE)
        ),  # one way: padding is later
        lambda tree: convert.from_cells(tree, "haiku"),
        lambda params: convert.to_cells(params, "haiku"),
    )


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_equinox_has_the_same_outputs(kind):
    eqx = pytest.importorskip("equinox", reason="the framework to compare with; pip install -e '.[interop]'")
    cell = {"lstm": eqx.nn.LSTMCell, "gru": eqx.nn.GRUCell}[kind](SIZE, UNITS, key=jax.random.key(0))
    names = ("weight_ih", "weight_hh", "bias", "bias_n")[: 3 if kind == "lstm" else 4]

    @jax.jit
    def program(tree):
        arrays = [tree["cell"][name] for name in names]
        module = eqx.tree_at(lambda cell: [getattr(cell, name) for name in names], cell, arrays)
        zeros = jnp.zeros(UNITS)

        def step(carry, x_E):
            carry = module(x_E, carry)
            return carry, carry[0] if kind == "lstm" else carry

        first = (zeros, zeros) if kind == "lstm" else zeros
        return jax.vmap(lambda x_TE: jax.lax.scan(step, first, x_TE)[1])(x_BTE)

    assert_converts(
        kind,
        "one_way",
        random_like({"cell": {name: np.asarray(getattr(cell, name)) for name in names}}),
        lambda tree: valid(program(tree)),
        lambda tree: convert.from_cells(tree, "equinox"),
        lambda params: convert.to_cells(params, "equinox"),
    )


# Without them: layers, directions and sizes at random


def torch_layout(random, kind, layers, directions, size, units):
    """Returns a random state dict with torch's names and shapes, in float64."""
    gates, arrays = GATES[kind], {}
    for layer in range(layers):
        inputs = size if layer == 0 else directions * units
        for suffix in ("", "_reverse")[:directions]:
            end = f"_l{layer}{suffix}"
            arrays[f"weight_ih{end}"] = random.normal(size=(gates * units, inputs))
            arrays[f"weight_hh{end}"] = random.normal(size=(gates * units, units))
            arrays[f"bias_ih{end}"] = random.normal(size=gates * units)
            arrays[f"bias_hh{end}"] = random.normal(size=gates * units)
    return arrays


def torch_step(kind, arrays, end, h, c, x):
    """Returns (h, c) after one step, by the formulas of torch's documentation."""
    inputs = arrays[f"weight_ih{end}"] @ x + arrays[f"bias_ih{end}"]
    hidden = arrays[f"weight_hh{end}"] @ h + arrays[f"bias_hh{end}"]
    if kind == "simple":
        return np.tanh(inputs + hidden), c
    if kind == "lstm":
        i, f, g, o = np.split(inputs + hidden, 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        return sigmoid(o) * np.tanh(c), c
    (r_i, z_i, n_i), (r_h, z_h, n_h) = np.split(inputs, 3), np.split(hidden, 3)
    z = sigmoid(z_i + z_h)
    return (1 - z) * np.tanh(n_i + sigmoid(r_i + r_h) * n_h) + z * h, c


def torch_forward(kind, arrays, layers, directions, units, x_TE):
    """Returns the outputs [T, directions * H] of one row, of its own length."""
    for layer in range(layers):
        outputs = []
        for suffix in ("", "_reverse")[:directions]:
            h = c = np.zeros(units)
            states = []
            for x in reversed(x_TE) if suffix else x_TE:
                h, c = torch_step(kind, arrays, f"_l{layer}{suffix}", h, c, x)
                states.append(h)
            outputs.append(np.array(states[::-1] if suffix else states))
        x_TE = np.concatenate(outputs, axis=-1)
    return x_TE


def our_forward(kind, params, layers, directions, units, x_TE):
    """Returns the same of our parameters, by the loops of tests/oracle.py."""
    for layer in range(layers):
        tree = params if layers == 1 else params[f"layers_{layer}"]
        scopes = [tree] if directions == 1 else [tree["forward_rnn"], tree["backward_rnn"]]
        zeros = [np.zeros((1, units))] * (2 if kind == "lstm" else 1)
        outputs = [
            oracle.over_time(STEPS[kind], scope["cell"], x_TE[None], [len(x_TE)], zeros, reverse)[1][0]
            for scope, reverse in zip(scopes, (False, True), strict=False)
        ]
        x_TE = np.concatenate(outputs, axis=-1)
    return x_TE


SHAPES = {
    "kind": st.sampled_from(list(CELLS)),
    "layers": st.integers(1, 3),
    "directions": st.integers(1, 2),
    "size": st.integers(1, 4),
    "units": st.integers(1, 4),
    "seed": st.integers(0, 2**32 - 1),
}


def normal_params(kind, layers, directions, size, units, seed):
    """Returns our parameters, float32, with zeros of both signs among them."""
    arrays = torch_layout(np.random.default_rng(seed), kind, layers, directions, size, units)
    params = convert.from_torch({name: array.astype(np.float32) for name, array in arrays.items()})

    def with_zeros(leaf):
        random = np.random.default_rng(seed + leaf.size)
        return np.where(random.random(leaf.shape) < 0.2, np.copysign(np.float32(0), leaf), leaf)

    return jax.tree.map(with_zeros, params)


@pytest.mark.slow
@given(**SHAPES, length=st.integers(1, 4))
@settings(deadline=None, max_examples=60, derandomize=True)
def test_torchs_layout_is_read_and_written_as_its_formulas_say(length, seed, **shape):
    random = np.random.default_rng(seed)
    arrays = torch_layout(random, **shape)
    kind, layers, directions, size, units = shape.values()
    x_TE = random.normal(size=(length, size))
    expected = torch_forward(kind, arrays, layers, directions, units, x_TE)
    params = convert.from_torch(arrays)
    np.testing.assert_allclose(
        our_forward(kind, params, layers, directions, units, x_TE), expected, rtol=1e-9, atol=1e-12
    )
    written = convert.to_torch(params)
    assert {name: array.shape for name, array in written.items()} == {
        name: array.shape for name, array in arrays.items()
    }
    np.testing.assert_allclose(
        torch_forward(kind, written, layers, directions, units, x_TE), expected, rtol=1e-9, atol=1e-12
    )


@pytest.mark.slow
@given(**SHAPES, narrow=st.booleans())
@settings(deadline=None, max_examples=60, derandomize=True)
def test_what_is_written_is_read_back_bit_for_bit(narrow, **shape):
    params = normal_params(**shape)
    if narrow:
        params = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), params)
    assert_same_bits(convert.from_torch(convert.to_torch(params)), params)
    assert_same_bits(convert.from_keras(convert.to_keras(params)), params)
    for framework in LAYOUTS:
        exact = framework != "haiku" and (framework, shape["kind"]) != ("nnx", "gru")  # tests of their own
        if exact and shape["kind"] in LAYOUTS[framework]:
            there = convert.to_cells(params, framework)
            assert_same_bits(convert.from_cells(there, framework), params)
            assert_same_bits(convert.to_cells(params, framework), there)


@given(**{**SHAPES, "kind": st.just("gru")})
@settings(deadline=None, max_examples=20, derandomize=True)
def test_a_gru_goes_to_nnx_and_back_where_the_bias_hn_is_zero(**shape):
    flat = flatten_dict(normal_params(**shape))
    zero = unflatten_dict({path: leaf * (path[-2:] != ("hn", "bias")) for path, leaf in flat.items()})
    zero = jax.tree.map(lambda leaf: leaf + 0, zero)  # no -0.0
    assert_same_bits(convert.from_cells(convert.to_cells(zero, "nnx"), "nnx"), zero)


@given(**{**SHAPES, "kind": st.just("lstm"), "layers": st.just(1), "directions": st.just(1)})
@settings(deadline=None, max_examples=20, derandomize=True)
def test_haikus_forget_gate_adds_one_and_is_read_back_but_for_rounding(**shape):
    params = normal_params(**shape)
    there = convert.to_cells(params, "haiku")["cell"]
    units = shape["units"]
    i, g, f, o = np.split(there["b"], 4)
    cell = params["cell"]
    for gate, bias in {"i": i, "f": f + np.float32(1), "g": g, "o": o}.items():
        np.testing.assert_allclose(bias, cell[f"h{gate}"]["bias"], rtol=0, atol=1e-6)
    assert np.array_equal(there["w"][-units:, units : 2 * units], cell["hg"]["kernel"])
    back = convert.from_cells({"cell": there}, "haiku")
    assert np.array_equal(back["cell"]["hi"]["bias"], cell["hi"]["bias"])
    np.testing.assert_allclose(back["cell"]["hf"]["bias"], cell["hf"]["bias"], rtol=0, atol=1e-6)


def test_a_classifiers_encoder_goes_to_torch_and_back():
    from rnn_jax.models.encoder import build_encoder

    encoder = build_encoder(
        cell="gru",
        hidden=UNITS,
        layers=2,
        bidirectional=True,
        merge="concat",
        residual=False,
        layer_norm=False,
        recurrent_dropout=0.0,
        layer_dropout=0.0,
        dtype=jnp.float32,
    )
    params = random_like(jax.eval_shape(encoder.init, jax.random.key(0), x_BTE)["params"])
    assert_same_bits(convert.from_torch(convert.to_torch(params)), params)


def test_layers_that_differ_go_to_keras_and_cells_nest_as_they_are():
    layer = Stacked([Bidirectional(RNN(GRUCell(2)), RNN(LSTMCell(3))), RNN(SimpleCell(5))])
    params = random_like(jax.eval_shape(layer.init, jax.random.key(0), x_BTE)["params"])
    weights = convert.to_keras(params)
    assert [len(arrays) for arrays in weights] == [6, 3]
    assert_same_bits(convert.from_keras(weights), params)
    there = convert.to_cells(params, "torch")
    assert there["layers_0"]["backward_rnn"]["cell"]["weight_ih"].shape == (12, SIZE)
    assert_same_bits(convert.from_cells(there, "torch"), params)


def test_a_frozen_dict_is_read_as_the_dict_in_it():
    params = our_params("gru", "bidirectional")
    assert_same_bits(convert.to_torch(freeze(params)), convert.to_torch(params))
    assert_same_bits(convert.from_cells(freeze(params), "linen"), params)


# Refusals

LSTM = convert.to_torch(our_params("lstm", "one_way"))
BOTH = convert.to_torch(our_params("lstm", "bidirectional"))
STACK = convert.to_torch(our_params("gru", "stacked"))
GRU = our_params("gru", "one_way")
KERAS = convert.to_keras(GRU)[0]
NORM = jax.eval_shape(RNN(LSTMCell(2, layer_norm=True)).init, jax.random.key(0), x_BTE)["params"]
f32 = lambda *shape: np.zeros(shape, np.float32)  # noqa: E731


def without(arrays, *names):
    return {name: array for name, array in arrays.items() if name not in names}


REFUSALS = {
    "weight_hr_l0: proj_size": lambda: convert.from_torch(LSTM | {"weight_hr_l0": f32(2, 4)}),
    "bias_hh_l0 is missing; bias_ih_l0 is missing|bias_ih_l0 is missing; bias_hh_l0 is missing": lambda: (
        convert.from_torch(without(LSTM, "bias_ih_l0", "bias_hh_l0"))
    ),
    "lstm.weight_ih_l0 is no name of nn.LSTM": lambda: convert.from_torch({"lstm.weight_ih_l0": f32(4, 4)}),
    r"weight_ih_l0 has shape \(16,\); give a matrix": lambda: convert.from_torch(
        LSTM | {"weight_ih_l0": f32(16)}
    ),
    r"bias_ih_l0 has shape \(15,\), but an LSTM of 3 inputs and 4 units has \(16,\)": lambda: (
        convert.from_torch(LSTM | {"bias_ih_l0": f32(15)})
    ),
    r"weight_ih_l0_reverse has shape \(12, 3\)": lambda: convert.from_torch(
        BOTH | {"weight_ih_l0_reverse": f32(12, 3)}
    ),
    r"weight_hh_l0 has shape \(16, 5\); give a matrix whose sides are H and 4H or 3H or 1H": lambda: (
        convert.from_torch(LSTM | {"weight_hh_l0": f32(16, 5)})
    ),
    "weight_ih_l0 is of type int32": lambda: convert.from_torch(
        LSTM | {"weight_ih_l0": np.zeros((16, 3), np.int32)}
    ),
    "bias_ih_l1_reverse is missing": lambda: convert.from_torch(without(STACK, "bias_ih_l1_reverse")),
    r"layer 1 is a GRU of \(inputs, units, directions\) \(5, 4, 2\), but .* a GRU of \(8, 4, 2\)": lambda: (
        convert.from_torch(STACK | {"weight_ih_l1": f32(12, 5), "weight_ih_l1_reverse": f32(12, 5)})
    ),
    r"weight_hh_l0 is missing": lambda: convert.from_torch({}),
    r"layer 1 is a GRU.* an LSTM": lambda: convert.to_torch(
        {"layers_0": our_params("lstm", "one_way"), "layers_1": GRU}
    ),
    "params has .*ir.*RNN, of Bidirectional.*'cell'": lambda: convert.to_torch(GRU["cell"]),
    "the tree is list": lambda: convert.to_torch([1]),
    r"the tree has the names \[\]": lambda: convert.to_keras({}),
    r"the tree is \{'params': \.\.\.\}; give what is in it": lambda: convert.to_torch({"params": GRU}),
    r"the tree is \{'params': .*; give what is in it": lambda: convert.to_cells({"params": GRU}, "linen"),
    "cell is ndarray": lambda: convert.to_torch({"cell": f32(2)}),
    "cell/input_norm/scale: layer_norm": lambda: convert.to_torch(random_like(NORM)),
    "cell/hn/bias is missing": lambda: convert.to_keras(
        {"cell": GRU["cell"] | {"hn": {"kernel": GRU["cell"]["hn"]["kernel"]}}}
    ),
    "cell/hm/kernel is unknown": lambda: convert.to_keras(
        {"cell": GRU["cell"] | {"hm": {"kernel": f32(4, 4)}}}
    ),
    "embedding/embedding is unknown.*larger model only": lambda: convert.to_cells(
        {"embedding": {"embedding": f32(4, 4)}, "encoder": GRU}, "keras"
    ),
    r"bias of layer 0 has shape \(12,\).*reset_after=False, which resets before": lambda: convert.from_keras(
        [[*KERAS[:2], f32(12)]]
    ),
    "layer 1 has 2 arrays.*use_bias=False": lambda: convert.from_keras([KERAS, KERAS[:2]]),
    "layers is empty": lambda: convert.from_keras([]),
    r"layer 0 is ndarray; .*of a single layer \[layer.get_weights\(\)\]": lambda: convert.from_keras(KERAS),
    r"layer 0 has cells of \[3, 4\] inputs.*RNN\(\[cell, cell\]\)": lambda: convert.from_keras(
        [[f32(3, 16), f32(4, 16), f32(16), f32(4, 16), f32(4, 16), f32(16)]]
    ),
    "recurrent_kernel of layer 0 has shape": lambda: convert.from_keras([[f32(3, 4), f32(4, 9), f32(4)]]),
    "cell/w_i: hk.GRU resets before": lambda: convert.from_cells(
        {"cell": {"w_i": f32(3, 12), "w_h": f32(4, 12), "b": f32(12)}}, "haiku"
    ),
    "haiku: hk.GRU resets before": lambda: convert.to_cells(GRU, "haiku"),
    "haiku: hk.VanillaRNN has a ReLU": lambda: convert.to_cells(our_params("simple", "one_way"), "haiku"),
    "vanilla_rnn/linear/w is unknown": lambda: convert.from_cells(
        {"vanilla_rnn/linear": {"w": f32(3, 4), "b": f32(4)}}, "haiku"
    ),
    r"w has shape \(4, 16\): too small": lambda: convert.from_cells({"w": f32(4, 16), "b": f32(16)}, "haiku"),
    "equinox: Equinox has no such cell": lambda: convert.to_cells(our_params("simple", "one_way"), "equinox"),
    "bias is of type object": lambda: convert.from_cells(
        {"weight_ih": f32(16, 3), "weight_hh": f32(16, 4), "bias": None}, "equinox"
    ),
    "nnx has no place for the GRU's bias hn": lambda: convert.to_cells(GRU, "nnx"),
    "if_/kernel: this is nnx.LSTMCell": lambda: convert.from_cells(
        convert.to_cells(our_params("lstm", "one_way"), "nnx_separate"), "nnx"
    ),
    "dense_i/kernel: this is no nnx.LSTMCell": lambda: convert.from_cells(
        convert.to_cells(our_params("lstm", "one_way"), "nnx"), "nnx_separate"
    ),
    "nnx_separate: nnx.GRUCell is of": lambda: convert.to_cells(GRU, "nnx_separate"),
    "framework is 'flax'": lambda: convert.to_cells(GRU, "flax"),
}


@pytest.mark.parametrize("message", REFUSALS)
def test_what_cannot_be_converted_is_refused_with_the_reason(message):
    with pytest.raises(InputError, match=message):
        REFUSALS[message]()


@pytest.mark.parametrize("cell", sorted(set(models.CELLS) - set(CELLS)))
def test_for_a_cell_that_no_framework_has_the_message_says_which_are_converted(cell):
    params = jax.eval_shape(RNN(models.CELLS[cell](UNITS)).init, jax.random.key(0), x_BTE)["params"]
    with pytest.raises(InputError, match="Only LSTMCell, GRUCell and SimpleCell can be converted"):
        convert.to_torch(random_like(params, 0))


def test_modules_of_torch_that_differ_are_refused_by_name():
    torch, _ = torch_module("lstm", "one_way")
    with pytest.raises(InputError, match="nonlinearity is 'relu'"):
        convert.from_torch(torch.nn.RNN(3, 4, nonlinearity="relu"))
    with pytest.raises(InputError, match="weight_hr_l0: proj_size"):
        convert.from_torch(torch.nn.LSTM(3, 4, proj_size=2))
    with pytest.raises(InputError, match="bias_hh_l0 is missing"):
        convert.from_torch(torch.nn.GRU(3, 4, bias=False))
    with pytest.raises(InputError, match=r"weight_ih is no name.*from_cells\(state_dict, 'torch'\)"):
        convert.from_torch(torch.nn.LSTMCell(3, 4))
    with pytest.raises(InputError, match=r"0\.weight is no name"):
        convert.from_torch(torch.nn.Sequential(torch.nn.Linear(2, 2)))
