"""The language model against numpy, and text drawn from it."""

from functools import cache, partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnn_jax import RNN, Bidirectional, GRUCell, LSTMCell, SimpleCell, Stacked, TextClassifier
from rnn_jax.data.tokenizer import PAD, Tokenizer
from rnn_jax.errors import InputError
from rnn_jax.inference.writer import sample
from rnn_jax.models.language_model import LanguageModel
from tests.helpers import oracle
from tests.helpers.cases import compiled
from tests.helpers.oracle import assert_trees_close, random_like

WORDS, SIZE, UNITS = 12, 5, 4
LENGTHS = np.array([6, 2, 0])
IDS = np.where(np.arange(6) < LENGTHS[:, None], np.random.default_rng(0).integers(1, WORDS, (3, 6)), PAD)
KEY = {"dropout": jax.random.key(3)}
TOKENIZER = Tokenizer.train(["a b c d e f g h i j"], WORDS, True, True)


def stack():
    return Stacked([RNN(LSTMCell(3)), RNN(GRUCell(UNITS))])


MODELS = {
    "projected": lambda: LanguageModel(WORDS, SIZE, RNN(GRUCell(UNITS))),
    "tied": lambda: LanguageModel(WORDS, UNITS, stack()),
    "untied": lambda: LanguageModel(WORDS, SIZE, stack(), tied=False),
}


def parameters(model, seed=0):
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 1), jnp.int32))["params"]
    return random_like(shapes, seed)


@cache
def built(name):
    model = MODELS[name]()
    return model, parameters(model)


@partial(compiled, static_argnames="deterministic")
def outputs_of(model, params, ids=IDS, lengths=LENGTHS, initial_carry=None, rngs=None, deterministic=True):
    return model.apply({"params": params}, ids, lengths, initial_carry, deterministic, rngs=rngs)


def reader():
    """Returns a model whose outputs are tanh of what its encoder reads, and its parameters."""
    model = LanguageModel(WORDS, UNITS, RNN(SimpleCell(UNITS)), type_dropout=0.5)
    params = parameters(model)
    zeros = np.zeros(UNITS, np.float32)
    params["encoder"]["cell"] = {
        "i": {"kernel": np.eye(UNITS, dtype=np.float32), "bias": zeros},
        "h": {"kernel": np.zeros((UNITS, UNITS), np.float32)},
    }
    return model, params


@pytest.mark.slow
def test_outputs_and_logits_are_those_of_numpy():
    model, params = built("projected")
    _, outputs = outputs_of(model, params)
    x = params["embedding"]["embedding"][IDS]
    cell = params["encoder"]["cell"]
    _, expected = oracle.over_time(oracle.gru, cell, x, LENGTHS, [np.zeros((3, UNITS))])
    np.testing.assert_allclose(outputs, expected, atol=1e-5)
    logits = model.apply({"params": params}, outputs, method="logits")
    expected = expected @ params["projection"] @ params["embedding"]["embedding"].T + params["softmax_bias"]
    np.testing.assert_allclose(logits, expected, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "table"), [("tied", ("embedding", "embedding")), ("untied", ("softmax_table",))]
)
def test_without_a_projection_outputs_score_words_as_they_are(name, table):
    model, params = built(name)
    _, outputs = outputs_of(model, params)
    logits = model.apply({"params": params}, outputs, method="logits")
    table_VH = params[table[0]][table[1]] if len(table) > 1 else params[table[0]]
    expected = np.asarray(outputs) @ np.asarray(table_VH).T + np.asarray(params["softmax_bias"])
    np.testing.assert_allclose(logits, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "own"), [("tied", set()), ("projected", {"projection"}), ("untied", {"softmax_table"})]
)
def test_a_model_has_the_parameters_that_it_uses_and_no_others(name, own):
    assert set(built(name)[1]) == {"embedding", "encoder", "softmax_bias"} | own


def test_the_embedding_and_the_encoder_are_those_of_a_classifier():
    classifier = parameters(TextClassifier(WORDS, UNITS, 2, stack()))
    _, params = built("tied")
    for part in ("embedding", "encoder"):
        assert jax.tree.map(jnp.shape, params[part]) == jax.tree.map(jnp.shape, classifier[part])


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_reading_in_two_parts_is_reading_at_once(name):
    model, params = built(name)
    carry, outputs = outputs_of(model, params)
    begun, first = outputs_of(model, params, IDS[:, :4], np.minimum(LENGTHS, 4))
    ended, second = outputs_of(
        model, params, IDS[:, 4:], np.maximum(LENGTHS - 4, 0), initial_carry=begun, deterministic=True
    )
    assert_trees_close((ended, np.concatenate([first, second], axis=1)), (carry, outputs))


@pytest.mark.parametrize("name", MODELS)
def test_the_initial_carry_is_that_of_a_row_of_no_words(name):
    model, params = built(name)
    carry, _ = outputs_of(model, params, lengths=np.zeros(3, np.int32))
    initial = model.initial_carry(3)
    assert jax.tree.structure(carry) == jax.tree.structure(initial)
    assert_trees_close(initial, carry, rtol=0, atol=0)


def test_an_output_depends_on_no_later_word():
    model, params = built("tied")
    changed = IDS.copy()
    changed[:, 3:] = 7
    full = np.full(3, 6)
    before, after = (outputs_of(model, params, ids, full)[1] for ids in (IDS, changed))
    np.testing.assert_array_equal(before[:, :3], after[:, :3])
    assert not np.allclose(before[:, 3:], after[:, 3:])


def test_type_dropout_leaves_out_the_same_words_of_the_vocabulary_in_all_rows_and_steps():
    model, params = reader()
    ids = np.tile(np.arange(WORDS), (4, 2))
    _, outputs = outputs_of(model, params, ids, None, deterministic=False, rngs=KEY)
    factors = np.arctanh(np.asarray(outputs, np.float64)) / params["embedding"]["embedding"][ids]
    words = factors.reshape(8, WORDS, UNITS)
    np.testing.assert_allclose(words, np.broadcast_to(words[:1, :, :1], words.shape), atol=1e-2)
    assert {round(float(factor), 1) + 0.0 for factor in words[0, :, 0]} == {0.0, 2.0}
    _, other = outputs_of(model, params, ids, None, deterministic=False, rngs={"dropout": jax.random.key(4)})
    assert not np.allclose(other, outputs)


@pytest.mark.slow
def test_output_dropout_has_one_mask_a_row():
    model = LanguageModel(WORDS, UNITS, RNN(SimpleCell(UNITS)), output_dropout=0.5)
    params, outputs = parameters(model), jnp.ones((3, 5, UNITS))
    dropped = model.apply({"params": params}, outputs, False, method="drop", rngs=KEY)
    np.testing.assert_array_equal(dropped, np.broadcast_to(dropped[:, :1], dropped.shape))
    assert set(np.unique(dropped)) == {0.0, 2.0}
    np.testing.assert_array_equal(model.apply({"params": params}, outputs, method="drop"), outputs)


@pytest.mark.slow
def test_without_training_nothing_is_dropped_and_no_key_is_needed():
    rates = {"type_dropout": 0.5, "embedding_dropout": 0.5, "output_dropout": 0.5}
    plain, params = built("projected")
    dropping = LanguageModel(WORDS, SIZE, RNN(GRUCell(UNITS)), **rates)
    assert_trees_close(outputs_of(dropping, params), outputs_of(plain, params), rtol=0, atol=0)
    for rate in rates:
        model = LanguageModel(WORDS, SIZE, RNN(GRUCell(UNITS)), **{rate: 0.5})
        train = {"deterministic": False, "rngs": KEY}
        acts = not np.allclose(outputs_of(model, params, **train)[1], outputs_of(plain, params)[1])
        assert acts == (rate != "output_dropout")


@pytest.mark.slow
def test_bfloat16_gives_float32_logits_near_those_of_float32_and_gradients_in_float32():
    exact, params = built("projected")
    half = LanguageModel(WORDS, SIZE, RNN(GRUCell(UNITS, dtype=jnp.bfloat16)), dtype=jnp.bfloat16)

    @compiled
    def logits(model, params):
        return model.apply({"params": params}, outputs_of(model, params)[1], method="logits")

    assert outputs_of(half, params)[1].dtype == jnp.bfloat16
    assert logits(half, params).dtype == jnp.float32
    np.testing.assert_allclose(logits(half, params), logits(exact, params), atol=0.05)
    gradients = jax.jit(jax.grad(lambda params: (logits(half, params) ** 2).sum()))(params)
    assert {leaf.dtype for leaf in jax.tree.leaves(gradients)} == {jnp.dtype("float32")}


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        (Bidirectional(RNN(GRUCell(2)), RNN(GRUCell(2))), "encoder has a Bidirectional.*see the word"),
        (Stacked([RNN(GRUCell(2)), Bidirectional(RNN(GRUCell(2)), RNN(GRUCell(2)))]), "a Bidirectional"),
        (Stacked([RNN(GRUCell(2)), RNN(GRUCell(2), reverse=True)]), "reverse=True.*reverse the documents"),
        (nn.RNN(nn.GRUCell(2)), "give an RNN or a Stacked of RNNs"),
        (Stacked(RNN(GRUCell(2))), "layers is a RNN; give a list"),
    ],
)
def test_layers_that_see_the_word_they_predict_are_refused(encoder, message):
    with pytest.raises(InputError, match=message):
        parameters(LanguageModel(WORDS, SIZE, encoder))


@pytest.mark.parametrize("rate", ["type_dropout", "embedding_dropout", "output_dropout"])
def test_rates_that_cannot_be_are_refused(rate):
    with pytest.raises(InputError, match=f"{rate} is 1.0"):
        parameters(LanguageModel(WORDS, SIZE, RNN(GRUCell(2)), **{rate: 1.0}))


def sampled(name="projected", params=None, prompt="c a", words=8, temperature=1.0, top_k=0, seed=0):
    model, own = built(name)
    return sample(
        model.apply,
        own if params is None else params,
        TOKENIZER,
        prompt,
        words,
        temperature=temperature,
        top_k=top_k,
        key=jax.random.key(seed),
    )


@compiled
def last_logits(model, params, row, length):
    _, outputs = outputs_of(model, params, row, jnp.array([length]))
    return model.apply({"params": params}, outputs[0, length - 1], method="logits")


def logits_after(name, words):
    """Returns the logits of the word after these, the whole text read at once."""
    (ids,) = TOKENIZER.encode([words])
    row = np.pad(ids, (0, 8 - len(ids)), constant_values=PAD)[None]  # of one length, to compile once
    logits = np.array(last_logits(built(name)[0], built(name)[1], row, len(ids)))
    logits[PAD] = -np.inf
    return logits


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("options", [{"top_k": 1}, {"temperature": 1e-4}], ids=str)
def test_the_likeliest_words_are_those_of_a_model_that_reads_the_whole_text(name, options):
    text = "c a"
    for _ in range(5):
        text += " " + TOKENIZER.words[logits_after(name, text).argmax()]
    assert "[UNK]" not in text  # which would be read as other words
    assert sampled(name, words=5, **options) == text


@pytest.mark.slow
def test_words_are_drawn_with_the_probabilities_of_the_model():
    draws, temperature = 300, 2.0
    found = [sampled(words=1, temperature=temperature, seed=seed).split()[-1] for seed in range(draws)]
    shares = np.exp(logits_after("projected", "c a") / temperature)
    shares /= shares.sum()
    observed = np.array([found.count(word) / draws for word in TOKENIZER.words])
    assert (np.abs(observed - shares) < 4 * np.sqrt(shares / draws) + 1e-9).all()


@pytest.mark.slow
def test_only_the_top_k_words_are_drawn():
    best = np.argsort(-logits_after("projected", "c a"))[:3]
    found = {sampled(words=1, temperature=50.0, top_k=3, seed=seed).split()[-1] for seed in range(40)}
    assert found == {TOKENIZER.words[index] for index in best}


@pytest.mark.slow
def test_padding_is_never_drawn():
    _, params = built("projected")
    likely = params | {"softmax_bias": 50.0 * (np.arange(WORDS, dtype=np.float32) == PAD)}
    assert "[PAD]" not in sampled(params=likely, words=20)
    assert "[PAD]" not in sampled(params=likely, words=20, top_k=WORDS - 1, temperature=9.0)


def test_a_text_depends_on_its_key():
    assert sampled(seed=1, words=12) == sampled(seed=1, words=12) != sampled(seed=2, words=12)
    assert len(sampled(words=12).split()) == 14


def test_each_word_of_a_text_is_drawn_for_itself():
    even = jax.tree.map(np.zeros_like, built("projected")[1])
    assert len(set(sampled(params=even, words=20).split()[2:])) > 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompt": "  "}, "prompt is '  ', which has no words"),
        ({"words": 0}, "words is 0"),
        ({"temperature": 0.0}, "temperature is 0.0; it must be positive"),
        ({"top_k": WORDS}, f"top_k is {WORDS}; give 0 for all, or at most {WORDS - 1}"),
        ({"top_k": -1}, "top_k is -1"),
    ],
)
def test_texts_that_cannot_be_drawn_are_refused(change, message):
    with pytest.raises(InputError, match=message):
        sampled(**change)
