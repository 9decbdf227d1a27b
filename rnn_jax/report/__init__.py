"""A run as one page to look at: report.html, which needs no network."""

from rnn_jax.report.page import write_html

__all__ = ["write_html"]
