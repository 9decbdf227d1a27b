"""What soft labels teach, and the settings that they are refused with."""

import pytest

import rnn_jax
from rnn_jax.config import changed
from rnn_jax.errors import InputError
from rnn_jax.settings import CLASSIFIER, recipe_settings
from rnn_jax.training.loop import check_config

LABELLED = [f"a {word} film, number {n}" for n in range(20) for word in ("fine", "dull")]
NEW = [f"this was {word}, say {n} of us" for n in range(20) for word in ("gripping", "tedious")]
SETTINGS = {
    "model.hidden": 8,
    "model.embedding_dim": 8,
    "train.epochs": 20,
    "optimizer.learning_rate": 0.01,
    "model.dropout": 0.0,
    "model.embedding_dropout": 0.0,
    "batch.size": 8,
    "batch.buckets": 1,
    "text.max_length": 8,
}


@pytest.mark.slow
def test_a_network_learns_from_soft_labels_what_its_labelled_texts_do_not_say(tmp_path):
    probabilities = [{"fine": 0.9, "dull": 0.1} if "gripping" in text else {"dull": 1.0} for text in NEW]
    labels = ["fine" if "fine" in text else "dull" for text in LABELLED]
    settings = {**SETTINGS, "data.soft_labels": (NEW, probabilities)}
    model = rnn_jax.fit(LABELLED, labels, workdir=tmp_path / "w", progress=False, **settings)
    asked = ["this was gripping, say many", "this was tedious, say many", "a fine film", "a dull film"]
    said = model.predict(asked)
    assert said.labels == ["fine", "dull", "fine", "dull"]
    assert 0.75 < said.probabilities[0, 1] < 0.98, "the target is 0.9"
    again = rnn_jax.fit(LABELLED, labels, workdir=tmp_path / "w", progress=False, **settings)
    assert again.predict_proba(asked).tolist() == said.probabilities.tolist(), "a finished run is found again"


@pytest.mark.parametrize(
    "settings", [{"data.target": "number"}, {"data.target": "labels"}, {"data.pair_column": "other"}]
)
def test_soft_labels_are_refused_where_they_mean_nothing(settings):
    config = changed(recipe_settings("smoke"), {"data.soft_labels": "soft.csv", **settings}, CLASSIFIER)
    with pytest.raises(InputError, match=r"data\.soft_labels is set.*set it to ''"):
        check_config(config)
