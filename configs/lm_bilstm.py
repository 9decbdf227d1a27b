"""A classifier on two language models, unfrozen from the top as ULMFiT's. Settings: rnn_jax/settings.py.

Command:  python train_loop.py --config configs/lm_bilstm.py [--config.data.source=FOLDER
          --config.text.vocabulary_source=FOLDER]
Before:   python train_loop.py --config configs/language_model.py --workdir runs/lm_forward
          python train_loop.py --config configs/lm_backward.py --workdir runs/lm_backward
Cost:     42 minutes on a core that had other work beside
Result:   90.8 % test accuracy, one seed (docs/imdb.md)
"""

from ml_collections import ConfigDict

from rnn_jax.settings import classifier_settings

LAYER_RATE = 1 / 2.6  # of a layer to the rate of the one above (Howard & Ruder 2018)


def get_config() -> ConfigDict:
    config = classifier_settings()
    config.data.source = "stanfordnlp/imdb"
    config.text.vocabulary_source = "stanfordnlp/imdb"
    config.text.vocab_size = 30_000
    config.text.max_length, config.text.train_length = 800, 400
    config.batch = ConfigDict({"size": 64, "buckets": 8})
    config.model.embedding_dim = 256
    config.model.hidden = 256
    config.model.bidirectional = True
    config.model.merge_at = "top"  # so that models of more layers fit: give all three --config.model.layers=2
    config.model.pooling = "concat"
    config.model.dropout = 0.5
    config.model.dtype = "bfloat16"
    config.embedding.from_workdir = "runs/lm_forward"
    config.embedding.take = (
        "embedding",
        ("encoder", "encoder/forward_rnn"),
        ("encoder", "encoder/backward_rnn", "runs/lm_backward"),
    )
    config.optimizer.schedule = "slanted_triangular"
    config.optimizer.rates = (("encoder", LAYER_RATE), ("embedding", LAYER_RATE**2))
    config.train.freeze = (("encoder", 1), ("embedding", 2))
    config.train.average = 0.99
    return config
