"""The backward language model on the forward one's embedding, frozen. Settings: rnn_jax/settings.py.

One classifier reads both (configs/lm_bilstm.py), so both have to have the same embedding.

Command:  python train_loop.py --config configs/lm_backward.py --workdir runs/lm_backward
Before:   python train_loop.py --config configs/language_model.py --workdir runs/lm_forward
Cost:     about 17,000 words a second on one core: 48 minutes
Result:   perplexity 126 (docs/imdb.md)
"""

from ml_collections import ConfigDict

from rnn_jax.settings import language_model_settings


def get_config() -> ConfigDict:
    config = language_model_settings()
    config.direction = "backward"
    config.embedding.from_workdir = "runs/lm_forward"
    config.train.freeze = ("embedding",)
    return config
