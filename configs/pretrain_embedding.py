"""Pretraining, first step: a network whose embedding is to be kept. Settings: rnn_jax/settings.py.

Command:  python train_loop.py --config configs/pretrain_embedding.py --workdir runs/pretrain_embedding
          with --config.data.source=... for the larger set of labelled texts that you have
Then:     python train_loop.py --config configs/transfer_bilstm.py
"""

from ml_collections import ConfigDict

from rnn_jax.settings import classifier_settings


def get_config() -> ConfigDict:
    config = classifier_settings()
    config.text.vocab_size = 20_000
    config.model.cell = "gru"
    config.model.pooling = "concat"
    config.model.word_dropout = 0.2
    config.train.epochs = 3
    return config
