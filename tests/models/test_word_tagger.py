"""The tagger's network: padding of words or letters changes nothing; letters tell unknown words apart."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnn_jax import RNN, GRUCell
from rnn_jax.data import TagBatch
from rnn_jax.data.tokenizer import UNK
from rnn_jax.errors import InputError
from rnn_jax.layers import CRF
from rnn_jax.layers.dropout import BATCH_AXIS
from rnn_jax.models import WordTagger, build_tagger, make_tagger_loss, make_tagger_measure
from rnn_jax.models.scores import class_scores
from rnn_jax.settings import tagger_settings

VOCAB, LETTERS, TAGS = 20, 9, 4
LENGTHS = np.array([5, 0, 3])


def tiny(**changes):
    settings = tagger_settings().model.to_dict()
    settings |= {"embedding_dim": 5, "letter_dim": 3, "letter_hidden": 3, "hidden": 4, "cell": "gru"}
    settings |= {"word_dropout": 0.0, "embedding_dropout": 0.0, "dropout": 0.0}
    return build_tagger(VOCAB, LETTERS, TAGS, **settings | changes)


def a_batch(time=5, width=4, padding=0):
    """Returns a batch; `padding` stands at steps beyond the lengths."""
    random = np.random.default_rng(0)
    ids, tags = random.integers(1, VOCAB, (3, 5)), random.integers(TAGS, size=(3, 5))
    letters = random.integers(1, LETTERS, (3, 5, 4)) * (np.arange(4) < random.integers(1, 5, (3, 5, 1)))
    valid = np.arange(time) < LENGTHS[:, None]

    def padded(array):
        widths = [(0, size - have) for size, have in zip((3, time, width), array.shape, strict=False)]
        array = np.pad(array, widths)
        return np.where(valid if array.ndim == 2 else valid[:, :, None], array, padding).astype(np.int32)

    return TagBatch(padded(ids), LENGTHS, padded(letters), padded(tags), np.arange(3))


@pytest.fixture(scope="module", params=["softmax", "crf"])
def case(request):
    model, batch = tiny(output=request.param), a_batch()
    params = jax.jit(model.init)(jax.random.key(0), *batch[:3])["params"]
    loss_fn, measure = make_tagger_loss(model), make_tagger_measure(model)

    def loss(params, batch):
        total, (metrics, count, _) = loss_fn(params, (), batch, jax.random.key(1))
        return total, (metrics.confusion, count)

    outcome = jax.jit(jax.value_and_grad(loss, has_aux=True))
    scores = jax.jit(lambda params, batch: model.apply({"params": params}, *batch[:3]))
    return SimpleNamespace(
        model=model,
        params=jax.tree.map(lambda leaf: 2 * leaf, params),
        outcome=outcome,
        scores=scores,
        measure=jax.jit(lambda params, batch: measure(params, (), batch)[0]),
    )


@pytest.mark.slow
def test_padding_of_words_and_of_letters_changes_no_result(case):
    expected = case.outcome(case.params, a_batch())
    assert expected[0][1][1] == LENGTHS.sum() == expected[0][1][0].sum()
    for changes in ({"padding": 3}, {"time": 8, "width": 6, "padding": 1}):
        found = case.outcome(case.params, a_batch(**changes))
        jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, 1e-4, 1e-6), found, expected)


@pytest.mark.slow
def test_the_loss_is_that_of_the_scores(case):
    params, batch = case.params, a_batch()
    scores, metrics = case.scores(params, batch), case.measure(params, batch)
    valid = np.arange(5) < LENGTHS[:, None]
    if case.model.output == "crf":
        expected = -CRF(TAGS).apply({"params": params["crf"]}, scores, batch.tags, LENGTHS).sum()
        found = CRF(TAGS).apply({"params": params["crf"]}, scores, LENGTHS, method="decode")
    else:
        p = np.exp(np.asarray(scores, float))
        p /= p.sum(axis=-1, keepdims=True)
        expected = -np.log(np.take_along_axis(p, batch.tags[:, :, None], axis=2)[:, :, 0])[valid].sum()
        found = p.argmax(axis=-1)
    assert float(metrics.loss) == pytest.approx(float(expected), rel=1e-5)
    confusion = np.zeros((TAGS, TAGS))
    np.add.at(confusion, (batch.tags[valid], np.asarray(found)[valid]), 1)
    np.testing.assert_array_equal(metrics.confusion, confusion)
    summary = metrics.summary()
    assert summary["words"] == 8
    assert summary["accuracy"] == pytest.approx(np.trace(confusion) / 8)


@pytest.mark.slow
def test_letters_tell_unknown_words_apart(case):
    batch = a_batch()
    ids, letters = np.full_like(batch.token_ids, UNK), np.ones_like(batch.letters)
    letters[:, :, 0] = np.arange(1, 6)  # the first letter of each of the five words is another
    scores = case.scores(case.params, batch._replace(token_ids=ids, letters=letters))[0]
    # A new array: JAX may still be reading the one that it was given.
    equal = case.scores(case.params, batch._replace(token_ids=ids, letters=np.ones_like(letters)))[0]
    assert (np.abs(scores[1:] - equal[1:]).max(axis=1) > 1e-4).all()


def test_a_model_that_reads_letters_needs_them(case):
    ids, letters = a_batch().token_ids, a_batch().letters
    with pytest.raises(InputError, match="letters is None, but the model reads them"):
        case.model.apply({"params": case.params}, ids)
    with pytest.raises(InputError, match=r"letters has shape \(3, 4\)"):
        case.model.apply({"params": case.params}, ids, None, letters[:, 0])


@pytest.mark.slow
def test_word_dropout_reads_words_as_the_unknown_one_in_training_alone():
    model, batch = tiny(word_dropout=0.999999, letter_hidden=0), a_batch()
    variables = jax.jit(model.init)(jax.random.key(0), batch.token_ids)
    read = (batch.token_ids, batch.lengths)
    hidden = model.apply(variables, *read, deterministic=False, rngs={"dropout": jax.random.key(1)})
    unknown = model.apply(variables, jnp.full_like(batch.token_ids, UNK), batch.lengths)
    np.testing.assert_array_equal(hidden, unknown)
    assert np.abs(model.apply(variables, *read) - unknown).max() > 1e-4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"output": "softmx"}, "model.output is 'softmx'.*Did you mean 'softmax'"),
        ({"letter_hidden": -1}, "model.letter_hidden is -1"),
        ({"letter_dim": 0}, "model.letter_dim is 0"),
        ({"word_dropout": 1.0}, "model.word_dropout is 1.0"),
        ({"hidden": 0}, "model.hidden is 0"),
        ({"bidirectional": False, "merge": "sum"}, "model.merge is 'sum', but model.bidirectional is False"),
    ],
)
def test_settings_that_cannot_be_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        tiny(**changes)


def test_the_scores_of_each_tag_are_those_of_scikit_learn():
    metrics = pytest.importorskip(
        "sklearn.metrics", reason="the peer to compare with; pip install scikit-learn"
    )
    random = np.random.default_rng(0)
    true, found = random.integers(3, size=50), random.integers(3, size=50)  # the fourth tag never comes
    confusion = np.zeros((4, 4))
    np.add.at(confusion, (true, found), 1)
    names = ["A", "B", "C", "D"]
    expected = metrics.precision_recall_fscore_support(true, found, labels=range(4), zero_division=0)
    scores = class_scores(confusion, names)
    for key, values in zip(("precision", "recall", "f1", "support"), expected, strict=True):
        np.testing.assert_allclose([scores[name][key] for name in names], values)


@pytest.mark.slow
def test_the_parts_of_a_split_batch_add_up_to_the_batch_with_dropout_on():
    """As devices split it: `vmap` numbers the parts as the mesh does."""
    model, key = tiny(word_dropout=0.3, embedding_dropout=0.5, dropout=0.5, output="crf"), jax.random.key(2)
    halves = jax.tree.map(lambda leaf: np.stack([leaf, leaf[::-1]]), a_batch())
    whole = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), halves)
    params = jax.jit(model.init)(jax.random.key(0), *whole[:3])["params"]
    loss_fn = make_tagger_loss(model)

    @jax.jit
    def totals(params):
        parts = jax.vmap(lambda batch: loss_fn(params, (), batch, key)[0], axis_name=BATCH_AXIS)(halves)
        return parts.sum(), loss_fn(params, (), whole, key)[0]

    parts, together = totals(params)
    assert float(parts) == pytest.approx(float(together), rel=1e-5)
    assert float(together) != pytest.approx(2 * float(loss_fn(params, (), a_batch(), key)[0]), rel=1e-5)


@pytest.mark.parametrize("place", ["encoder", "letter_encoder"])
def test_a_cell_for_a_layer_is_refused(place):
    layers = {"encoder": RNN(GRUCell(4)), place: GRUCell(4)}
    with pytest.raises(
        InputError, match=rf"^{place} is a GRUCell, one step of a recurrence; give RNN\(GRUCell"
    ):
        jax.eval_shape(WordTagger(9, 3, 2, **layers).init, jax.random.key(0), np.ones((1, 2), int))


@pytest.mark.parametrize("shape", [(2, 1), (3,), (2, 4)])
def test_tags_of_another_shape_than_the_scores_are_refused(shape):
    model, scores = WordTagger(9, 3, 2, RNN(GRUCell(4))), np.zeros((2, 3, 2), np.float32)
    with pytest.raises(InputError, match=r"tags has shape .* and scores \(2, 3, 2\); give \[batch, time\]"):
        model.apply({}, scores, np.ones(shape, int), np.array([3, 2]), method="log_likelihood")
