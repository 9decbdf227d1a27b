"""rnn_jax: recurrent networks for text in JAX.

Array names end in their dimensions: B batch, T time, E embedding, H hidden units, F features, G gates,
V vocabulary, C classes, L layers. `gates_BG = x_BE @ w_EG` reads as a sentence.
"""

from rnn_jax.inference import Prediction, Predictor, Writer, export_classifier, load, load_language_model
from rnn_jax.layers import RNN, Bidirectional, GRUCell, LSTMCarry, LSTMCell, Pooling, SimpleCell, Stacked
from rnn_jax.models import LanguageModel, TextClassifier

__all__ = [
    "RNN",
    "Bidirectional",
    "GRUCell",
    "LSTMCarry",
    "LSTMCell",
    "LanguageModel",
    "Pooling",
    "Prediction",
    "Predictor",
    "SimpleCell",
    "Stacked",
    "TextClassifier",
    "Writer",
    "export_classifier",
    "load",
    "load_language_model",
]
