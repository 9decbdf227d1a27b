"""IMDB, official split: from the 25,000 labelled reviews alone, word2vec included. Settings: configs/lstm.py.

Command:  python train_loop.py --config configs/imdb_t1.py [--config.data.source=FOLDER]
Cost, result: docs/imdb.md
"""

from ml_collections import ConfigDict

from configs import imdb_t3


def get_config() -> ConfigDict:
    config = imdb_t3.get_config()
    config.model.embedding_dim = 128
    config.model.hidden = 128
    config.model.dtype = "float32"
    config.text.vocabulary_source = ""
    config.embedding.epochs = 15
    return config
