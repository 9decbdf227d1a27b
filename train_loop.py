"""Trains and evaluates a classifier, a tagger or a language model: `rnn-jax train` by this file's name.

python train_loop.py --config configs/bilstm.py [--workdir W] [--config.model.hidden=64]
                     [--coordinator HOST:PORT --processes N --process I]  # on each of several hosts
"""

import sys

from rnn_jax.cli import main
from rnn_jax.training import train_and_evaluate

__all__ = ["main", "train_and_evaluate"]

if __name__ == "__main__":
    main(["train", *sys.argv[1:]])
