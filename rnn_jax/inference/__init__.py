"""Trained models in use: predict, explain, read word by word, write, export."""

from rnn_jax.inference.attribution import Attribution, attribute_words
from rnn_jax.inference.export import export_classifier
from rnn_jax.inference.loading import load
from rnn_jax.inference.predictor import Prediction, Predictor
from rnn_jax.inference.stream import Stream
from rnn_jax.inference.tagger import Tagger, TagPrediction, load_tagger
from rnn_jax.inference.writer import Writer, load_language_model, sample

__all__ = [
    "Attribution",
    "Prediction",
    "Predictor",
    "Stream",
    "TagPrediction",
    "Tagger",
    "Writer",
    "attribute_words",
    "export_classifier",
    "load",
    "load_language_model",
    "load_tagger",
    "sample",
]
