"""The objective of a language model: against numpy, over windows with a carried state, and split by rows."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rnn_jax import RNN, GRUCell, LSTMCell, SimpleCell, Stacked
from rnn_jax.data.windows import Window, Windows
from rnn_jax.errors import InputError
from rnn_jax.layers.dropout import BATCH_AXIS
from rnn_jax.models.language_model import LanguageModel
from rnn_jax.models.losses import (
    Objective,
    begin_anew,
    drop_weights,
    make_language_loss,
    make_language_measure,
    mean_squares,
    output_changes,
)
from rnn_jax.models.metrics import LanguageMetrics
from rnn_jax.models.softmax import draw, log_uniform
from tests.helpers import oracle
from tests.helpers.cases import compiled, slow_but
from tests.helpers.oracle import assert_trees_close, random_like

WORDS, SIZE, UNITS, LANES, STEPS = 11, 3, 4, 3, 4
KEY = jax.random.key(5)
DOCUMENTS = [
    np.random.default_rng(size).integers(1, WORDS, size).astype(np.int32) for size in (9, 2, 14, 6, 5, 1, 10)
]
ENCODERS = {
    "gru": lambda: RNN(GRUCell(UNITS)),
    "stacked": lambda: Stacked([RNN(LSTMCell(3)), RNN(SimpleCell(UNITS), backend="scan")]),
}


@cache
def built(encoder="gru", **options):
    """Returns a model and random parameters."""
    model = LanguageModel(WORDS, SIZE, ENCODERS[encoder](), **options)
    shapes = jax.eval_shape(model.init, KEY, jnp.zeros((1, 1), jnp.int32))["params"]
    return model, random_like(shapes)


@cache
def dropping():
    """Returns a model with every kind of dropout."""
    rates = dict.fromkeys(("type_dropout", "embedding_dropout", "output_dropout"), 0.4)
    model = LanguageModel(WORDS, SIZE, RNN(LSTMCell(UNITS), recurrent_dropout=0.4), **rates)
    shapes = jax.eval_shape(model.init, KEY, jnp.zeros((1, 1), jnp.int32))["params"]
    return model, random_like(shapes)


def windows(reverse=False):
    return Windows(DOCUMENTS, LANES, STEPS, reverse)


def a_window(seed=0):
    """Returns a window with a full, a short and an empty row; the first begins a document."""
    random = np.random.default_rng(seed)
    lengths = np.array([4, 2, 0], np.int32)
    valid = np.arange(STEPS) < lengths[:, None]
    ids, targets = (np.where(valid, random.integers(1, WORDS, (LANES, STEPS)), 0) for _ in range(2))
    fresh, rows = np.array([True, False, True]), np.array([0, 1, -1], np.int32)
    return Window(ids.astype(np.int32), targets.astype(np.int32), lengths, fresh, rows)


def a_carry(model, seed=1):
    return random_like(model.initial_carry(LANES), seed)


@compiled
def outputs_and_logits(model, params, token_ids, lengths=None, carry=None):
    _, outputs = model.apply({"params": params}, token_ids, lengths, carry)
    return outputs, model.apply({"params": params}, outputs, method="logits")


def whole_outputs(model, params, document):
    """Returns the outputs [words, H] and the logits of a document that is read at once."""
    words = len(document)
    row = np.pad(document, (0, 16 - words))[None]  # of one length, to compile once
    outputs, logits = outputs_and_logits(model, params, row, np.array([words]))
    return outputs[0, :words], logits[0, :words]


def loss_of(model, *objective):
    return jax.jit(make_language_loss(model, *objective))


def gradient_of_loss(model, *objective):
    return jax.jit(jax.value_and_grad(make_language_loss(model, *objective), has_aux=True))


def numpy_losses(logits, targets):
    logits = np.asarray(logits, np.float64)
    return np.log(np.exp(logits).sum(axis=-1)) - logits[np.arange(len(targets)), targets]


@pytest.mark.slow
def test_the_measure_is_the_cross_entropy_of_the_words_that_are_there():
    model, params = built()
    window, carry = a_window(), a_carry(model)
    metrics, _ = jax.jit(make_language_measure(model))(params, carry, window)
    begin = np.where(window.fresh[:, None], 0, carry)
    _, logits = outputs_and_logits(model, params, window.token_ids, window.lengths, begin)
    expected = 0.0
    for row, length in enumerate(window.lengths):
        expected += numpy_losses(logits[row, :length], window.targets[row, :length]).sum()
    assert float(metrics.loss) == pytest.approx(expected, rel=1e-5)
    assert metrics.summary()["words"] == 6
    assert metrics.summary()["perplexity"] == pytest.approx(np.exp(expected / 6), rel=1e-5)


def test_a_model_that_knows_nothing_has_the_perplexity_of_the_vocabulary():
    model, params = built()
    nothing = jax.tree.map(np.zeros_like, params)
    metrics, _ = jax.jit(make_language_measure(model))(nothing, a_carry(model), a_window())
    assert metrics.summary()["perplexity"] == pytest.approx(WORDS, rel=1e-5)


def test_metrics_of_no_words_or_of_a_hopeless_model_are_finite():
    nothing = LanguageMetrics(jnp.zeros(()), jnp.zeros(()))
    assert nothing.summary() == {"loss": 0.0, "perplexity": 1.0, "words": 0}
    assert np.isfinite(LanguageMetrics(jnp.array(1e6), jnp.array(1.0)).summary()["perplexity"])


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("encoder", slow_but(["stacked"], ENCODERS))
def test_windows_with_a_carried_state_are_documents_read_at_once(encoder, reverse):
    model, params = built(encoder)
    carry, found, total = model.initial_carry(LANES), {}, LanguageMetrics(0.0, 0.0)
    read, measure = jax.jit(model.apply), jax.jit(make_language_measure(model))
    initial = model.initial_carry(LANES)
    for window in windows(reverse).in_order():
        begin = begin_anew(carry, initial, window.fresh)
        _, outputs = read({"params": params}, window.token_ids, window.lengths, begin)
        metrics, carry = measure(params, carry, window)
        total = jax.tree.map(np.add, total, metrics)
        for row, length, output in zip(window.rows, window.lengths, np.asarray(outputs), strict=True):
            found.setdefault(int(row), []).extend(output[:length])
    expected_loss = 0.0
    for row, document in enumerate(DOCUMENTS):
        if len(document) > 1:
            words = document[::-1] if reverse else document
            outputs, logits = whole_outputs(model, params, words[:-1])
            np.testing.assert_allclose(np.array(found[row]), outputs, atol=1e-6)
            expected_loss += numpy_losses(logits, words[1:]).sum()
    assert float(total.loss) == pytest.approx(expected_loss, rel=1e-5)
    assert float(total.words) == sum(len(document) - 1 for document in DOCUMENTS)


@pytest.mark.slow
def test_the_carry_is_that_after_the_last_word_of_a_short_row_and_of_an_empty_one_as_it_came():
    model, params = built()
    window, carry = a_window()._replace(fresh=np.zeros(LANES, bool)), a_carry(model)
    _, after = jax.jit(make_language_measure(model))(params, carry, window)
    short, _ = model.apply({"params": params}, window.token_ids[1:2, :2], None, carry[1:2])
    np.testing.assert_allclose(after[1], short[0], atol=1e-6)
    np.testing.assert_array_equal(after[2], carry[2])


@pytest.mark.slow
@pytest.mark.parametrize("encoder", ENCODERS)
def test_a_fresh_row_forgets_what_it_carried_and_the_others_do_not(encoder):
    model, params = built(encoder)
    measure, window = (
        jax.jit(make_language_measure(model)),
        a_window()._replace(lengths=np.full(LANES, STEPS, np.int32)),
    )
    one, other = (measure(params, a_carry(model, seed), window)[1] for seed in (1, 2))
    for here, there in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        assert [np.array_equal(*pair) for pair in zip(here, there, strict=True)] == window.fresh.tolist()
    spoilt = jax.tree.map(lambda leaf: np.where(window.fresh[:, None], np.nan, leaf), a_carry(model))
    _, gradients = gradient_of_loss(model)(params, spoilt, window, KEY)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))


@pytest.mark.slow
def test_no_gradient_flows_into_the_window_before():
    model, params = built()
    loss, (first, second) = (
        loss_of(model),
        (a_window(seed)._replace(fresh=np.zeros(3, bool)) for seed in (0, 1)),
    )
    carry = a_carry(model)

    def second_loss(params):
        _, (_, _, carried) = loss(params, carry, first, KEY)
        return loss(params, carried, second, KEY)[0]

    _, (_, _, carried) = loss(params, carry, first, KEY)
    alone = jax.jit(jax.grad(lambda params: loss(params, carried, second, KEY)[0]))(params)
    assert_trees_close(jax.jit(jax.grad(second_loss))(params), alone)
    assert not np.any(jax.jit(jax.grad(lambda carry: loss(params, carry, second, KEY)[0]))(carry))


@pytest.mark.slow
def test_the_tied_table_gets_the_gradients_of_both_of_its_uses():
    model, params = built()
    window, carry, loss = a_window(), a_carry(model), make_language_loss(model)

    @jax.jit
    def at(table):
        return loss(params | {"embedding": {"embedding": table}}, carry, window, KEY)[0]

    table = np.asarray(params["embedding"]["embedding"])
    gradient = np.asarray(jax.jit(jax.grad(at))(table))
    read, absent = window.token_ids[0, 0], next(word for word in range(WORDS) if word not in window.token_ids)
    for word in (read, absent):
        for feature in range(SIZE):
            change = np.zeros_like(table)
            change[word, feature] = 0.02
            slope = (at(table + change) - at(table - change)) / 0.04
            assert gradient[word, feature] == pytest.approx(float(slope), rel=0.02, abs=2e-3)


@pytest.mark.slow
def test_penalties_are_those_of_numpy_and_are_no_part_of_the_metrics():
    model, params = built(output_dropout=0.5)
    window, carry = a_window(), a_carry(model)
    plain, (metrics, *_) = loss_of(model)(params, carry, window, KEY)
    assert float(plain) == float(metrics.loss)
    begin = np.where(window.fresh[:, None], 0, carry)
    outputs, _ = outputs_and_logits(model, params, window.token_ids, window.lengths, begin)
    outputs, temporal = np.asarray(outputs, np.float64), 0.0
    for row, length in enumerate(window.lengths):
        for step in range(1, length):
            temporal += ((outputs[row, step] - outputs[row, step - 1]) ** 2).mean()
    masks, _, _ = jax.random.split(KEY, 3)
    dropped = model.apply(
        {"params": params}, jnp.asarray(outputs), False, method="drop", rngs={"dropout": masks}
    )
    activation = (np.asarray(dropped, np.float64) ** 2).mean(axis=-1).sum()
    for options, expected in (({"activation": 2.0}, 2 * activation), ({"temporal": 3.0}, 3 * temporal)):
        loss, (found, *_) = loss_of(model, Objective(**options))(params, carry, window, KEY)
        assert float(loss - plain) == pytest.approx(expected, rel=1e-4)
        assert float(found.loss) == float(metrics.loss)
    assert mean_squares(dropped) != pytest.approx(mean_squares(jnp.asarray(outputs)))


def test_changes_stop_at_the_end_of_a_row():
    outputs = jnp.array([[[1.0], [4.0], [9.0]], [[2.0], [7.0], [0.0]], [[0.0], [0.0], [0.0]]])
    assert output_changes(outputs, jnp.array([3, 2, 0]))[:, :, 0].tolist() == [[3, 5], [5, 0], [0, 0]]


@pytest.mark.slow
def test_weight_drop_zeroes_its_share_of_the_recurrent_kernels_alone_and_keeps_their_mean():
    model = LanguageModel(WORDS, 40, Stacked([RNN(LSTMCell(60)), RNN(GRUCell(50)), RNN(SimpleCell(80))]))
    params = random_like(jax.eval_shape(model.init, KEY, jnp.zeros((1, 1), jnp.int32))["params"])
    dropped = jax.jit(partial(drop_weights, rate=0.3))(params, KEY)
    changed = set()
    for path, leaf in jax.tree_util.tree_leaves_with_path(dropped):
        before, name = params, jax.tree_util.keystr(path, simple=True, separator="/")
        for key in path:
            before = before[key.key]
        if not np.array_equal(before, leaf):
            changed.add(name)
            kept = np.asarray(leaf) != 0
            assert 1 - kept.mean() == pytest.approx(0.3, abs=0.04)
            np.testing.assert_allclose(leaf, np.where(kept, before / np.float32(0.7), 0), rtol=1e-6)
    assert changed == {
        *(f"encoder/layers_0/cell/h{gate}/kernel" for gate in "ifgo"),
        *(f"encoder/layers_1/cell/h{gate}/kernel" for gate in "rzn"),
        "encoder/layers_2/cell/h/kernel",
    }
    masks = {
        bytes(np.asarray(dropped["encoder"]["layers_0"]["cell"][f"h{gate}"]["kernel"]) != 0)
        for gate in "ifgo"
    }
    assert len(masks) == 4


def test_weight_drop_is_the_same_for_all_rows_and_steps():
    """The outputs are those of numpy cells whose kernels are dropped once."""
    model, params = built("gru")
    dropped = drop_weights(params, KEY, 0.5)
    ids = np.random.default_rng(0).integers(1, WORDS, (LANES, 7))
    outputs, _ = outputs_and_logits(model, dropped, ids)
    x, initial = params["embedding"]["embedding"][ids], [np.zeros((LANES, UNITS))]
    _, expected = oracle.over_time(oracle.gru, dropped["encoder"]["cell"], x, [7] * LANES, initial)
    np.testing.assert_allclose(outputs, expected, atol=1e-5)


@pytest.mark.slow
def test_the_loss_drops_weights_anew_for_each_key_and_the_gradient_stays_within_the_mask():
    model, params = built()
    loss, window, carry = loss_of(model, Objective(weight_drop=0.5)), a_window(), a_carry(model)
    losses = [float(loss(params, carry, window, jax.random.key(seed))[0]) for seed in (0, 0, 1)]
    assert losses[0] == losses[1] != losses[2]
    dropped = drop_weights(params, jax.random.split(KEY, 3)[1], 0.5)
    found, _ = loss(params, carry, window, KEY)
    assert float(found) == pytest.approx(float(loss_of(model)(dropped, carry, window, KEY)[0]), rel=1e-6)
    gradient = jax.jit(jax.grad(loss, has_aux=True))(params, carry, window, KEY)[0]["encoder"]["cell"]
    for name in ("hr", "hz", "hn"):
        mask = np.asarray(dropped["encoder"]["cell"][name]["kernel"]) != 0
        assert 0 < mask.sum() < mask.size
        np.testing.assert_array_equal(np.asarray(gradient[name]["kernel"]) != 0, mask)


@pytest.mark.slow
def test_with_many_negatives_the_sampled_loss_and_its_gradient_are_near_the_whole_ones():
    model, params = built()
    window, carry = a_window(), a_carry(model)
    sampler = partial(draw, log_uniform(WORDS), 100_000)

    def of(**options):
        return gradient_of_loss(model, Objective(**options))(params, carry, window, KEY)

    (whole, _), gradient = of()
    (estimate, _), near = of(draw_negatives=sampler)
    assert float(estimate) == pytest.approx(float(whole), rel=5e-3)
    assert float(estimate) != float(whole)
    assert_trees_close(near, gradient, atol=0.03, rtol=0)


@pytest.mark.slow
def test_the_loss_over_a_split_batch_is_that_of_the_whole_one():
    """Every dropout, the negatives and the carry: as shard_map runs it, with a named axis for the rows."""
    model, params = dropping()
    sampler = partial(draw, log_uniform(WORDS), 5)
    loss = make_language_loss(model, Objective(sampler, weight_drop=0.4, activation=1.0, temporal=1.0))
    turn = Windows(DOCUMENTS, 4, STEPS)
    window, carry = turn(0, 1), random_like(model.initial_carry(4))
    one = jax.value_and_grad(loss, has_aux=True)
    whole = jax.jit(one)(params, carry, window, KEY)
    parts = jax.tree.map(lambda leaf: np.asarray(leaf).reshape(2, 2, *leaf.shape[1:]), (carry, window))
    split = jax.jit(jax.vmap(one, (None, 0, 0, None), axis_name=BATCH_AXIS))(params, *parts, KEY)
    (loss, (metrics, _, carry)), gradients = split
    summed = jax.tree.map(lambda leaf: np.asarray(leaf).sum(axis=0), (loss, metrics, gradients))
    joined = jax.tree.map(lambda leaf: leaf.reshape(4, *leaf.shape[2:]), carry)
    (loss, (metrics, _, carry)), gradients = whole
    assert_trees_close((summed, joined), ((loss, metrics, gradients), carry), rtol=1e-4, atol=1e-5)
    assert float(loss_of(model)(params, carry, window, KEY)[0]) != float(loss)


@pytest.mark.slow
def test_training_on_windows_learns_what_only_the_carry_can_tell():
    """Windows of one word; after word 3 comes the one before it, which is in another window."""
    documents = [np.array([word, 3] * 4, np.int32) for word in (1, 2) for _ in range(8)]
    model = LanguageModel(4, 8, RNN(GRUCell(16)))
    turn = Windows(documents, 4, 1)
    params = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 1), jnp.int32))["params"]
    gradient_of, optimizer = jax.grad(make_language_loss(model), has_aux=True), optax.adam(0.01)

    @jax.jit
    def step(params, opt_state, carry, window):
        gradient, (_, _, carry) = gradient_of(params, carry, window, KEY)
        updates, opt_state = optimizer.update(gradient, opt_state)
        return optax.apply_updates(params, updates), opt_state, carry

    opt_state, carry = optimizer.init(params), model.initial_carry(4)
    for index in range(10 * turn.steps_per_epoch):
        params, opt_state, carry = step(params, opt_state, carry, turn(0, index))
    carry, total, measure = (
        model.initial_carry(4),
        LanguageMetrics(0.0, 0.0),
        jax.jit(make_language_measure(model)),
    )
    for window in turn.in_order():
        metrics, carry = measure(params, carry, window)
        total = jax.tree.map(np.add, total, metrics)
    # Without the carry three words of seven cost log 2, a mean of 0.297 a word.
    assert total.summary()["loss"] < 0.05


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight_drop": 1.0}, "weight_drop is 1.0"),
        ({"activation": -1.0}, "activation is -1.0; it is the weight of a penalty"),
        ({"temporal": -0.5}, "temporal is -0.5"),
        ({"temporal": float("nan")}, "temporal is nan"),
    ],
)
def test_options_that_cannot_be_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        make_language_loss(built()[0], Objective(**options))


@pytest.mark.parametrize(
    ("params", "rate", "message"),
    [
        ({"head": {"kernel": np.ones(2)}}, 0.5, "params have no recurrent kernel to drop"),
        ({"cell": {"h": {"kernel": np.ones(2)}}}, -0.1, "weight_drop is -0.1"),
    ],
)
def test_weights_that_cannot_be_dropped_are_refused(params, rate, message):
    with pytest.raises(InputError, match=message):
        drop_weights(params, KEY, rate)
