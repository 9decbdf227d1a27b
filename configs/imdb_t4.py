"""IMDB, official split: two language models below the network, and soft labels of 50,000 more reviews.

Command:  python train_loop.py --config configs/imdb_t4.py 
Before:   python train_loop.py --config configs/imdb_t0.py --workdir runs/imdb_t0
          python train_loop.py --config configs/imdb_lm.py --workdir runs/imdb_lm_forward
          python train_loop.py --config configs/imdb_lm.py --workdir runs/imdb_lm_backward \
              --config.direction=backward
          python train_loop.py --config configs/imdb_t4.py --workdir runs/imdb_teacher \
              --config.data.soft_labels=""
          rnn-jax predict --workdir runs/imdb_teacher --probabilities \
              --input unlabelled.parquet --out runs/imdb_soft.parquet
Cost, result, and where unlabelled.parquet comes from: docs/imdb.md. Settings: rnn_jax/settings.py
"""

from ml_collections import ConfigDict

from rnn_jax.settings import recipe


def get_config() -> ConfigDict:
    config = recipe("imdb_t0")
    config.text.max_length = 800
    config.batch.buckets = 8
    config.model.contextual.hidden = 256
    config.embedding.vectors = ""
    config.embedding.from_workdir = "runs/imdb_t0"
    config.embedding.take = (
        "embedding",
        ("encoder", "contextual/forward_rnn", "runs/imdb_lm_forward"),
        ("encoder", "contextual/backward_rnn", "runs/imdb_lm_backward"),
    )
    config.train.freeze = ("embedding", "contextual")
    config.data.soft_labels = "runs/imdb_soft.parquet"
    config.train.epochs = 3
    return config
