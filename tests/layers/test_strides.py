"""A pyramid of layers: each step of an upper layer is the mean of steps below, exactly on ragged batches."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from rnn_jax import Stacked, TextClassifier
from rnn_jax.errors import InputError
from rnn_jax.inference.stream import make_steps
from rnn_jax.models.encoder import build_encoder
from rnn_jax.models.language_model import check_causal
from tests.helpers.cases import (
    LENGTHS,
    TIME,
    a_batch,
    bidirectional,
    expected_rnn,
    padded_with,
    parameters,
    rnn,
    run_of,
)
from tests.helpers.oracle import assert_trees_close

STRIDE = 4  # TIME is no multiple of it


def group_means(x, lengths, size):
    """Returns the mean of each group of the valid steps of each row, by loops."""
    groups = -(-x.shape[1] // size)
    means = np.zeros((len(x), groups, x.shape[2]), np.float32)
    for row, length in enumerate(lengths):
        for group in range(-(-int(length) // size)):
            means[row, group] = np.asarray(x[row, group * size : min(length, (group + 1) * size)]).mean(0)
    return means, [-(-int(length) // size) for length in lengths]


def test_an_upper_layer_reads_the_means_of_groups_and_each_of_its_outputs_stands_for_one():
    layer = Stacked([rnn("simple", 4), bidirectional("gru", 2), rnn("gru", 4)], residual=True, stride=2)
    params, x = parameters(layer), a_batch()
    carry, outputs = run_of(layer)(params, padded_with(x, LENGTHS, np.nan), LENGTHS)
    _, first = expected_rnn("simple", params["layers_0"], x, LENGTHS)
    means, pairs = group_means(first, LENGTHS, 2)
    both = params["layers_1"]
    forward = expected_rnn("gru", both["forward_rnn"], means, pairs, units=2)[1]
    backward = expected_rnn("gru", both["backward_rnn"], means, pairs, reverse=True, units=2)[1]
    means, fours = group_means(np.concatenate([forward, backward], axis=-1) + means, pairs, 2)
    top, third = expected_rnn("gru", params["layers_2"], means, fours)
    repeated = np.repeat(third + means, 4, axis=1)[:, :TIME]
    assert_trees_close(outputs, padded_with(repeated, LENGTHS, 0))
    assert_trees_close(layer.final_hidden(carry), top)


@pytest.mark.parametrize("more", [1, 2, 5])
def test_padding_changes_neither_outputs_nor_gradients(more):
    layer = Stacked([bidirectional("min_gru", 2), bidirectional("min_gru", 2)], stride=STRIDE)
    params, x = parameters(layer), a_batch()

    def read(params, x):
        carry, outputs = layer.apply({"params": params}, x, LENGTHS)
        return (outputs**2).sum() + layer.final_hidden(carry).sum(), outputs[:, :TIME]

    (_, outputs), slopes = jax.value_and_grad(read, has_aux=True)(params, x)
    longer = jnp.pad(jnp.asarray(x), ((0, 0), (0, more), (0, 0)), constant_values=np.nan)
    (_, again), slopes_again = jax.value_and_grad(read, has_aux=True)(params, longer)
    assert_trees_close(again, outputs)
    assert_trees_close(slopes_again, slopes)


def test_without_lengths_every_step_is_valid_and_a_stride_beyond_the_text_makes_one_group():
    layer = Stacked([rnn("gru"), rnn("gru")], stride=TIME + 3)
    params, x = parameters(layer), a_batch()
    carry, outputs = layer.apply({"params": params}, x)
    assert_trees_close(layer.apply({"params": params}, x, np.full(len(x), TIME)), (carry, outputs))
    assert_trees_close(outputs[:, 0], outputs[:, -1])


def test_a_pyramid_exports_with_symbolic_sizes():
    layer = Stacked([bidirectional("gru", 2), bidirectional("gru", 2)], stride=STRIDE)
    params, x = parameters(layer), a_batch()
    batch, time = export.symbolic_shape("b, t")
    shapes = [
        jax.ShapeDtypeStruct((batch, time, x.shape[2]), jnp.float32),
        jax.ShapeDtypeStruct((batch,), jnp.int32),
    ]
    read = jax.jit(lambda x, lengths: layer.apply({"params": params}, x, lengths)[1])
    exported = export.export(read)(*shapes)
    lengths = LENGTHS.astype(np.int32)
    assert_trees_close(exported.call(x, lengths), layer.apply({"params": params}, x, lengths)[1])


OPTIONS = {"hidden": 2, "bidirectional": False, "merge": "concat", "residual": False, "layer_norm": False}
RATES = {"recurrent_dropout": 0.0, "layer_dropout": 0.0, "dtype": jnp.float32}


def test_what_a_pyramid_cannot_do_is_refused():
    params, pyramid = (
        parameters(Stacked([rnn("gru"), rnn("gru")])),
        Stacked([rnn("gru"), rnn("gru")], stride=2),
    )
    with pytest.raises(InputError, match="stride is 2: upper layers have no carry at every step"):
        pyramid.apply({"params": params}, a_batch(), method="carries")
    with pytest.raises(InputError, match="stride is 0; give at least 1"):
        Stacked([rnn("gru"), rnn("gru")], stride=0).apply({"params": params}, a_batch())
    with pytest.raises(InputError, match="a stride of 2, which reads words that come later"):
        make_steps(TextClassifier(5, 3, 2, pyramid))
    with pytest.raises(InputError, match="encoder has a stride of 2, which may see the word"):
        check_causal(pyramid)
    with pytest.raises(InputError, match=r"model\.stride is 2 of 1 layers; .* at least two layers"):
        build_encoder(cell="gru", layers=1, stride=2, **OPTIONS, **RATES)
    assert build_encoder(cell="gru", layers=2, stride=2, **OPTIONS, **RATES).stride == 2
