"""rnn_jax: recurrent networks for text in JAX.

Array names end in their dimensions: B batch, T time, E embedding, H hidden units, F features, G gates,
V vocabulary, C classes, L layers. `gates_BG = x_BE @ w_EG` reads as a sentence.
"""

from rnn_jax.cells import GRUCell, LSTMCell, SimpleCell
from rnn_jax.export import export_classifier
from rnn_jax.generation import Writer, load_language_model
from rnn_jax.inference import Prediction, Predictor, load
from rnn_jax.language import LanguageModel
from rnn_jax.layers import Bidirectional, Stacked
from rnn_jax.models import TextClassifier
from rnn_jax.pooling import Pooling
from rnn_jax.recurrence import LSTMCarry
from rnn_jax.rnn import RNN

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
