"""The command `rnn-jax`: train; use, report, serve, share and export what was trained; train word vectors."""

from rnn_jax.cli.main import COMMANDS, main, parser

__all__ = ["COMMANDS", "main", "parser"]
