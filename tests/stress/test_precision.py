"""float32 and bfloat16 learn alike: the curves of small runs, and what is said of those of long ones."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rnn_jax.data.batches import Batch
from rnn_jax.layers.cells import LSTMCell
from rnn_jax.layers.rnn import RNN
from rnn_jax.models.classifier import TextClassifier
from rnn_jax.models.losses import make_classifier_loss
from rnn_jax.training.steps import init_params, init_state, make_train_step
from tests.stress.precision import Curves, broken, spread, table

ROWS, WORDS, STEPS = 16, 100, 24


def a_batch(step, seed):
    """Returns texts of 50 to 100 words, a few of which tell the label."""
    draw = np.random.default_rng((seed, step))
    labels = (np.arange(ROWS) % 2).astype(np.int32)
    lengths = draw.integers(WORDS // 2, WORDS + 1, ROWS).astype(np.int32)
    words = np.where(
        draw.random((ROWS, WORDS)) < 0.15, 20 + labels[:, None], draw.integers(2, 20, (ROWS, WORDS))
    )
    words = (words * (np.arange(WORDS) < lengths[:, None])).astype(np.int32)
    return Batch(words, lengths, labels, np.ones(ROWS, np.float32), np.arange(ROWS, dtype=np.int32))


def losses(dtype, seed=0):
    """Returns the mean loss of each step; gradient descent, whose curves are smooth."""
    model = TextClassifier(22, 8, 2, RNN(LSTMCell(16, dtype=dtype)), pooling="last", dropout=0.0, dtype=dtype)
    optimizer = optax.sgd(0.02, momentum=0.9)
    state = init_state(init_params(model, jax.random.key(seed)), optimizer)
    step = make_train_step(make_classifier_loss(model.apply), optimizer)
    found = []
    for number in range(STEPS):
        state, metrics = step(state, a_batch(number, seed), jax.random.key(0))
        found.append(float(metrics.loss) / ROWS)
    return np.array(found)


@pytest.mark.slow
def test_bfloat16_learns_as_float32_does():
    """Four hundred times nearer than another seed does; with sums in bfloat16 it would be two hundred."""
    exact, half, other = losses(jnp.float32), losses(jnp.bfloat16), losses(jnp.float32, seed=1)
    apart = np.abs(half - exact).mean()
    assert 0 < apart < 0.0025 * np.abs(other - exact).mean()
    assert exact[-5:].mean() < exact[:5].mean() - 0.05


def curves(shift=0.0, accuracy=0.8):
    return Curves(np.array([0.7, 0.5]) + shift, np.array([0.6]) + shift, accuracy)


def test_differences_are_means_over_runs_and_steps():
    assert spread([(curves(), curves(0.1)), (curves(), curves(-0.3))], "train") == pytest.approx(
        {"mean": 0.2, "most": 0.3}
    )
    assert spread([(curves(), curves(accuracy=0.7))], "accuracy")["most"] == pytest.approx(0.1)


def test_types_that_are_as_far_apart_as_seeds_break_the_bound():
    near, far = {"mean": 0.01, "most": 0.02}, {"mean": 0.1, "most": 0.3}
    rows = [{"quantity": name, "types": near, "seeds": far} for name in Curves._fields]
    assert not broken({"gru": rows})
    assert "| gru | train | 0.0100 | 0.0200 | 0.1000 | 0.3000 | 0.10 |" in table({"gru": rows})
    rows[1] = rows[1] | {"types": far}
    assert broken({"gru": rows}) == ["gru, validation loss: types are 0.1 apart on average, seeds 0.1"]
