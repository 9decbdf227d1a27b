"""IMDB, official split: what 10 minutes allow, from raw text to tested model. Settings: configs/lstm.py.

Command:  python train_loop.py --config configs/imdb_t0.py [--config.data.source=FOLDER]
Cost, result: docs/imdb.md
"""

from ml_collections import ConfigDict

from configs import imdb_t3


def get_config() -> ConfigDict:
    config = imdb_t3.get_config()
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
