"""The pages for those who come from torch, Keras or nn.RNN: both sides run, and give the same numbers."""

import inspect
import re

import flax.linen as nn
import numpy as np
import pytest

from rnn_jax import convert
from tests.docs.test_pages import run_page
from tests.helpers.pages import DOCS, python_blocks


def close(ours, theirs):
    np.testing.assert_allclose(np.asarray(ours), np.asarray(theirs), rtol=0, atol=1e-5)


@pytest.mark.slow
def test_torch():
    pytest.importorskip("torch", reason="the framework to compare with; pip install torch")
    names = run_page("docs/from_torch.md")
    for ours, theirs in (
        ("outputs", "theirs"),
        ("h_n_again", "h_n"),
        ("outputs_from_there", "theirs_from_there"),
    ):
        close(names[ours], names[theirs].detach())
    close(names["last"], np.concatenate(list(names["h_n"].detach()[2:]), axis=-1))
    close(names["relu_outputs"], names["relu"](names["x"])[0].detach())


@pytest.mark.slow
def test_nn_rnn():
    names = run_page("docs/from_flax.md")
    for row, length in enumerate(names["lengths"]):
        close(names["outputs"][row, :length], names["their_outputs"][row, :length])
        close(names["both"][row, :length], names["their_both"][row, :length])
        assert not np.any(names["outputs"][row, length:])
    for state, their_state in zip(names["carry"], names["their_carry"], strict=True):
        close(state, their_state)


def keras_lstm(x, lengths, kernel, recurrent_kernel, bias):
    """Returns the outputs of Keras's LSTM in numpy, by its documented equations; masked steps are zero."""
    outputs = np.zeros((*x.shape[:2], len(recurrent_kernel)))
    for row, length in enumerate(lengths):
        h = c = np.zeros(len(recurrent_kernel))
        for step in range(length):
            gates = x[row, step] @ kernel + h @ recurrent_kernel + bias
            i, f, g, o = np.split(gates, 4)
            i, f, o = (1 / (1 + np.exp(-gate)) for gate in (i, f, o))
            c = f * c + i * np.tanh(g)
            h = outputs[row, step] = o * np.tanh(c)
    return outputs


@pytest.mark.slow
def test_keras_by_its_equations():
    """The block of our side runs on weights in the layout of Keras, which need not be installed."""
    random = np.random.default_rng(0)
    x, lengths = random.normal(size=(4, 7, 16)).astype("float32"), np.array([7, 2, 5, 1])
    weights = [
        random.normal(size=shape).astype("float32") / 4 for shape in [(16, 128), (32, 128), (128,)] * 2
    ]
    names = {"x": x, "lengths": lengths, "weights": weights}
    exec(python_blocks("docs/from_keras.md")[1], names)
    backward = np.zeros_like(x)
    for row, length in enumerate(lengths):
        backward[row, :length] = x[row, :length][::-1]
    forward, backward = keras_lstm(x, lengths, *weights[:3]), keras_lstm(backward, lengths, *weights[3:])
    for row, length in enumerate(lengths):
        close(names["outputs"][row, :length, :32], forward[row, :length])
        close(names["outputs"][row, :length, 32:], backward[row, :length][::-1])
        close(names["last"][row], np.concatenate([forward[row, length - 1], backward[row, length - 1]]))
    again = convert.to_keras(names["params"]["params"])[0]
    assert all(np.array_equal(one, other) for one, other in zip(again, weights, strict=True))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of Keras's variables
def test_keras():
    pytest.importorskip("keras", reason="the framework to compare with; pip install keras")
    names = run_page("docs/from_keras.md")
    for row, length in enumerate(names["lengths"]):
        close(names["outputs"][row, :length], np.asarray(names["theirs"])[row, :length])


TORCH = (
    "input_size hidden_size num_layers bias batch_first dropout bidirectional proj_size nonlinearity "
    "h_0 c_0 h_n c_n"
)
KERAS = (
    "units activation recurrent_activation use_bias kernel_initializer recurrent_initializer "
    "bias_initializer unit_forget_bias kernel_regularizer dropout recurrent_dropout seed "
    "return_sequences return_state go_backwards stateful unroll reset_after use_cudnn merge_mode mask_zero"
)
FLAX = [
    name
    for function in (nn.RNN, nn.RNN.__call__, nn.Bidirectional, nn.Bidirectional.__call__)
    for name in inspect.signature(function).parameters
    if name not in ("self", "inputs", "parent", "name")
]


@pytest.mark.parametrize(
    ("page", "arguments"),
    [("from_torch", TORCH.split()), ("from_keras", KERAS.split()), ("from_flax", FLAX)],
)
def test_every_argument_has_a_row(page, arguments):
    first_cells = " ".join(re.findall(r"^\| ([^|]*) \|", (DOCS / f"{page}.md").read_text(), re.MULTILINE))
    assert [name for name in arguments if not re.search(rf"\b{name}\b", first_cells)] == []


@pytest.mark.parametrize("page", ["from_torch", "from_keras"])
def test_pages_name_the_initialiser_that_input_kernels_have(page):
    # tests/layers/test_cells.py holds the cells to Glorot uniform.
    text = (DOCS / f"{page}.md").read_text()
    assert "glorot" in text.lower()
    assert "lecun" not in text.lower()
