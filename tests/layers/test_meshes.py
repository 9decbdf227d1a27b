"""Layers on typed meshes (Explicit axes, set_mesh, shard_map), boxed parameters, export, and JAX's checks."""

import os
import subprocess
import sys
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from rnn_jax import RNN, GRUCell, LSTMCell, MinGRUCell, SLSTMCell, SRUCell
from tests.helpers.cases import LENGTHS, a_batch, parameters
from tests.helpers.devices import flags_for
from tests.helpers.oracle import assert_trees_close

ROOT = Path(__file__).parents[2]
ON_FOUR_DEVICES = """
from functools import partial

import jax, jax.numpy as jnp, numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
from rnn_jax import RNN, Bidirectional, GRUCell, LRUCell, LSTMCell, MinGRUCell, SRUCell, Stacked
from tests.helpers.cases import a_batch, parameters
from tests.helpers.oracle import assert_trees_close

lengths, x = np.array([22, 0, 5, 7]), a_batch(batch=4, time=22)
explicit = jax.make_mesh((2, 2), ("rows", "units"), axis_types=(AxisType.Explicit,) * 2)
shards = jax.make_mesh((4,), ("rows",), axis_types=(AxisType.Auto,))


def layers(backend):
    yield Bidirectional(RNN(LSTMCell(4), backend=backend), RNN(GRUCell(4), backend=backend)), 1e-5
    yield RNN(GRUCell(4, dtype=jnp.bfloat16), backend=backend), 3e-2


def linear_layers():
    yield Stacked([RNN(cell, backend="linear") for cell in (MinGRUCell(4), SRUCell(2), LRUCell(2))]), 1e-5
    yield RNN(LRUCell(4), backend="scan"), 1e-5


def gradients(layer, params, x, lengths):
    def total(params, x):
        carry, outputs = layer.apply({"params": params}, x, lengths)
        return sum((leaf.astype(jnp.float32) ** 2).sum() for leaf in jax.tree.leaves((carry, outputs)))

    return jax.value_and_grad(total, argnums=(0, 1))(params, x)


def sharded(layer, params, x, lengths):
    value, gradient = gradients(layer, params, x, lengths)
    return jax.lax.psum(value, "rows"), gradient


def on(mesh, array, *spec):
    return jax.device_put(array, NamedSharding(mesh, P(*spec)))


CASES = [*layers("fused"), *layers("scan"), *linear_layers()]
for layer, tolerance in CASES:
    close = partial(assert_trees_close, rtol=tolerance, atol=tolerance)
    params = parameters(layer)
    expected = jax.jit(partial(gradients, layer))(params, x, lengths)
    split = on(explicit, x, "rows")
    result = jax.jit(partial(gradients, layer))(params, split, lengths)
    close(result, expected)
    assert jax.typeof(result[1][1]).sharding.spec[0] == "rows"
    with jax.set_mesh(explicit):
        units = jax.tree.map(lambda leaf: on(explicit, leaf, *[None] * (leaf.ndim - 1), "units"), params)
        result = jax.jit(partial(gradients, layer))(units, split, on(explicit, lengths, "rows"))
        close(result, expected)
        assert all(jax.typeof(leaf).sharding.spec[-1] == "units" for leaf in jax.tree.leaves(result[1][0]))
    specs = (P(), P("rows"), P("rows")), (P(), (P(), P("rows")))
    mapped = jax.shard_map(partial(sharded, layer), mesh=shards, in_specs=specs[0], out_specs=specs[1])
    close(jax.jit(mapped)(params, x, lengths), expected)
"""


DROPOUT_ON_FOUR_DEVICES = """
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import AxisType, PartitionSpec as P
from rnn_jax import RNN, SimpleCell
from rnn_jax.layers import Dropout
from rnn_jax.models import WordTagger
from tests.helpers.cases import a_batch, parameters

x, rngs = a_batch(batch=8), {"dropout": jax.random.key(0)}
words = np.random.default_rng(0).integers(2, 9, (8, 6))
layer, dropout = RNN(SimpleCell(4), recurrent_dropout=0.5, backend="scan"), Dropout(0.5)
tagger = WordTagger(9, 3, 2, RNN(SimpleCell(4)), word_dropout=0.5)
drawn, of_tagger = parameters(layer), jax.jit(tagger.init)(jax.random.key(1), words)
runs = {
    "dropout": lambda x, words: dropout.apply({}, x, False, rngs=rngs),
    "layer": lambda x, words: layer.apply({"params": drawn}, x, deterministic=False, rngs=rngs)[1],
    "tagger": lambda x, words: tagger.apply(of_tagger, words, deterministic=False, rngs=rngs),
}
for name, run in runs.items():
    whole = jax.jit(run)(x, words)
    for sizes, names in (((4,), ("data",)), ((2, 2), ("host", "data")), ((4,), ("batch",))):
        spec = P(names)
        mesh = jax.make_mesh(sizes, names, axis_types=(AxisType.Auto,) * len(names))
        split = jax.shard_map(run, mesh=mesh, in_specs=(spec, spec), out_specs=spec)
        np.testing.assert_allclose(jax.jit(split)(x, words), whole, atol=1e-6, err_msg=f"{name} {names}")
"""


@pytest.mark.slow
@pytest.mark.parametrize("program", [ON_FOUR_DEVICES, DROPOUT_ON_FOUR_DEVICES], ids=["gradients", "dropout"])
def test_what_four_devices_compute_is_what_one_does(program):
    """The batch split over Explicit axes, the units too under set_mesh, and in shard_map with check_vma.

    Masks of dropout are those of the whole batch, whatever the axes of the mesh are called.
    """
    settings = {"XLA_FLAGS": flags_for(4), "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT, env=os.environ | settings)


@pytest.mark.parametrize("box", [nn.with_partitioning, nn.with_logical_partitioning])
def test_a_boxed_initialiser_keeps_its_box_and_the_layer_runs_as_without_it(box):
    names = (None, "units")
    init = box(nn.initializers.glorot_uniform(), names)
    layer, x = RNN(LSTMCell(4, kernel_init=init, recurrent_kernel_init=init)), a_batch()
    boxed = jax.eval_shape(layer.init, jax.random.key(0), x)["params"]["cell"]
    flax = jax.eval_shape(nn.RNN(nn.LSTMCell(4, kernel_init=init)).init, jax.random.key(0), x)["params"][
        "cell"
    ]
    for name in ("ii", "if", "ig", "io"):
        assert type(boxed[name]["kernel"]) is type(flax[name]["kernel"])
        assert boxed[name]["kernel"].names == names
    assert boxed["hi"]["kernel"].names == names
    params = parameters(RNN(LSTMCell(4)))
    full = jax.tree.map(
        lambda leaf, drawn: leaf.replace_boxed(drawn) if is_box(leaf) else drawn,
        boxed,
        params["cell"],
        is_leaf=is_box,
    )
    expected = jax.jit(RNN(LSTMCell(4)).apply)({"params": params}, x, LENGTHS)
    assert_trees_close(jax.jit(layer.apply)({"params": {"cell": full}}, x, LENGTHS), expected)


def is_box(leaf):
    return isinstance(leaf, nn.meta.AxisMetadata)


@pytest.mark.slow
@pytest.mark.parametrize("cell", [LSTMCell, GRUCell, SRUCell, SLSTMCell])
def test_an_exported_layer_is_saved_and_read_with_its_carry(cell):
    layer, x = RNN(cell(4)), a_batch()
    variables = {"params": parameters(layer)}
    saved = export.export(jax.jit(layer.apply))(variables, x, LENGTHS).serialize()
    carry, outputs = export.deserialize(saved).call(variables, x, LENGTHS)
    assert_trees_close((carry, outputs), layer.apply(variables, x, LENGTHS))
    assert type(carry) is type(layer.apply(variables, x, LENGTHS)[0])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("cell", "backend"),
    [(LSTMCell, "fused"), (LSTMCell, "scan"), (MinGRUCell, "linear"), (SLSTMCell, "scan")],
)
def test_values_and_gradients_pass_the_checks_of_nans_and_of_types(cell, backend):
    layer, x = RNN(cell(4), backend=backend), np.array(a_batch())
    x[1] = np.nan  # a row of length 0
    params = parameters(layer)

    def total(params):
        return sum((leaf**2).sum() for leaf in jax.tree.leaves(layer.apply({"params": params}, x, LENGTHS)))

    expected = jax.jit(jax.value_and_grad(total))(params)
    with jax.debug_nans(True), jax.enable_checks(True):
        assert_trees_close(jax.jit(jax.value_and_grad(total))(params), expected)


def test_a_rank_that_is_promoted_is_refused_in_this_suite():
    with pytest.raises(ValueError, match="rank_promotion"):
        jnp.zeros((4, 1)) + jnp.zeros(7)
