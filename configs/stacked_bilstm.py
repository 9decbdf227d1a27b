"""Three bidirectional LSTM layers. Settings: configs/lstm.py.

Command:  python train_loop.py --config configs/stacked_bilstm.py
Cost:     not measured to the end
Result:   not measured
"""

from ml_collections import ConfigDict

from configs import lstm


def get_config() -> ConfigDict:
    config = lstm.get_config()
    config.model.layers = 3
    config.model.bidirectional = True
    return config
