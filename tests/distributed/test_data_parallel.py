"""Data parallelism: any number of devices gives the same training, and what a device count needs."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnn_jax.distributed.data_parallel import batch_mesh, pad_rows, sum_over_batch
from rnn_jax.distributed.host import DEVICE_COUNT_FLAG
from rnn_jax.errors import InputError
from rnn_jax.layers.dropout import BATCH_AXIS, Dropout
from tests.helpers.devices import flags_for

ROOT = Path(__file__).parents[2]
ON_FOUR_DEVICES = """
import jax, numpy as np, optax
from rnn_jax.data.batches import Batch
from rnn_jax.checkpoints.checkpoints import Checkpoints
from rnn_jax.models.classifier import build_classifier
from rnn_jax.distributed.data_parallel import batch_mesh, on_every_device
from rnn_jax.models.losses import make_classifier_loss, make_classifier_measure
from rnn_jax.training.steps import evaluate, init_params, init_state, make_eval_step, make_train_step
from configs import bilstm
from tests.helpers.oracle import assert_trees_close

settings = bilstm.get_config().model.to_dict() | {"hidden": 4, "embedding_dim": 5, "layers": 2}
settings |= {"recurrent_dropout": 0.4, "layer_dropout": 0.4, "pooling": "concat"}
model, optimizer = build_classifier(30, 2, **settings), optax.adam(0.01)
random = np.random.default_rng(0)
batches = [  # 6 rows: two devices share them equally, four do not
    Batch(
        random.integers(1, 30, (6, 7), np.int32), np.array([7, 1, 0, 3, 5, 2], np.int32),
        random.integers(0, 2, 6, np.int32), np.array([1, 1, 1, 1, 1, 0], np.float32), np.arange(6),
    )
    for _ in range(5)
]
ends = {}
for devices in (1, 2, 4):
    mesh = batch_mesh(devices)
    state = on_every_device(init_state(init_params(model, jax.random.key(0)), optimizer), mesh)
    step = make_train_step(make_classifier_loss(model.apply), optimizer, mesh)
    metrics = []
    for batch in batches:
        state, found = step(state, batch, jax.random.key(1))
        metrics.append(found)
    assert state.step.sharding.num_devices == devices
    tested = evaluate(make_eval_step(make_classifier_measure(model.apply), mesh), state.params, batches)
    assert tested.summary()["examples"] == 25
    ends[devices] = jax.device_get((state, metrics, tested))
for devices in (2, 4):
    assert_trees_close(ends[devices], ends[1], rtol=2e-4, atol=1e-6)
    assert ends[devices][1][-1].summary()["examples"] == 5
program = make_train_step(make_classifier_loss(model.apply), optimizer, batch_mesh(2)).lower(
    on_every_device(init_state(init_params(model, jax.random.key(0)), optimizer), batch_mesh(2)), batches[0],
    jax.random.key(1),
).compile().as_text()
assert program.count(" all-reduce(") == 1, program.count(" all-reduce(")
"""


def with_devices(count):
    return os.environ | {"XLA_FLAGS": flags_for(count), "PYTHONPATH": str(ROOT)}


@pytest.mark.slow
def test_one_two_and_four_devices_train_alike_with_one_reduction_a_step():
    """Dropout on, an empty row, a row of weight 0, and a batch that four devices cannot share equally."""
    subprocess.run([sys.executable, "-c", ON_FOUR_DEVICES], check=True, cwd=ROOT, env=with_devices(4))


def test_more_devices_than_jax_has_is_an_error_that_says_how_to_get_them():
    with pytest.raises(InputError, match=rf"devices is 99, but JAX has \d+ .*{DEVICE_COUNT_FLAG}=99"):
        batch_mesh(99)


def test_rows_are_added_up_to_a_multiple():
    assert pad_rows(jnp.ones((6, 2)), 4).tolist() == [[1, 1]] * 6 + [[0, 0]] * 2
    assert pad_rows(jnp.ones(4), 4).shape == (4,)


def test_sums_over_the_batch_keep_their_tree_and_types():
    def sums(scale, batch):
        return {"sum": scale * batch.sum(), "squares": (batch**2).sum(axis=0)}, ()

    total, _ = sum_over_batch(sums, batch_mesh(1))(2.0, jnp.arange(6.0).reshape(3, 2))
    assert float(total["sum"]) == 30
    assert total["squares"].tolist() == [20, 35]


ON_UNEQUAL_ROWS = """
import jax.numpy as jnp
from rnn_jax.distributed import batch_mesh, sum_over_batch

def product(batch):  # one device refuses 8 rows and 4; of parts of 2 and 1 the second would be repeated
    return (batch[0] * batch[1]).sum(), ()

print(sum_over_batch(product, batch_mesh())((jnp.arange(8.0), jnp.ones(4))))
"""


@pytest.mark.slow
def test_arrays_of_other_rows_are_not_split_over_devices():
    command = [sys.executable, "-c", ON_UNEQUAL_ROWS]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=with_devices(4))
    assert "InputError: the batch has arrays of [4, 8] rows, whose parts on 4 devices" in done.stderr


@pytest.mark.parametrize("make", [float, lambda: jax.random.key(0)], ids=["number", "key"])
def test_a_value_without_rows_is_no_part_of_a_batch(make):
    step = sum_over_batch(lambda scale, batch: (scale * batch[0].sum(), ()), batch_mesh(1))
    with pytest.raises(InputError, match=r"a value without rows.*give arrays \[rows, ...\], and what every"):
        step(2.0, (jnp.ones(4), make()))


def dropped(x, **options):
    return Dropout(0.5).apply({}, x, False, rngs={"dropout": jax.random.key(2)}, **options)


@pytest.mark.slow
def test_the_mask_of_a_row_depends_on_no_other_row():
    np.testing.assert_array_equal(dropped(jnp.ones((2, 5, 8))), dropped(jnp.ones((7, 5, 8)))[:2])


@pytest.mark.slow
def test_the_mask_of_a_row_is_that_of_its_number_in_the_whole_batch():
    whole = dropped(jnp.ones((6, 8)))
    parts = jax.vmap(dropped, axis_name=BATCH_AXIS)(jnp.ones((3, 2, 8)))
    np.testing.assert_array_equal(parts.reshape(6, 8), whole)


@pytest.mark.slow
def test_masks_drop_their_rate_and_keep_the_mean():
    kept = dropped(jnp.ones((500, 100)))
    assert set(np.unique(kept)) == {0.0, 2.0}
    assert float(kept.mean()) == pytest.approx(1, abs=0.02)
    assert len({bytes(np.asarray(row)) for row in kept}) == 500


def test_sums_are_added_up_and_rows_stay_rows():
    def both(scale, batch):
        return {"sum": scale * batch.sum()}, {"doubled": 2 * batch}

    sums, rows = sum_over_batch(both, batch_mesh(1))(2.0, jnp.arange(6.0).reshape(3, 2))
    assert float(sums["sum"]) == 30
    assert rows["doubled"].tolist() == [[0, 2], [4, 6], [8, 10]]
