"""Pretraining, second step: a new network on a frozen embedding. Settings: rnn_jax/settings.py.

Command:  python train_loop.py --config configs/transfer_bilstm.py
Before:   python train_loop.py --config configs/pretrain_embedding.py --workdir runs/pretrain_embedding
"""

from ml_collections import ConfigDict

from rnn_jax.settings import recipe


def get_config() -> ConfigDict:
    config = recipe("bilstm")
    config.embedding.from_workdir = "runs/pretrain_embedding"
    config.embedding.take = ("embedding",)
    config.train.freeze = ("embedding",)
    return config
