"""The text classifier and its builder."""

from functools import cache, partial
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import bilstm, gru, lstm, simple_rnn, smoke, stacked_bilstm, stacked_lstm
from rnn_jax import RNN, GRUCell, LanguageModel, TextClassifier
from rnn_jax.errors import InputError
from rnn_jax.models.classifier import build_classifier
from rnn_jax.models.encoder import CELLS as NAMES
from rnn_jax.models.tagger import WordTagger
from tests.helpers import oracle
from tests.helpers.cases import CELLS, slow_but
from tests.helpers.oracle import random_like
from tests.layers.test_pooling import expected_row

RATES = ("embedding_dropout", "recurrent_dropout", "layer_dropout", "dropout")
SMALL = {**lstm.get_config().model.to_dict(), "embedding_dim": 6, "hidden": 4}
LENGTHS = np.array([7, 3, 0, 5])
IDS = np.where(np.arange(7) < LENGTHS[:, None], np.random.default_rng(0).integers(1, 20, (4, 7)), 0)
MERGES = {
    None: lambda forward, backward: forward,
    "concat": lambda forward, backward: np.concatenate([forward, backward], axis=-1),
    "sum": lambda forward, backward: forward + backward,
    "mul": lambda forward, backward: forward * backward,
    "ave": lambda forward, backward: (forward + backward) / 2,
}
EACH_OPTION = [
    ("simple", "last", "mul"),
    ("lstm", "concat", "concat"),
    ("gru", "attention", "sum"),
    ("simple", "mean", "ave"),
    ("gru", "max", None),
]
EVERY_COMBINATION = list(
    product(("simple", "lstm", "gru"), ("last", "mean", "max", "concat", "attention"), MERGES)
)


@cache
def built(classes=2, **changes):
    """Returns a model, its jitted apply, and random parameters."""
    model = build_classifier(20, classes, **(SMALL | changes))
    shapes = jax.eval_shape(model.init, jax.random.key(0), IDS, LENGTHS)["params"]
    return model, jax.jit(model.apply), random_like(shapes)


def logits_of(built, ids=IDS, lengths=LENGTHS):
    _, apply, params = built
    return apply({"params": params}, ids, lengths)


def built_with(cell, pooling, merge, classes=3):
    directions = {"bidirectional": True, "merge": merge} if merge else {}
    return built(classes, cell=cell, pooling=pooling, **directions)


def expected_logits(params, cell, pooling, merge):
    """Returns the logits of one layer in plain numpy."""
    x_BTE = params["embedding"]["embedding"][IDS]
    scopes = [("forward_rnn", False), ("backward_rnn", True)] if merge else [(None, False)]
    finals, outputs = [], []
    for scope, reverse in scopes:
        weights = params["encoder"][scope]["cell"] if scope else params["encoder"]["cell"]
        initial = [np.zeros((4, 4))] * (2 if cell == "lstm" else 1)
        state, output = oracle.over_time(CELLS[cell][1], weights, x_BTE, LENGTHS, initial, reverse)
        finals.append(state[-1])
        outputs.append(output)
    final_BH, outputs_BTH = MERGES[merge](finals[0], finals[-1]), MERGES[merge](outputs[0], outputs[-1])
    pools = {"params": params.get("pooling")}
    rows = [
        expected_row(pooling, pools, final, steps[:length] if length else np.zeros_like(steps[:1]))
        for final, steps, length in zip(final_BH, outputs_BTH, LENGTHS, strict=True)
    ]
    return oracle.affine(params["head"], np.stack(rows))


@pytest.mark.parametrize(
    ("config", "count"),
    [(lstm, 328_353), (stacked_lstm, 344_993), (bilstm, 336_705)],
    ids=["lstm", "stacked_lstm", "bilstm"],
)
def test_tutorial_networks_have_the_tutorials_parameter_counts(config, count):
    settings = config.get_config()
    model = build_classifier(settings.text.vocab_size, 2, **settings.model)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 1), jnp.int32))
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == count


@pytest.mark.parametrize("config", [lstm, stacked_lstm, bilstm, stacked_bilstm, gru, simple_rnn, smoke])
def test_every_config_builds(config):
    build_classifier(100, 3, **config.get_config().model)


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(options, marks=[] if options in EACH_OPTION else pytest.mark.slow)
        for options in EVERY_COMBINATION
    ],
    ids=lambda options: "-".join(map(str, options)),
)
def test_logits_are_those_of_numpy(options):
    classifier = built_with(*options)
    logits = logits_of(classifier)
    assert logits.shape == (4, 3)
    np.testing.assert_allclose(logits, expected_logits(classifier[-1], *options), rtol=1e-4, atol=1e-5)


def test_contextual_vectors_stand_beside_the_words_and_do_not_read_their_evidence():
    contextual = {"cell": "gru", "hidden": 3, "layers": 1}
    model = build_classifier(20, 3, evidence=2, **(SMALL | {"cell": "simple", "contextual": contextual}))
    shapes = jax.eval_shape(model.init, jax.random.key(0), IDS, LENGTHS)["params"]
    params = random_like(shapes)
    evidence = np.random.default_rng(1).normal(size=(*IDS.shape, 2)) * (IDS > 0)[..., None]
    table = params["embedding"]["embedding"]
    read = [table[IDS], evidence * table.std()]
    for scope, reverse in (("forward_rnn", False), ("backward_rnn", True)):
        weights, nothing = params["contextual"][scope]["cell"], [np.zeros((4, 3))]
        read.append(oracle.over_time(oracle.gru, weights, read[0], LENGTHS, nothing, reverse)[1])
    weights, x_BTE = params["encoder"]["cell"], np.concatenate(read, axis=-1)
    state, _ = oracle.over_time(oracle.simple, weights, x_BTE, LENGTHS, [np.zeros((4, 4))])
    logits = model.apply({"params": params}, IDS, LENGTHS, evidence=evidence)
    np.testing.assert_allclose(logits, oracle.affine(params["head"], state[-1]), rtol=1e-4, atol=1e-5)


def test_two_classes_have_one_logit():
    assert logits_of(built()).shape == (4, 1)


@pytest.mark.parametrize("options", EACH_OPTION, ids=lambda options: "-".join(map(str, options)))
def test_padding_tokens_change_no_logit(options):
    classifier = built_with(*options)
    other = np.where(np.arange(7) < LENGTHS[:, None], IDS, 13)
    np.testing.assert_array_equal(logits_of(classifier, other), logits_of(classifier))


def test_more_padding_changes_no_logit():
    classifier = built_with(*EACH_OPTION[1])
    longer = np.pad(IDS, ((0, 0), (0, 4)), constant_values=5)
    np.testing.assert_allclose(logits_of(classifier, longer), logits_of(classifier), atol=1e-6)


@pytest.mark.parametrize("options", EACH_OPTION, ids=lambda options: "-".join(map(str, options)))
def test_rows_do_not_see_each_other(options):
    classifier, order = built_with(*options), np.array([2, 0, 3, 1])
    shuffled = logits_of(classifier, IDS[order], LENGTHS[order])
    np.testing.assert_allclose(shuffled, logits_of(classifier)[order], atol=1e-6)


def test_without_lengths_every_step_counts():
    classifier = built_with(*EACH_OPTION[1])
    full = logits_of(classifier, IDS, np.full(4, 7))
    np.testing.assert_allclose(logits_of(classifier, IDS, None), full, atol=1e-6)
    assert not np.allclose(full, logits_of(classifier))


@pytest.mark.slow
@pytest.mark.parametrize("rate", RATES)
def test_each_dropout_acts_in_training_only(rate):
    off = dict.fromkeys(RATES, 0.0) | {"layers": 2, "cell": "simple"}
    plain, (model, apply, params) = built(**off), built(**(off | {rate: 0.5}))
    expected = logits_of(plain)
    np.testing.assert_array_equal(logits_of((model, apply, params)), expected)
    train = jax.jit(partial(model.apply, deterministic=False))

    def trained(seed):
        return train({"params": params}, IDS, LENGTHS, rngs={"dropout": jax.random.key(seed)})

    assert not np.allclose(trained(0), expected)
    assert not np.allclose(trained(0), trained(1))
    np.testing.assert_array_equal(trained(0), trained(0))


def test_bfloat16_gives_float32_logits_near_those_of_float32():
    exact = logits_of(built_with(*EACH_OPTION[1]))
    half = logits_of(built(3, cell="lstm", pooling="concat", bidirectional=True, dtype="bfloat16"))
    assert half.dtype == jnp.float32
    np.testing.assert_allclose(half, exact, atol=0.03)
    assert not np.array_equal(half, exact)


@pytest.mark.slow
def test_only_words_that_occur_get_a_gradient():
    model, _, params = built(cell="gru", pooling="concat")
    gradient = jax.jit(jax.grad(lambda p: (model.apply({"params": p}, IDS, LENGTHS) ** 2).sum()))(params)
    touched = np.any(np.asarray(gradient["embedding"]["embedding"]) != 0, axis=1)
    occurring = {int(word) for row, length in zip(IDS, LENGTHS, strict=True) for word in row[:length]}
    assert set(np.flatnonzero(touched)) == occurring
    assert 0 not in occurring


@pytest.mark.slow
@pytest.mark.parametrize(("merge_at", "apart"), [("layer", False), ("top", True)])
def test_directions_read_apart_only_if_they_merge_at_the_top(merge_at, apart):
    model, _, params = built(bidirectional=True, merge_at=merge_at, layers=2, layer_dropout=0.5)
    x, apply = random_like(jnp.zeros((1, 7, 6))), jax.jit(model.encoder.apply)
    before, after = (
        np.split(apply({"params": params["encoder"]}, words)[1][0], 2, axis=-1)
        for words in (x, x + (np.arange(7) == 3)[:, None])
    )
    forward, backward = ((old != new).any(-1) for old, new in zip(before, after, strict=True))
    assert forward[3:].all()
    assert backward[:4].all()
    assert (not forward[:3].any()) == (not backward[4:].any()) == apart


@pytest.mark.slow
def test_one_layer_merges_at_its_top():
    kinds = [built(bidirectional=True, merge_at=merge_at, pooling="concat") for merge_at in ("layer", "top")]
    np.testing.assert_array_equal(*map(logits_of, kinds))


def test_residual_needs_a_layer_as_wide_as_its_input():
    built(layers=2, residual=True)
    with pytest.raises(InputError, match=r"residual is on.*\(6, 4\)"):
        built(layers=1, residual=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cell": "lstmm"}, "model.cell is 'lstmm'.*Did you mean 'lstm'"),
        ({"pooling": "men"}, "model.pooling is 'men'.*Did you mean 'mean'"),
        ({"merge": "cat", "bidirectional": True}, "model.merge is 'cat'"),
        ({"merge": "sum"}, "model.merge is 'sum', but model.bidirectional is False"),
        ({"merge_at": "top"}, "model.merge_at is 'top', but model.bidirectional is False"),
        ({"merge_at": "tip", "bidirectional": True}, "model.merge_at is 'tip'.*Did you mean 'top'"),
        ({"dtype": "float16"}, "model.dtype is 'float16'.*float32, bfloat16"),
        ({"hidden": 0}, "model.hidden is 0"),
        ({"layers": 0}, "model.layers is 0"),
        ({"embedding_dim": -1}, "model.embedding_dim is -1"),
        ({"vocab_size": 0}, "vocab_size is 0"),
        ({"num_classes": 1}, "num_classes is 1; classification needs at least 2"),
        ({"cell": "gru", "layer_norm": True}, "model.layer_norm is an option of the lstm"),
        (
            {"cell": "min_gru", "weight_drop": 0.5},
            "weight_drop is 0.5, but the cell 'min_gru' has no recurrent",
        ),
        ({"contextual": {"hidden": -1}}, "model.contextual.hidden is -1"),
        ({"contextual": {"hidden": 2, "layers": 0}}, "model.contextual.layers is 0"),
        ({"contextual": {"cell": "grru"}}, "model.contextual.cell is 'grru'.*Did you mean 'gru'"),
        ({"layer_dropout": 0.5}, "model.layer_dropout is 0.5, but there is one layer"),
        *[({rate: 1.0, "layers": 2}, f"model.{rate} is 1.0") for rate in RATES],
        *[({rate: -0.1, "layers": 2}, f"model.{rate} is -0.1") for rate in RATES],
    ],
)
def test_options_that_make_no_sense_are_refused(change, message):
    with pytest.raises(InputError, match=message):
        build_classifier(**({"vocab_size": 20, "num_classes": 2} | SMALL | change))


@pytest.mark.parametrize("place", ["encoder", "contextual"])
def test_a_cell_for_a_layer_is_refused(place):
    layers = {"encoder": RNN(GRUCell(4)), place: GRUCell(4)}
    with pytest.raises(
        InputError, match=rf"^{place} is a GRUCell, one step of a recurrence; give RNN\(GRUCell"
    ):
        jax.eval_shape(TextClassifier(9, 3, 2, **layers).init, jax.random.key(0), np.ones((1, 2), int))


SIZED = {  # a model, and its sizes
    TextClassifier: {"vocab_size": 9, "embedding_dim": 3, "num_classes": 2},
    LanguageModel: {"vocab_size": 9, "embedding_dim": 3},
    WordTagger: {"vocab_size": 9, "embedding_dim": 3, "num_tags": 2},
}


@pytest.mark.parametrize(("model", "size"), [(model, size) for model in SIZED for size in SIZED[model]])
def test_a_size_below_1_is_refused(model, size):
    network = model(**SIZED[model] | {size: 0}, encoder=RNN(GRUCell(4)))
    with pytest.raises(InputError, match=f"^{size} is 0; give at least 1"):
        jax.eval_shape(network.init, jax.random.key(0), np.ones((1, 2), int), np.array([2]))


@pytest.mark.parametrize("cell", slow_but(["min_gru"], sorted(NAMES.keys() - CELLS.keys())))
def test_a_network_of_every_newer_cell_learns(cell):
    """Whether word 3 is in the text."""
    model, _, _ = built(cell=cell, pooling="concat", hidden=8)
    ids = np.random.default_rng(1).integers(1, 20, (64, 7))
    wanted = jnp.asarray((ids == 3).any(axis=1)[:, None], jnp.float32)
    params = model.init(jax.random.key(0), ids)["params"]
    optimizer = optax.adam(0.03)

    def loss(params):
        logits = model.apply({"params": params}, ids)
        return optax.sigmoid_binary_cross_entropy(logits, wanted).mean()

    @jax.jit
    def train(params):
        def step(state, _):
            value, gradient = jax.value_and_grad(loss)(state[0])
            updates, moments = optimizer.update(gradient, state[1])
            return (optax.apply_updates(state[0], updates), moments), value

        return jax.lax.scan(step, (params, optimizer.init(params)), length=60)[1]

    losses = train(params)
    assert losses[0] > 0.5
    assert losses[-1] < 0.05
