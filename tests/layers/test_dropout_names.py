"""What dropout draws depends on its scope: a run made before the classifier had parts goes on as it was."""

import flax.linen as nn
import jax
import numpy as np
import pytest

from rnn_jax import RNN, GRUCell, Pooling, TextClassifier
from rnn_jax.layers.dropout import Dropout


class CompactClassifier(nn.Module):
    """The classifier as it was, in one compact method, with every dropout on."""

    encoder: nn.Module

    @nn.compact
    def __call__(self, token_ids, lengths):
        x = nn.Embed(9, 5, name="embedding")(token_ids)
        x = Dropout(0.3, whole_steps=True, name="words")(x, False)
        x = Dropout(0.4)(x, False)
        carry, outputs = self.encoder(x, lengths, deterministic=False)
        pooled = Pooling("attention", name="pooling")(self.encoder.final_hidden(carry), outputs, lengths)
        return nn.Dense(3, name="head")(Dropout(0.5)(pooled, False))


@pytest.mark.slow
def test_dropout_draws_as_it_did_before_the_classifier_had_parts():
    rates = {"word_dropout": 0.3, "embedding_dropout": 0.4, "dropout": 0.5}
    model = TextClassifier(9, 5, 3, RNN(GRUCell(4), recurrent_dropout=0.3), "attention", **rates)
    before = CompactClassifier(RNN(GRUCell(4), recurrent_dropout=0.3))
    token_ids, lengths = np.random.default_rng(0).integers(1, 9, (4, 6)), np.array([6, 3, 0, 5])
    variables = jax.jit(model.init)(jax.random.key(0), token_ids, lengths)
    options = {"rngs": {"dropout": jax.random.key(1)}}

    @jax.jit
    def outputs(variables):
        found = model.apply(variables, token_ids, lengths, deterministic=False, **options)
        plain = model.apply(variables, token_ids, lengths)
        return found, before.apply(variables, token_ids, lengths, **options), plain

    found, as_before, plain = outputs(variables)
    np.testing.assert_array_equal(found, as_before)
    assert np.abs(found - plain).max() > 1e-3
