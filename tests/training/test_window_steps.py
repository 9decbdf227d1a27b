"""Training on windows: against plain gradients, and split over devices with a carry that stays in place."""

import subprocess
import sys
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rnn_jax import RNN, LSTMCell
from rnn_jax.data.windows import Windows
from rnn_jax.distributed.data_parallel import batch_mesh
from rnn_jax.models.language_model import LanguageModel
from rnn_jax.models.losses import make_language_loss, make_language_measure
from rnn_jax.training.parameter_groups import group_parameters
from rnn_jax.training.state import TrainState
from rnn_jax.training.steps import evaluate, init_params, make_eval_step, make_train_step
from tests.distributed.test_data_parallel import ROOT, with_devices
from tests.helpers.oracle import assert_trees_close

WORDS, LANES, STEPS = 11, 4, 3
KEY = jax.random.key(5)
DOCUMENTS = [
    np.random.default_rng(size).integers(1, WORDS, size).astype(np.int32) for size in (9, 2, 14, 6, 5, 1, 10)
]
MODEL = LanguageModel(WORDS, 4, RNN(LSTMCell(4)), type_dropout=0.2, output_dropout=0.2)
ON_TWO_DEVICES = """
import sys
from pathlib import Path
import jax, numpy as np, pytest
import train_loop
from jax.sharding import PartitionSpec as P
from rnn_jax.errors import InputError
from rnn_jax.distributed.data_parallel import batch_mesh, sum_over_batch
from rnn_jax.training.trainer import Trainer
from tests.helpers.jobs import tiny_language_config, write_documents

folder = Path(sys.argv[1])
source = write_documents(folder / "texts.jsonl", 60)
changes = {"model__output_dropout": 0.2, "model__type_dropout": 0.1, "objective__negatives": 5}
changes |= {"objective__weight_drop": 0.1, "objective__temporal": 0.1}
train_until, programs, ends = Trainer.train_until, [], {}

def spied(trainer, *arguments):
    state = train_until(trainer, *arguments)
    (program,) = trainer.steps[0].executables.values()
    programs.append((program.as_text(), {leaf.sharding.spec for leaf in jax.tree.leaves(state.carry)}))
    return state

Trainer.train_until = spied
for devices in (1, 2):
    config = tiny_language_config(source, devices=devices, **changes)
    ends[devices] = train_loop.train_and_evaluate(config, folder / str(devices))
np.testing.assert_allclose(ends[1]["loss"], ends[2]["loss"], rtol=1e-4)
assert ends[1]["words"] == ends[2]["words"]
text, specs = programs[-1]
assert text.count(" all-reduce(") == 1, text.count(" all-reduce(")
assert "all-gather" not in text
assert specs == {P("batch")}, specs

with pytest.raises(InputError, match="batch.lanes is 3, which 2 devices cannot .* give a multiple of 2"):
    train_loop.train_and_evaluate(tiny_language_config(source, batch__lanes=3), folder / "odd")
with pytest.raises(InputError, match="number of rows is 3, which 2 devices"):
    sum_over_batch(lambda batch: (batch.sum(), batch), batch_mesh(2))(np.ones((3, 2)))
"""


@cache
def drawn():
    return jax.tree.map(np.asarray, jax.jit(partial(init_params, MODEL))(jax.random.key(0)))


def a_state(step=0):
    params = jax.tree.map(jnp.array, drawn())
    carry = jax.tree.map(jnp.copy, MODEL.initial_carry(LANES))
    return TrainState(jnp.asarray(step, jnp.int32), params, optimizer().init(params), carry)


def optimizer():
    return optax.sgd(0.1)


def a_step(freeze=()):
    trained = group_parameters(a_state().params, freeze, (), 1).trained(0)
    return make_train_step(make_language_loss(MODEL), optimizer(), batch_mesh(1), trained=trained)


@pytest.mark.slow
def test_a_step_is_the_gradient_of_the_mean_over_words_and_hands_the_carry_on():
    windows, state, step = Windows(DOCUMENTS, LANES, STEPS), a_state(), a_step()
    params, carry = state.params, state.carry
    gradient = jax.jit(jax.grad(make_language_loss(MODEL), has_aux=True))
    for number in range(3):
        window = windows(0, number)
        expected, (metrics, _, carry) = gradient(params, carry, window, jax.random.fold_in(KEY, number))
        params = jax.tree.map(lambda p, g, words=metrics.words: p - 0.1 * g / words, params, expected)
        state, found = step(state, window, KEY)
        assert_trees_close(found, metrics, rtol=1e-5, atol=1e-6)
    assert int(state.step) == 3
    assert_trees_close(state.params, params, rtol=1e-4, atol=1e-6)
    assert_trees_close(state.carry, carry, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_frozen_parameters_keep_their_bits():
    before = jax.tree.map(np.asarray, a_state().params)
    state, _ = a_step(("embedding",))(a_state(), Windows(DOCUMENTS, LANES, STEPS)(0, 0), KEY)
    assert np.asarray(state.params["embedding"]["embedding"]).tobytes() == (
        before["embedding"]["embedding"].tobytes()
    )
    assert not np.allclose(state.params["softmax_bias"], before["softmax_bias"])


@jax.jit
def log_probabilities(params, token_ids, lengths):
    _, outputs = MODEL.apply({"params": params}, token_ids, lengths)
    return jax.nn.log_softmax(MODEL.apply({"params": params}, outputs, method="logits")[0])


@pytest.mark.slow
def test_evaluation_is_that_of_documents_read_at_once():
    windows, params = Windows(DOCUMENTS, LANES, STEPS), a_state().params
    eval_step = make_eval_step(make_language_measure(MODEL))
    found = evaluate(eval_step, params, windows.in_order(), MODEL.initial_carry(LANES))
    expected = 0.0
    for document in (document for document in DOCUMENTS if len(document) > 1):
        row = np.pad(document[:-1], (0, 16 - len(document)))[None]  # of one length, to compile once
        log_p = np.asarray(log_probabilities(params, row, np.array([len(document) - 1])))
        expected -= float(log_p[np.arange(len(document) - 1), document[1:]].sum())
    assert float(found.loss) == pytest.approx(expected, rel=1e-5)
    assert found.summary()["words"] == sum(max(len(document) - 1, 0) for document in DOCUMENTS)


@pytest.mark.slow
def test_one_and_two_devices_train_alike_with_one_reduction_a_step(tmp_path):
    command = [sys.executable, "-c", ON_TWO_DEVICES, str(tmp_path)]
    subprocess.run(command, check=True, cwd=ROOT, env=with_devices(2))
