"""IMDB, official split: a language model on the frozen vectors of imdb_t0, which imdb_t4 reads.

Command:  python train_loop.py --config configs/imdb_lm.py --workdir runs/imdb_lm_forward
          python train_loop.py --config configs/imdb_lm.py --workdir runs/imdb_lm_backward \
              --config.direction=backward
Before:   python train_loop.py --config configs/imdb_t0.py --workdir runs/imdb_t0
Cost:     17 minutes on two cores
Result:   perplexity 113 forward, 115 backward. Settings: rnn_jax/settings.py
"""

from ml_collections import ConfigDict

from rnn_jax.settings import language_model_settings


def get_config() -> ConfigDict:
    config = language_model_settings()
    config.embedding.from_workdir = "runs/imdb_t0"
    config.train.freeze = ("embedding",)
    config.model.embedding_dim = 192
    config.model.tied = False
    config.model.type_dropout = 0.0
    config.model.dtype = "bfloat16"
    config.batch.lanes = 128
    config.train.evaluate_every = 1.0
    return config
