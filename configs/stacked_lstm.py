"""Three LSTM layers: the tutorial's stacked network (344,993 parameters). Settings: rnn_jax/settings.py.

Command:  python train_loop.py --config configs/stacked_lstm.py
Cost:     about 1.8 minutes on 2 cores
Result:   89.2 % test accuracy, mean of 3 seeds (docs/results.md)
"""

from ml_collections import ConfigDict

from rnn_jax.settings import classifier_settings


def get_config() -> ConfigDict:
    config = classifier_settings()
    config.model.layers = 3
    return config
