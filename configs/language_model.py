"""A language model on unlabelled text, for `embedding.from_workdir` and `rnn-jax sample`. Its settings.

Sections `embedding`, `optimizer` and `log` are explained in configs/lstm.py.

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

from configs import lstm

LEAST = {  # the smallest value of each setting that has one
    "seed": 0,
    "text.vocab_size": 3,  # padding, the unknown word, and a word
    "batch.lanes": 1,
    "batch.window": 1,
    "objective.negatives": 0,
    "train.epochs": 1,
    "train.evaluate_every": 1e-6,
    "train.patience": 0,
    "embedding.scale": 0,
    "embedding.epochs": 1,
    "train.keep_checkpoints": 1,
    "log.every": 1,
    "devices": 0,
    "data.validation_share": 1e-6,
}


def get_config() -> ConfigDict:
    classifier = lstm.get_config()
    config = ConfigDict()
    config.task = "language"
    config.seed = 0  # of the initial weights, the order of the data, dropout and negatives
    config.devices = 0  # of each process, to split lanes over; 0 is all, on a CPU as many as pay

    config.data = ConfigDict(
        {
            "source": "stanfordnlp/imdb",  # as in configs/lstm.py; labels are not needed
            "text_column": "text",
            "validation_share": 0.02,  # of the texts, held out to measure the perplexity
            "split_seed": 0,
        }
    )
    config.text = ConfigDict({"vocab_size": 30_000, "lowercase": True, "strip_html": True})
    config.direction = "forward"  # or "backward": texts are read from their last word to their first
    config.batch = ConfigDict(
        {
            "lanes": 64,  # documents read side by side; a multiple of all devices
            "window": 70,  # words read in a step, beyond which no gradient flows; the state does
        }
    )
    config.model = ConfigDict(
        {
            "embedding_dim": 256,
            "cell": "lstm",  # "simple", "lstm" or "gru"
            "hidden": 256,
            "layers": 1,
            "tied": True,  # the softmax has the embedding's table; else one of its own
            "type_dropout": 0.1,  # of words of the vocabulary, one mask a step
            "embedding_dropout": 0.0,  # on the embedded words, one mask a lane and step
            "recurrent_dropout": 0.0,  # on the hidden state, likewise
            "layer_dropout": 0.0,  # between layers, likewise
            "output_dropout": 0.2,  # before the softmax, likewise
            "dtype": "float32",  # of the computation: "float32" or "bfloat16"
        }
    )
    config.objective = ConfigDict(
        {
            "negatives": 1024,  # words that training contrasts the next one with; 0 is the whole softmax
            "proposal": "unigram",  # what they are drawn from: "unigram" or "log_uniform"
            "weight_drop": 0.0,  # of recurrent kernels' entries, one mask a step (AWD-LSTM, as those below)
            "activation": 0.0,  # weight of the outputs' mean square
            "temporal": 0.0,  # weight of the mean square of their changes
        }
    )
    config.embedding = classifier.embedding
    config.optimizer = classifier.optimizer
    config.train = ConfigDict(
        {
            "epochs": 2,
            "evaluate_every": 0.5,  # epochs between evaluations, each with a checkpoint
            "patience": 0,  # stop after so many evaluations without a better one; 0 never stops early
            "keep_checkpoints": 2,  # the last ones, beside the best
            "freeze": (),  # paths that do not train, or not before an epoch, as in configs/lstm.py
            "average": 0.0,  # decay of the moving average of the weights that is used; 0 uses the weights
        }
    )
    config.log = classifier.log
    return config
