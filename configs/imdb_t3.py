"""IMDB, official split: frozen word2vec of its 75,000 texts that are not test. Settings: rnn_jax/settings.py.

Command:  python train_loop.py --config configs/imdb_t3.py [--config.data.source=FOLDER \
              --config.text.vocabulary_source=FOLDER]
Cost, result: docs/imdb.md
"""

from ml_collections import ConfigDict

from rnn_jax.settings import recipe


def get_config() -> ConfigDict:
    config = recipe("imdb_t1")
    config.text.vocabulary_source = "stanfordnlp/imdb"
    config.text.max_length = 800  # 400 cut 18 in 100 reviews, and cost 0.3 points
    config.batch.buckets = 8
    config.model.embedding_dim = 256
    config.model.hidden = 256
    config.model.dropout = 0.4
    config.embedding.epochs = 8
    config.train.adversarial = 5.0
    config.train.epochs = 6
    return config
