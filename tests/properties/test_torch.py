"""torch.nn.LSTM, GRU and RNN on packed ragged batches: equal parameters, equal values and gradients."""

import jax
import numpy as np
import pytest

from rnn_jax import RNN, Bidirectional, GRUCell, LSTMCell, SimpleCell, Stacked
from tests.helpers.oracle import assert_trees_close, random_like

torch = pytest.importorskip("torch", reason="torch is the independent implementation here; pip install torch")

SIZE, UNITS, BATCH, TIME = 3, 4, 5, 7
KINDS = {"lstm": (LSTMCell, "LSTM"), "gru": (GRUCell, "GRU"), "simple": (SimpleCell, "RNN")}
SHAPES = {"one_way": (1, 1), "bidirectional": (1, 2), "two_layers": (2, 1), "two_bidirectional": (2, 2)}


def our_layer(cell, layers, directions):
    one = lambda: RNN(cell(UNITS))  # noqa: E731
    return Stacked([one() if directions == 1 else Bidirectional(one(), one()) for _ in range(layers)])


def cells_of(params, layers, directions):
    """Yields (torch's suffix, the parameters of our cell)."""
    for layer in range(layers):
        tree = params[f"layers_{layer}"]
        if directions == 1:
            yield f"_l{layer}", tree["cell"]
        else:
            yield f"_l{layer}", tree["forward_rnn"]["cell"]
            yield f"_l{layer}_reverse", tree["backward_rnn"]["cell"]


def torch_arrays(kind, cell):
    """Returns torch's four arrays of one cell: gates in rows; zero where torch has a second bias."""
    inputs, hidden = {"lstm": ("ifgo", "ifgo"), "gru": ("rzn", "rzn"), "simple": ("", "")}[kind]
    inputs = [cell[f"i{gate}"] for gate in inputs] or [cell["i"]]
    hidden = [cell[f"h{gate}"] for gate in hidden] or [cell["h"]]
    none = np.zeros(UNITS, np.float32)
    arrays = {}
    for side, leaves in (("ih", inputs), ("hh", hidden)):
        arrays[f"weight_{side}"] = np.concatenate([np.asarray(leaf["kernel"]).T for leaf in leaves])
        arrays[f"bias_{side}"] = np.concatenate([np.asarray(leaf.get("bias", none)) for leaf in leaves])
    return arrays


def torch_tree(kind, params, shape):
    """Returns {torch's parameter name: array}; linear, so that it maps gradients too."""
    return {
        name + suffix: array
        for suffix, cell in cells_of(params, *shape)
        for name, array in torch_arrays(kind, cell).items()
    }


def run_torch(kind, shape, arrays, x_BTE, lengths, weights):
    """Returns (outputs, h_n, gradients of the arrays, gradient of x) of a loss that weighs outputs, h_n."""
    layers, directions = shape
    module = getattr(torch.nn, KINDS[kind][1])(
        SIZE, UNITS, num_layers=layers, bidirectional=directions == 2, batch_first=True
    )
    module.load_state_dict({name: torch.tensor(array) for name, array in arrays.items()})
    x = torch.tensor(x_BTE, requires_grad=True)
    packed = torch.nn.utils.rnn.pack_padded_sequence(
        x, torch.tensor(lengths), batch_first=True, enforce_sorted=False
    )
    outputs, state = module(packed)
    outputs, _ = torch.nn.utils.rnn.pad_packed_sequence(outputs, batch_first=True, total_length=TIME)
    states = state[::-1] if kind == "lstm" else [state]
    weighed = zip([outputs, *states], weights, strict=True)
    sum((torch.tensor(weight) * value).sum() for value, weight in weighed).backward()
    gradients = {name: parameter.grad.numpy() for name, parameter in module.named_parameters()}
    return outputs.detach().numpy(), [part.detach().numpy() for part in states], gradients, x.grad.numpy()


def run_ours(kind, shape, params, x_BTE, lengths, weights):
    """Returns what run_torch returns, the gradients in our tree; the states are [layers*directions, B, H]."""
    layer = our_layer(KINDS[kind][0], *shape)

    def loss(params, x):
        carry, outputs = layer.apply({"params": params}, x, lengths)
        leaves = jax.tree.leaves(carry)
        parts = 2 if kind == "lstm" else 1
        states = [jax.numpy.stack(leaves[part::parts]) for part in range(parts)]
        weighed = zip([outputs, *states], weights, strict=True)
        return sum((weight * value).sum() for value, weight in weighed), (outputs, states)

    (gradients, of_x), (outputs, states) = jax.jit(jax.grad(loss, argnums=(0, 1), has_aux=True))(
        params, x_BTE
    )
    return outputs, states, gradients, of_x


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", KINDS)
def test_values_and_gradients_are_those_of_torch(kind, shape):
    layers, directions = SHAPES[shape]
    random = np.random.default_rng(len(shape))
    x_BTE = random.normal(size=(BATCH, TIME, SIZE)).astype(np.float32)
    lengths = random.permutation([1, 2, 4, 6, 7])
    layer = our_layer(KINDS[kind][0], layers, directions)
    params = random_like(jax.eval_shape(layer.init, jax.random.key(0), x_BTE)["params"])
    output, state = (BATCH, TIME, directions * UNITS), (layers * directions, BATCH, UNITS)
    weights = [random.normal(size=size).astype(np.float32) for size in (output, state, state)]
    weights = weights if kind == "lstm" else weights[:2]

    case = (x_BTE, lengths, weights)
    theirs = run_torch(kind, SHAPES[shape], torch_tree(kind, params, SHAPES[shape]), *case)
    ours = run_ours(kind, SHAPES[shape], params, *case)

    owned = torch_tree(kind, jax.tree.map(np.ones_like, params), SHAPES[shape])
    expected = {name: owned[name] * gradient for name, gradient in theirs[2].items()}
    gradients = torch_tree(kind, ours[2], SHAPES[shape])
    assert gradients.keys() == expected.keys()
    actual = (ours[0], ours[1], gradients, ours[3])
    assert_trees_close(actual, (theirs[0], theirs[1], expected, theirs[3]), rtol=1e-5, atol=2e-5)
