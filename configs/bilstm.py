"""A bidirectional LSTM: the tutorial's second network (336,705 parameters). Settings: rnn_jax/settings.py.

Command:  python train_loop.py --config configs/bilstm.py
Cost:     about a minute on 2 cores
Result:   89.3 % test accuracy, mean of 3 seeds (docs/results.md)
"""

from ml_collections import ConfigDict

from rnn_jax.settings import classifier_settings


def get_config() -> ConfigDict:
    config = classifier_settings()
    config.model.bidirectional = True
    return config
