"""Pretraining, second step: a new network on an earlier run's embedding, frozen. Settings: configs/lstm.py.

Command:  python train_loop.py --config configs/transfer_bilstm.py
Before:   python train_loop.py --config configs/pretrain_embedding.py --workdir runs/pretrain_embedding
"""

from ml_collections import ConfigDict

from configs import bilstm


def get_config() -> ConfigDict:
    config = bilstm.get_config()
    config.embedding.from_workdir = "runs/pretrain_embedding"
    config.embedding.take = ("embedding",)
    config.train.freeze = ("embedding",)
    return config
