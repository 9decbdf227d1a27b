"""Parts of speech: a bidirectional LSTM over words and their letters. Settings: rnn_jax/settings.py.

Command:  python train_loop.py --config configs/tagger.py --config.data.source=FOLDER
"""

from ml_collections import ConfigDict

from rnn_jax.settings import tagger_settings


def get_config() -> ConfigDict:
    config = tagger_settings()
    config.embedding.vectors = "glove-6b-50d"
    config.model.embedding_dim = 50
    config.text.vector_words = 50_000
    return config
