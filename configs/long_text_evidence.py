"""IMDB, official split, as bytes: configs/long_text.py with evidence of n-grams of bytes beside each byte.

Command:  python train_loop.py --config configs/long_text_evidence.py [--config.data.source=FOLDER]
          [--config.model.cell=lru]
Cost, result: docs/long_text.md. Settings: rnn_jax/settings.py
"""

from ml_collections import ConfigDict

from rnn_jax.settings import recipe


def get_config() -> ConfigDict:
    config = recipe("long_text")
    config.embedding.evidence.orders = (3, 5, 7)
    config.embedding.evidence.min_count = 5
    config.train.epochs = 2
    return config
