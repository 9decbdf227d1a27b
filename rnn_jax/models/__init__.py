"""Networks over layers: a classifier, a tagger, a language model, and what each is trained for."""

from rnn_jax.models.classifier import TextClassifier, build_classifier
from rnn_jax.models.encoder import build_encoder
from rnn_jax.models.language_model import LanguageModel, build_language_model
from rnn_jax.models.losses import (
    LossFn,
    MeasureFn,
    Objective,
    batch_metrics,
    class_log_probabilities,
    make_classifier_loss,
    make_classifier_measure,
    make_language_loss,
    make_language_measure,
)
from rnn_jax.models.metrics import LanguageMetrics, Measured, Metrics
from rnn_jax.models.tagger import (
    TagMetrics,
    WordTagger,
    build_tagger,
    make_tagger_loss,
    make_tagger_measure,
)

__all__ = [
    "LanguageMetrics",
    "LanguageModel",
    "LossFn",
    "MeasureFn",
    "Measured",
    "Metrics",
    "Objective",
    "TagMetrics",
    "TextClassifier",
    "WordTagger",
    "batch_metrics",
    "build_classifier",
    "build_encoder",
    "build_language_model",
    "build_tagger",
    "class_log_probabilities",
    "make_classifier_loss",
    "make_classifier_measure",
    "make_language_loss",
    "make_language_measure",
    "make_tagger_loss",
    "make_tagger_measure",
]
