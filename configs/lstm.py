"""One LSTM layer on movie reviews: the plain network (328,353 parameters). All settings: rnn_jax/settings.py.

Command:  python train_loop.py --config configs/lstm.py
Cost:     about 1 minute on 2 cores
Result:   88.8 % test accuracy, mean of 3 seeds (docs/results.md)
"""

from ml_collections import ConfigDict

from rnn_jax.settings import classifier_settings


def get_config() -> ConfigDict:
    return classifier_settings()
