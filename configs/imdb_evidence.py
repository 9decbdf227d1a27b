"""IMDB: evidence of n-grams beside frozen word2vec, without an adversary. Settings: rnn_jax/settings.py.

Command:  python train_loop.py --config configs/imdb_evidence.py [--config.data.source=FOLDER \
              --config.text.vocabulary_source=FOLDER]
Cost:     2 minutes of one core for 15,000 reviews, once word2vec is trained and cached
Result:   docs/evidence.md (measured on a split of train; the test split was not read)
"""

from ml_collections import ConfigDict

from rnn_jax.settings import recipe


def get_config() -> ConfigDict:
    config = recipe("imdb_t1")
    config.text.vocabulary_source = "stanfordnlp/imdb"
    config.text.max_length = 256
    config.model.hidden = 48
    config.model.embedding_dropout = 0.1
    config.model.dropout = 0.2
    config.model.dtype = "bfloat16"
    config.embedding.epochs = 8
    config.embedding.evidence.orders = (1, 2, 3)
    config.optimizer.schedule = "slanted_triangular"
    config.train.adversarial = 0.0
    return config
