"""Trained models in use: predict, explain, read word by word, write, export, save and share."""

from rnn_jax.inference.attribution import Attribution, attribute_words
from rnn_jax.inference.ensemble import Ensemble
from rnn_jax.inference.export import export_classifier, export_tagger
from rnn_jax.inference.hub import push_model
from rnn_jax.inference.loading import load
from rnn_jax.inference.model_card import About
from rnn_jax.inference.predictor import Predictor
from rnn_jax.inference.stream import Stream
from rnn_jax.inference.tagger import Tagger, TagPrediction, load_tagger
from rnn_jax.inference.writer import Writer, load_language_model, sample, sample_all
from rnn_jax.models.heads import Prediction

__all__ = [
    "About",
    "Attribution",
    "Ensemble",
    "Prediction",
    "Predictor",
    "Stream",
    "TagPrediction",
    "Tagger",
    "Writer",
    "attribute_words",
    "export_classifier",
    "export_tagger",
    "load",
    "load_language_model",
    "load_tagger",
    "push_model",
    "sample",
    "sample_all",
]
