"""IMDB, official split: frozen GloVe vectors of 50 numbers. Settings: configs/lstm.py.

Command:  python train_loop.py --config configs/imdb_t2.py [--config.data.source=FOLDER]
"""

from ml_collections import ConfigDict

from configs import imdb_t3


def get_config() -> ConfigDict:
    config = imdb_t3.get_config()
    config.text.vocabulary_source = ""
    config.model.embedding_dim = 50
    config.embedding.vectors = "glove-6b-50d"
    config.train.adversarial = 2.0
    return config
