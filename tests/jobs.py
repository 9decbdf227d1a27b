"""Small jobs for the training program: made-up reviews and a config."""

import json

import numpy as np

from configs import smoke

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
