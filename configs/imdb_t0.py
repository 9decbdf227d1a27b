"""IMDB, official split: what 10 minutes allow, from raw text to tested model. Settings: rnn_jax/settings.py.

Command:  python train_loop.py --config configs/imdb_t0.py [--config.data.source=FOLDER \
              --config.text.vocabulary_source=FOLDER]
Cost, result: docs/imdb.md
"""

from ml_collections import ConfigDict

from rnn_jax.settings import recipe


def get_config() -> ConfigDict:
    config = recipe("imdb_t3")
    config.text.max_length = 400
    config.batch.buckets = 6
    config.model.embedding_dim = 192
    config.model.hidden = 96
    config.model.embedding_dropout = 0.1
    config.model.dropout = 0.2
    config.embedding.epochs = 6
    config.train.adversarial = 3.5
    config.train.epochs = 4
    return config
