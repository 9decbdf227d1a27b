"""A language model on unlabelled text. All settings: rnn_jax/settings.py.

It serves `embedding.from_workdir` and `rnn-jax sample`.

Command:  python train_loop.py --config configs/language_model.py --workdir runs/lm_forward
          [--config.data.source=FOLDER]
Then:     configs/lm_backward.py and configs/lm_bilstm.py, or
          rnn-jax sample --workdir runs/lm_forward --prompt "this film"
Cost:     about 13,000 words a second on one core: an hour
Result:   perplexity 124; with 512 units, 8 epochs, on a GPU: 79.9 (docs/imdb.md)

All splits of the source are read but those named validation and test. Where a source has no such split, and a
classifier cuts its test texts from it, they have been read here: compare on a source with a test split.
"""

from ml_collections import ConfigDict

from rnn_jax.settings import language_model_settings


def get_config() -> ConfigDict:
    return language_model_settings()
