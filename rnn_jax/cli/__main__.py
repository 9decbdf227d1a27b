"""`python -m rnn_jax.cli`, where the command `rnn-jax` is not on the path."""

from rnn_jax.cli.main import main

main()
