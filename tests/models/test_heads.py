"""Heads: losses and metrics equal optax's and scikit-learn's; a pair is read as two texts by themselves."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn import metrics

from rnn_jax import RNN, Bidirectional, GRUCell, TextClassifier
from rnn_jax.data.batches import Batch, Batches
from rnn_jax.errors import InputError
from rnn_jax.models.heads import ClassHead, LabelsHead, NumberHead, head_of
from rnn_jax.models.scores import label_scores, number_scores

NAMES = ("a", "b", "c")


def batch_of(labels, padding=2):
    """Returns a batch of n examples and rows that stand for none, whose labels are not to count."""
    labels = np.concatenate([labels, np.ones((padding, *labels.shape[1:]), labels.dtype)])
    ones = np.ones(len(labels), np.int32)
    weights = np.where(np.arange(len(labels)) < len(labels) - padding, 1, 0).astype(np.float32)
    return Batch(ones[:, None], ones, labels, weights, ones)


def drawn(n=20, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, 3)).astype(np.float32), (rng.random((n, 3)) < 0.4).astype(np.int32)


def padded(logits, padding=2):
    return jnp.concatenate([logits, jnp.full((padding, *logits.shape[1:]), 7.0)])


def test_the_loss_of_labels_is_optaxs_and_padding_rows_count_nothing():
    logits, labels = drawn()
    found = LabelsHead(NAMES).measure(padded(logits), batch_of(labels))
    assert float(found.loss) == pytest.approx(
        float(optax.sigmoid_binary_cross_entropy(logits, labels).mean(-1).sum()), rel=1e-6
    )
    smooth = LabelsHead(NAMES).measure(padded(logits), batch_of(labels), smoothing=0.2)
    wanted = optax.sigmoid_binary_cross_entropy(logits, 0.8 * labels + 0.1).mean(-1).sum()
    assert float(smooth.loss) == pytest.approx(float(wanted), rel=1e-6)


def test_weights_are_factors_of_the_texts_that_have_the_label():
    logits, labels = drawn()
    weights = np.array([3.0, 1.0, 0.5])
    found = LabelsHead(NAMES).measure(padded(logits), batch_of(labels), class_weights=weights)
    losses = np.asarray(optax.sigmoid_binary_cross_entropy(logits, labels))
    wanted = (losses * np.where(labels > 0, weights, 1)).mean(-1).sum()
    assert float(found.loss) == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize("head", [ClassHead(NAMES), LabelsHead(NAMES)])
def test_weights_of_another_number_of_classes_are_refused(head):
    logits, labels = drawn()
    labels = labels if isinstance(head, LabelsHead) else labels[:, 0]
    for weights in (np.ones(1), np.ones(2), np.ones(4)):
        with pytest.raises(InputError, match=r"class_weights has shape .* but there are 3 classes; give one"):
            head.measure(padded(logits), batch_of(labels), class_weights=weights)


@pytest.mark.parametrize(
    "labels", [np.zeros((20, 1), int), np.zeros((20, 2)), np.zeros(20), np.zeros(19, int), np.zeros(20, bool)]
)
def test_labels_that_are_neither_classes_nor_probabilities_of_all_are_refused(labels):
    with pytest.raises(
        InputError, match=r"labels has shape .* give integers \[22\], or probabilities \[22, 3\]"
    ):
        ClassHead(NAMES).measure(padded(drawn()[0]), batch_of(labels))


@pytest.mark.parametrize("shape", [(20, 1), (20,), (19, 3), (20, 2)])
def test_several_labels_of_another_shape_than_the_logits_are_refused(shape):
    with pytest.raises(InputError, match=r"labels has shape .* but the logits are for \(22, 3\); give that"):
        LabelsHead(NAMES).measure(padded(drawn()[0]), batch_of(np.ones(shape, int)))


@pytest.mark.parametrize("smoothing", [-0.1, 1.0, float("nan")])
@pytest.mark.parametrize("head", [ClassHead(NAMES), LabelsHead(NAMES)])
def test_smoothing_that_is_no_share_is_refused(head, smoothing):
    logits, labels = drawn()
    labels = labels if isinstance(head, LabelsHead) else labels[:, 0]
    with pytest.raises(InputError, match=r"^smoothing is .* at least 0 and below 1"):
        head.measure(padded(logits), batch_of(labels), smoothing)


@pytest.mark.parametrize("shape", [(20, 1), (20, 3), (19,)])
def test_numbers_that_are_not_one_a_row_are_refused(shape):
    with pytest.raises(InputError, match=r"labels has shape .* but the logits are for \(22,\); give that"):
        NumberHead(0.0, 1.0).measure(padded(drawn()[0][:, :1]), batch_of(np.ones(shape, np.float32)))


@pytest.mark.parametrize("options", [{"smoothing": 0.1}, {"class_weights": np.ones(2)}])
def test_a_number_refuses_the_options_of_classes(options):
    with pytest.raises(InputError, match="but a number has no classes; leave them at 0 and None"):
        NumberHead(0.0, 1.0).measure(jnp.zeros((22, 1)), batch_of(np.ones(20, np.float32)), **options)


def test_metrics_and_scores_of_labels_are_scikit_learns():
    logits, labels = drawn()
    head = LabelsHead(NAMES)
    found, truth = head.measure(padded(logits), batch_of(labels)), (logits > 0).astype(int)
    answers = np.asarray(head.answer(jnp.asarray(logits)))
    scores = label_scores(answers, labels, NAMES)
    summary = found.summary()
    for average in ("micro", "macro"):
        wanted = metrics.f1_score(labels, truth, average=average)
        assert scores[f"{average}_f1"] == pytest.approx(wanted)
        assert head.monitors[f"{average}_f1"](found) == pytest.approx(wanted)
    assert summary["subset_accuracy"] == pytest.approx(metrics.accuracy_score(labels, truth))
    assert summary["examples"] == 20
    assert scores["roc_auc"] == pytest.approx(metrics.roc_auc_score(labels, answers))
    assert scores["average_precision"] == pytest.approx(metrics.average_precision_score(labels, answers))
    rows = metrics.precision_recall_fscore_support(labels, truth, zero_division=0)
    np.testing.assert_allclose([list(row.values()) for row in scores["classes"].values()], np.transpose(rows))


def test_metrics_of_numbers_are_scikit_learns_in_the_unit_of_the_data():
    rng = np.random.default_rng(0)
    truth, values = rng.normal(30, 4, 25), rng.normal(30, 4, 25)
    head = NumberHead(30.0, 4.0)
    logits, labels = ((part - 30) / 4 for part in (values[:, None], truth))
    found = head.measure(padded(jnp.float32(logits)), batch_of(labels.astype(np.float32)))
    wanted = number_scores(values, truth)
    assert wanted["r2"] == pytest.approx(metrics.r2_score(truth, values))
    assert head.details(found)["rmse"] == pytest.approx(
        metrics.root_mean_squared_error(truth, values), rel=1e-5
    )
    assert head.details(found)["mae"] == pytest.approx(metrics.mean_absolute_error(truth, values), rel=1e-5)
    assert found.summary()["r2"] == pytest.approx(wanted["r2"], rel=1e-4)
    np.testing.assert_allclose(head.prediction(logits[:, 0]).values, values)
    assert number_scores(values, np.ones(25))["r2"] is None


def test_a_head_that_is_not_there_is_refused():
    with pytest.raises(InputError, match=r"data.target is 'nunber'.*number"):
        head_of("nunber", {})


def encoder():
    return Bidirectional(RNN(GRUCell(4)), RNN(GRUCell(4)))


@pytest.mark.slow
@pytest.mark.parametrize("pooling", ["last", "attention"])
def test_a_pair_is_two_texts_by_themselves_whatever_its_padding(pooling):
    rng = np.random.default_rng(0)
    rows = [(rng.integers(2, 9, 3), rng.integers(2, 9, 5)), (rng.integers(2, 9, 0), rng.integers(2, 9, 1))]
    pair = TextClassifier(9, 3, 2, encoder(), pooling, pair=True)
    single = TextClassifier(9, 3, 2, encoder(), pooling)
    (batch,) = Batches(rows, np.zeros(2, np.int32), (6,), 2).in_order()
    variables = pair.init(jax.random.key(1), batch.token_ids, batch.lengths)
    logits = pair.apply(variables, batch.token_ids, batch.lengths)
    wider = batch.token_ids.reshape(2, 2, 6)
    wider = np.concatenate([wider, np.full((2, 2, 3), 8)], axis=-1).reshape(2, 18)
    np.testing.assert_allclose(logits, pair.apply(variables, wider, batch.lengths), atol=1e-6)

    def pooled(text):  # one text alone, by a network for single texts
        ids, lengths = jnp.asarray(text, jnp.int32).reshape(1, -1), jnp.array([len(text)])

        def features(module):
            carry, outputs = module.encoder(module.embed(ids), lengths)
            return module.pool(module.encoder.final_hidden(carry), outputs, lengths)

        return np.asarray(single.apply(variables, method=features))[0]

    kernel, bias = (np.asarray(variables["params"]["head"][name]) for name in ("kernel", "bias"))
    for row, (first, second) in zip(np.asarray(logits), rows, strict=True):
        u = pooled(first) if len(first) else np.zeros(8, np.float32)  # of no words, zeros are pooled
        v = pooled(second)
        wanted = np.concatenate([u, v, np.abs(u - v), u * v]) @ kernel + bias
        np.testing.assert_allclose(row, wanted, atol=1e-5)


PAIRS = TextClassifier(9, 3, 2, RNN(GRUCell(4)), pair=True)
ODD = {
    "token_ids has rows of 5 words, but pair=True": (np.ones((2, 5), int), None),
    r"lengths has shape \(2,\), but pair=True reads 2 pairs; give \[2, 2\]": (np.ones((2, 6), int), [3, 3]),
    r"lengths has shape \(2, 3\), but pair=True reads 3 pairs": (np.ones((3, 6), int), np.ones((2, 3), int)),
}


@pytest.mark.parametrize("message", ODD)
def test_what_is_no_batch_of_pairs_is_refused(message):
    with pytest.raises(InputError, match=message):
        jax.eval_shape(PAIRS.init, jax.random.key(0), *ODD[message])


@pytest.mark.slow
def test_a_pair_without_lengths_is_whole():
    pair = TextClassifier(9, 3, 3, RNN(GRUCell(4)), pair=True)
    ids = np.array([[2, 3, 4, 5], [6, 7, 8, 2]])
    variables = pair.init(jax.random.key(0), ids)
    np.testing.assert_allclose(pair.apply(variables, ids), pair.apply(variables, ids, np.full((2, 2), 2)))
