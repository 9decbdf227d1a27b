"""Contextual vectors: the states of two language models, from their transfer to predictions."""

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

import rnn_jax
import train_loop
from rnn_jax.checkpoints.restore import best_params
from tests.helpers.jobs import tiny_config, write_reviews
from tests.helpers.runs import make_language_run

TEXTS = ["a fine film", "dull", "", "the plot was awful " * 15]


@pytest.mark.slow
def test_two_language_models_read_below_a_classifier_and_keep_their_bits(tmp_path):
    names = {"forward_rnn": tmp_path / "forward", "backward_rnn": tmp_path / "backward"}
    models = {
        scope: make_language_run(folder, direction=folder.name, cell="lstm")[2]  # the best
        for scope, folder in names.items()
    }
    config = tiny_config(write_reviews(tmp_path / "reviews.jsonl", 120), model__embedding_dim=5)
    config.model.contextual.hidden = 4
    config.embedding.from_workdir = str(names["forward_rnn"])
    moves = [("encoder", f"contextual/{scope}", str(folder)) for scope, folder in names.items()]
    config.embedding.take = ("embedding", *moves)
    config.train.freeze = ("embedding", "contextual")
    config.train.adversarial = 1.0
    train_loop.train_and_evaluate(config, tmp_path / "run")
    trained = best_params(tmp_path / "run")
    for scope, model in models.items():
        jax.tree.map(np.testing.assert_array_equal, trained["contextual"][scope], model["encoder"])
    kernels = {path: leaf.shape for path, leaf in flatten_dict(trained["encoder"], sep="/").items()}
    assert (5 + 2 * 4, 8) in kernels.values()
    predictor = rnn_jax.load(tmp_path / "run")
    said = predictor.predict(TEXTS).probabilities
    alone = [predictor.predict([text]).probabilities[0] for text in TEXTS]
    np.testing.assert_allclose(alone, said, atol=1e-6)
    found = predictor.attribute(TEXTS[0])
    np.testing.assert_allclose(found.scores.sum(), found.value - found.baseline, atol=1e-3)
    without = jax.tree.map(np.asarray, trained)
    without["contextual"] = jax.tree.map(np.zeros_like, without["contextual"])
    predictor.params = without
    assert np.abs(predictor.predict(TEXTS).probabilities - said).max() > 1e-6
