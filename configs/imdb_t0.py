"""IMDB, official split: what 10 minutes allow, from raw text to tested model. Settings: configs/lstm.py.

Command:  python train_loop.py --config configs/imdb_t0.py [--config.data.source=FOLDER]
Cost, result: docs/imdb.md
"""

from ml_collections import ConfigDict

from configs import imdb_t3


def get_config() -> ConfigDict:
    config = imdb_t3.get_config()
    config.model.hidden = 128
    config.model.dropout = 0.4
    config.embedding.epochs = 6
    config.train.adversarial = 0.0
    config.train.epochs = 6
    return config
