"""Small jobs for the training program: made-up reviews and documents, and configs."""

import json

import numpy as np

from configs import language_model, smoke

GOOD, BAD = (
    ["great", "lovely", "moving", "funny", "brilliant"],
    ["awful", "boring", "stupid", "dull", "terrible"],
)
FILLER = [
    "the",
    "film",
    "with",
    "an",
    "actor",
    "and",
    "some",
    "scenes",
    "in",
    "it",
    "is",
    "about",
    "two",
    "people",
    "who",
    "meet",
    "one",
    "day",
]


def write_reviews(path, count, labels=(0, 1), seed=0):
    """Writes made-up reviews: filler words of 5 to 60, and a few that tell the label."""
    rng = np.random.default_rng(seed)
    words_of = dict(zip(labels, (BAD, GOOD, FILLER[:5]), strict=False))
    with path.open("w") as file:
        for index in range(count):
            label = labels[index % len(labels)]
            words = [*rng.choice(FILLER, rng.integers(5, 60)), *rng.choice(words_of[label], 3)]
            rng.shuffle(words)
            file.write(json.dumps({"text": " ".join(words) + f" {index}", "label": label}) + "\n")
    return path


def tiny_config(source, **changes):
    config = smoke.get_config()
    config.data.source = str(source)
    config.data.validation_share = config.data.test_share = 0.2
    config.text.max_length = 48
    config.batch.size, config.batch.buckets = 8, 1
    config.model.cell, config.model.pooling = "simple", "mean"
    config.model.embedding_dim = config.model.hidden = 8
    config.train.epochs, config.log.every = 3, 2
    for key, value in changes.items():
        section, name = key.split("__")
        config[section][name] = value
    return config


CHAIN = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
NEXT, LATER = 0.8, 0.2  # how often the next word of the chain follows, and the one after that


def write_documents(path, count, seed=0):
    """Writes made-up documents of 10 to 40 words, each the next of CHAIN, in a circle, or the one after."""
    rng = np.random.default_rng(seed)
    with path.open("w") as file:
        for _ in range(count):
            steps = rng.choice([1, 2], rng.integers(10, 40), p=[NEXT, LATER])
            places = (rng.integers(len(CHAIN)) + np.cumsum(steps)) % len(CHAIN)
            file.write(json.dumps({"text": " ".join(CHAIN[place] for place in places)}) + "\n")
    return path


def tiny_language_config(source, **changes):
    """Returns the config of a tiny language model; `model__cell` is a key of its section."""
    config = language_model.get_config()
    config.data.source, config.data.validation_share = str(source), 0.2
    config.batch.lanes, config.batch.window = 4, 8
    config.model.embedding_dim = config.model.hidden = 16
    config.model.type_dropout = config.model.output_dropout = 0.0
    config.objective.negatives = 0
    config.optimizer.learning_rate = 0.02
    config.train.epochs, config.log.every = 2, 10
    for key, value in changes.items():
        *section, name = key.split("__")
        with config.ignore_type():
            (config[section[0]] if section else config)[name] = value
    return config
