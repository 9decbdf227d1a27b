"""Train and eval steps: pure, donated, exact on padded batches, against numpy."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rnn_jax.data.batches import Batch, Batches
from rnn_jax.distributed.data_parallel import batch_mesh
from rnn_jax.distributed.preemption import Interruption
from rnn_jax.layers.cells import SimpleCell
from rnn_jax.layers.rnn import RNN
from rnn_jax.models.classifier import TextClassifier
from rnn_jax.models.losses import (
    batch_metrics,
    class_log_probabilities,
    make_classifier_loss,
    make_classifier_measure,
)
from rnn_jax.training.parameter_groups import group_parameters
from rnn_jax.training.programs import CompiledByShape
from rnn_jax.training.state import TrainState
from rnn_jax.training.steps import (
    evaluate,
    evaluate_rows,
    init_params,
    init_state,
    make_eval_step,
    make_train_step,
)
from rnn_jax.training.trainer import Trainer
from tests.helpers.oracle import assert_trees_close, random_like

KEY = jax.random.key(1)


def small_model(classes=2, dropout=0.0):
    return TextClassifier(20, 4, classes, RNN(SimpleCell(4)), pooling="mean", dropout=dropout)


def small_batches(count=22, classes=2, size=8, seed=0):
    rng = np.random.default_rng(seed)
    rows = [rng.integers(2, 20, rng.integers(0, 9)).astype(np.int32) for _ in range(count)]
    return Batches(rows, rng.integers(0, classes, count).astype(np.int32), (4, 8), size)


@cache
def parameters(classes=2):
    shapes = jax.eval_shape(small_model(classes).init, jax.random.key(0), np.zeros((1, 1), np.int32))
    return random_like(shapes["params"])


def start(optimizer):
    """Returns a state of its own memory, which a step may take over."""
    params = jax.tree.map(jnp.array, parameters())
    return TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params))


def bits(tree):
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(tree)]


def numpy_metrics(logits, labels):
    """Sum of the cross-entropy, and the confusion counts, of real examples only."""
    logits = np.asarray(logits, np.float64)
    if logits.shape[1] == 1:
        logits = np.concatenate([np.zeros_like(logits), logits], axis=1)
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    confusion = np.zeros((logits.shape[1],) * 2)
    np.add.at(confusion, (labels, logits.argmax(axis=1)), 1)
    return -log_p[np.arange(len(labels)), labels].sum(), confusion


@pytest.mark.parametrize("classes", [2, 3])
def test_loss_and_confusion_are_those_of_the_real_examples(classes):
    batch = next(small_batches(5, classes).in_order())
    real = int(batch.weights.sum())
    assert 0 < real < len(batch.weights)
    logits = np.random.default_rng(1).normal(size=(8, 1 if classes == 2 else classes)).astype(np.float32)
    metrics = batch_metrics(jnp.asarray(logits), batch)
    loss, confusion = numpy_metrics(logits[:real], batch.labels[:real])
    assert float(metrics.loss) == pytest.approx(loss, rel=1e-5)
    np.testing.assert_array_equal(metrics.confusion, confusion)
    assert metrics.summary()["examples"] == real
    assert metrics.summary()["accuracy"] == pytest.approx(np.trace(confusion) / real)


def test_log_probabilities_survive_extreme_logits():
    log_p = class_log_probabilities(jnp.array([[200.0], [-200.0]]))
    np.testing.assert_allclose(log_p, [[-200, 0], [0, -200]])


@pytest.mark.slow
@pytest.mark.parametrize("classes", [2, 3])
def test_evaluation_counts_every_example_once_with_a_ragged_last_batch(classes):
    model, batches = small_model(classes), small_batches(21, classes)
    params = parameters(classes)
    metrics = evaluate(make_eval_step(make_classifier_measure(model.apply)), params, batches.in_order())
    loss, confusion, apply = 0.0, np.zeros((classes, classes)), jax.jit(model.apply)
    for row, label in zip(batches.examples, batches.labels, strict=True):
        padded = np.zeros((1, 8), np.int32)
        padded[0, : len(row)] = row
        logits = apply({"params": params}, padded, np.array([len(row)]))
        one_loss, one = numpy_metrics(logits, np.array([label]))
        loss, confusion = loss + one_loss, confusion + one
    assert float(metrics.loss) == pytest.approx(loss, rel=1e-4)
    np.testing.assert_array_equal(metrics.confusion, confusion)


@pytest.mark.slow
def test_one_pass_gives_the_metrics_and_the_outputs_of_each_example_in_order():
    batches, model = small_batches(count=21, size=5), small_model()
    both = make_classifier_measure(model.apply, lambda logits, batch: (batch_metrics(logits, batch), logits))
    metrics, outputs, labels = evaluate_rows(make_eval_step(both), parameters(), batches.in_order())
    alone = make_eval_step(make_classifier_measure(model.apply))
    assert_trees_close(metrics, evaluate(alone, parameters(), batches.in_order()))
    np.testing.assert_array_equal(labels, batches.labels)
    for row, words in enumerate(batches.examples):
        ids = np.zeros((1, 8), np.int32)
        ids[0, : len(words)] = words
        logits = model.apply({"params": parameters()}, ids, np.array([len(words)]))
        np.testing.assert_allclose(outputs[row], logits[0], rtol=0, atol=1e-6)


@pytest.mark.slow
def test_rows_of_weight_zero_change_neither_loss_nor_gradient():
    model, optimizer = small_model(), optax.sgd(1.0)
    batch = small_batches(5)(0, 0)
    real = int(batch.weights.sum())
    noisy = batch._replace(token_ids=batch.token_ids.copy(), labels=batch.labels.copy())
    noisy.token_ids[real:], noisy.labels[real:] = 7, 1
    noisy = noisy._replace(lengths=np.where(batch.weights > 0, batch.lengths, batch.token_ids.shape[1]))
    fewer = Batch(*(field[:real] for field in batch))
    train_step = make_train_step(make_classifier_loss(model.apply), optimizer)
    clean, *others = (train_step(start(optimizer), each, KEY) for each in (batch, noisy, fewer))
    assert not np.allclose(clean[0].params["head"]["kernel"], parameters()["head"]["kernel"])
    for other in others:
        assert_trees_close(other, clean)


@pytest.mark.slow
def test_update_is_a_step_down_the_mean_loss_of_the_batch():
    model, optimizer, batch = small_model(), optax.sgd(1.0), small_batches(5)(0, 0)
    state, metrics = make_train_step(make_classifier_loss(model.apply), optimizer)(
        start(optimizer), batch, KEY
    )
    real, apply = int(batch.weights.sum()), jax.jit(model.apply)

    def mean_loss(bias):
        head = {**parameters()["head"], "bias": np.float32([bias])}
        logits = apply({"params": parameters() | {"head": head}}, batch.token_ids, batch.lengths)
        return numpy_metrics(logits[:real], batch.labels[:real])[0] / real

    before = float(parameters()["head"]["bias"][0])
    assert metrics.summary()["loss"] == pytest.approx(mean_loss(before), rel=1e-5)
    slope = (mean_loss(before + 0.05) - mean_loss(before - 0.05)) / 0.1
    assert before - float(state.params["head"]["bias"][0]) == pytest.approx(slope, rel=1e-2)


@pytest.mark.slow
def test_step_is_pure_and_takes_over_the_memory_of_its_state():
    model, optimizer, batch = small_model(dropout=0.5), optax.adam(0.01), small_batches()(0, 0)
    train_step = make_train_step(make_classifier_loss(model.apply), optimizer)
    first, second = start(optimizer), start(optimizer)
    one, _ = train_step(first, batch, KEY)
    two, _ = train_step(second, batch, KEY)
    assert bits(one) == bits(two)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(first.params))


@pytest.mark.slow
def test_dropout_is_drawn_from_the_key_and_the_step():
    model, optimizer, batch = small_model(dropout=0.5), optax.sgd(0.0), small_batches()(0, 0)
    train_step = make_train_step(make_classifier_loss(model.apply), optimizer)

    def losses(key):
        state, found = start(optimizer), []
        for _ in range(2):
            state, metrics = train_step(state, batch, jax.random.key(key))
            found.append(float(metrics.loss))
        return found

    assert losses(1) == losses(1)
    assert losses(1)[0] != losses(1)[1]
    assert losses(1) != losses(2)


@pytest.mark.slow
def test_state_before_training_is_step_zero_and_drawn_from_the_key():
    def made(seed):
        return init_state(init_params(small_model(), jax.random.key(seed)), optax.adam(0.1))

    state = made(0)
    assert int(state.step) == 0
    assert optax.tree.size(state.params) == sum(leaf.size for leaf in jax.tree.leaves(parameters()))
    assert bits(state) == bits(made(0)) != bits(made(1))


@pytest.mark.slow
def test_each_shape_is_compiled_once():
    model, optimizer, batches = small_model(), optax.sgd(0.1), small_batches()
    compiled = []

    def count(event, duration, **_):
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(event)

    train_step = CompiledByShape(make_train_step(make_classifier_loss(model.apply), optimizer), batch_mesh(1))
    eval_step = CompiledByShape(make_eval_step(make_classifier_measure(model.apply)), batch_mesh(1))
    state = start(optimizer)
    jax.monitoring.register_event_duration_secs_listener(count)
    try:
        for index in range(3 * batches.steps_per_epoch):
            state, _ = train_step(state, batches(0, index), KEY)
        for _ in range(2):
            evaluate(eval_step, jax.tree.map(np.asarray, state.params), batches.in_order())
    finally:
        jax.monitoring.unregister_event_duration_listener(count)
    assert len(batches.shapes) == 2
    assert len(compiled) == 4
    for step in (train_step, eval_step):
        assert sorted(step.seconds) == sorted(batches.shapes)
        assert all(seconds > 0 for seconds in step.seconds.values())


@pytest.mark.slow
def test_training_learns_the_examples_and_shows_each_step_to_the_meter():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 64).astype(np.int32)
    rows = [np.concatenate([rng.integers(4, 20, 5), [2 + label]]).astype(np.int32) for label in labels]
    batches, model, optimizer = Batches(rows, labels, (8,), 16), small_model(), optax.adam(0.05)

    class Meter:
        steps, flushed = [], 0

        def push(self, step, batch, metrics):
            assert isinstance(batch, Batch)
            self.steps.append(step)

        def flush(self):
            self.flushed += 1

    meter, state = Meter(), start(optimizer)
    trainer = Trainer(
        group_parameters(state.params, (), (), 1),
        lambda step: optimizer,
        lambda optimizer, trained: make_train_step(make_classifier_loss(model.apply), optimizer),
        batch_mesh(1),
        KEY,
    )
    state = trainer.train_until(80, state, batches, 0, meter, Interruption())
    assert meter.steps == list(range(1, 81))
    assert meter.flushed == 1
    metrics = evaluate(make_eval_step(make_classifier_measure(model.apply)), state.params, batches.in_order())
    assert metrics.summary()["accuracy"] > 0.95
