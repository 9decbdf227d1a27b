"""The command `rnn-jax`: train; predict, evaluate, export and write with trained runs; train word vectors."""

from rnn_jax.cli.main import COMMANDS, main, parser

__all__ = ["COMMANDS", "main", "parser"]
