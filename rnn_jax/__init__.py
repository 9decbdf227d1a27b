"""rnn_jax: recurrent networks for text in JAX.

Array names end in their dimensions: B batch, T time, E embedding, H hidden units, F features, G gates,
V vocabulary, C classes, L layers. `gates_BG = x_BE @ w_EG` reads as a sentence.
"""

import importlib
from typing import TYPE_CHECKING

from rnn_jax.inference import (
    Ensemble,
    Prediction,
    Predictor,
    Tagger,
    Writer,
    export_classifier,
    export_tagger,
    load,
    load_language_model,
)
from rnn_jax.layers import (
    RNN,
    Bidirectional,
    GRUCell,
    LRUCell,
    LSTMCarry,
    LSTMCell,
    MinGRUCell,
    MinLSTMCell,
    Pooling,
    RGLRUCell,
    SimpleCell,
    SLSTMCell,
    SRUCell,
    Stacked,
)
from rnn_jax.models import LanguageModel, TextClassifier
from rnn_jax.settings import recipe

if TYPE_CHECKING:
    from rnn_jax.fitting import fit
    from rnn_jax.training import train_and_evaluate

__all__ = [
    "RNN",
    "Bidirectional",
    "Ensemble",
    "GRUCell",
    "LRUCell",
    "LSTMCarry",
    "LSTMCell",
    "LanguageModel",
    "MinGRUCell",
    "MinLSTMCell",
    "Pooling",
    "Prediction",
    "Predictor",
    "RGLRUCell",
    "SLSTMCell",
    "SRUCell",
    "SimpleCell",
    "Stacked",
    "Tagger",
    "TextClassifier",
    "Writer",
    "export_classifier",
    "export_tagger",
    "fit",
    "load",
    "load_language_model",
    "recipe",
    "train_and_evaluate",
]


def __getattr__(name: str) -> object:
    """Imports the training code when it is asked for: who loads a trained model does not need it."""
    if name == "fit":
        from rnn_jax.fitting import fit

        return fit
    if name == "train_and_evaluate":
        from rnn_jax.training import train_and_evaluate

        return train_and_evaluate
    if name == "sklearn":
        return importlib.import_module("rnn_jax.sklearn")
    raise AttributeError(f"module 'rnn_jax' has no attribute {name!r}")
