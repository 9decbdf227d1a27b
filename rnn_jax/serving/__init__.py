"""A classifier behind HTTP: answers in JSON, and a page to try it. Needs the extra `serve`."""

from rnn_jax.serving.app import make_app
from rnn_jax.serving.limits import Limits
from rnn_jax.serving.server import serve_model

__all__ = ["Limits", "make_app", "serve_model"]
