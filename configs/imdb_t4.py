"""IMDB, official split: a network like T3's, which T0 and T3 teach on the 50,000 unlabelled reviews too.

Command:  python train_loop.py --config configs/imdb_t4.py [--config.data.source=FOLDER]
Before:   python train_loop.py --config configs/imdb_t0.py --workdir runs/imdb_t0
          python train_loop.py --config configs/imdb_t3.py --workdir runs/imdb_t3
          rnn-jax predict --workdir runs/imdb_t0 --workdir runs/imdb_t3 --probabilities \
              --input FOLDER/unsupervised.parquet --out runs/imdb_soft.parquet
Cost, result: docs/imdb.md. Settings: rnn_jax/settings.py
"""

from ml_collections import ConfigDict

from rnn_jax.settings import recipe


def get_config() -> ConfigDict:
    config = recipe("imdb_t3")
    config.data.soft_labels = "runs/imdb_soft.parquet"
    config.train.epochs = 3
    return config
