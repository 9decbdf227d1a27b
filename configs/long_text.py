"""IMDB, official split, as the "Text" task of the Long Range Arena: reviews as bytes, up to 4,096 of them.

Command:  python train_loop.py --config configs/long_text.py [--config.data.source=FOLDER]
          [--config.model.cell=lru]
Cost, result: docs/long_text.md
"""

from ml_collections import ConfigDict

from rnn_jax.settings import classifier_settings


def get_config() -> ConfigDict:
    config = classifier_settings()
    config.data.source = "stanfordnlp/imdb"
    config.text.tokenizer = "bytes"
    config.text.lowercase = False  # the task reads the bytes as they are
    config.text.strip_html = False
    config.text.max_length = 4096
    config.text.truncate = "head_tail"
    config.batch = ConfigDict({"size": 16, "buckets": 6})
    config.model.embedding_dim = 64
    config.model.cell = "min_gru"
    config.model.hidden = 128
    config.model.layers = 4
    config.model.bidirectional = True
    config.model.residual = True
    config.model.stride = 2
    config.model.pooling = "concat"
    config.model.embedding_dropout = 0.1
    config.model.layer_dropout = 0.1
    config.model.dropout = 0.3
    config.optimizer.name = "adamw"
    config.optimizer.learning_rate = 0.002
    config.optimizer.weight_decay = 0.05
    config.train.epochs = 20
    return config
