"""IMDB, official split: frozen GloVe vectors of 50 numbers. Settings: configs/lstm.py.

Command:  python train_loop.py --config configs/imdb_t2.py [--config.data.source=FOLDER]
Cost, result: docs/imdb.md

In a trial with the adversary and the dropout of imdb_t3.py these vectors learned too little.
"""

from ml_collections import ConfigDict

from configs import imdb_t3


def get_config() -> ConfigDict:
    config = imdb_t3.get_config()
    config.text.vocabulary_source = ""
    config.model.embedding_dim = 50
    config.model.hidden = 128
    config.model.embedding_dropout = 0.1
    config.model.dropout = 0.3
    config.embedding.vectors = "glove-6b-50d"
    config.train.adversarial = 0.0
    return config
