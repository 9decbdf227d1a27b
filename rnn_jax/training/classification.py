"""The task of a text classifier: its settings checked, its data, its network, its report."""

import json
import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from rnn_jax.checkpoints.workdir import EVIDENCE, has_begun
from rnn_jax.convert.parameter_files import load_params, save_params
from rnn_jax.data.evidence import check_evidence
from rnn_jax.data.pipeline import Data, load_data
from rnn_jax.data.sources import Source
from rnn_jax.data.targets import CLASS, LABELS, NUMBER, check_target
from rnn_jax.data.tokenizer import TRUNCATIONS
from rnn_jax.data.vocabularies import ALL_BYTES
from rnn_jax.distributed.broadcast import say
from rnn_jax.distributed.data_parallel import batch_mesh, check_rows, own_rows
from rnn_jax.errors import InputError, choose, require
from rnn_jax.models.classifier import build_classifier
from rnn_jax.models.heads import MONITORS, Head, NumberHead, head_of
from rnn_jax.models.losses import make_classifier_loss, make_classifier_measure
from rnn_jax.models.metrics import Measured, Metrics, NumberMetrics
from rnn_jax.models.scores import table
from rnn_jax.settings import CLASSIFIER, CLASSIFIER_LEAST
from rnn_jax.training.initialisation import check_vocabulary
from rnn_jax.training.regularisers import Regularisers
from rnn_jax.training.report import report_confusion
from rnn_jax.training.tasks import Network, Results, Scoring, Task
from rnn_jax.training.trainer import check_plan
from rnn_jax.trees import leaves_by_path

BALANCED = "balanced"
USE_IT = "use it: rnn-jax predict --workdir {workdir} 'a text'"
MOST_OF_ALL = 0.9  # the share of one class above which the log warns


def check_classifier(config: ConfigDict) -> None:
    """Raises InputError for a setting that cannot be."""
    build_classifier(3, 2, **config.model)
    check_plan(config)
    regularisers(config)
    check_vocabulary(config.text.tokenizer, config.embedding.vectors)
    require(
        not config.train.row_sparse or config.optimizer.name == "adam",
        f"train.row_sparse is an option of adam, but optimizer.name is {config.optimizer.name!r}",
    )
    dense = {"train": ("freeze", "adversarial", "average"), "optimizer": ("rates",)}
    for section, name in ((section, name) for section, names in dense.items() for name in names):
        require(
            not (config.train.row_sparse and config[section][name]),
            f"{section}.{name} is {config[section][name]}, but train.row_sparse reads and changes a batch's "
            "rows alone; set train.row_sparse to False",
        )
    check_head(config)
    if config.embedding.evidence.orders:
        check_use_of_evidence(config)
    if config.train.class_weights not in ("", BALANCED):
        factors_of(config.train.class_weights)
    choose("text.truncate", config.text.truncate, TRUNCATIONS)
    trained, most = config.text.train_length, config.text.max_length
    require(trained <= most, f"text.train_length is {trained}, more than text.max_length, {most}")
    if jax.process_count() > 1:  # a process alone pads the batch with rows of zeros
        check_rows("batch.size", config.batch.size, batch_mesh(config.devices))


def check_head(config: ConfigDict) -> None:
    """Raises InputError for a setting that the head of `data.target` does not have."""
    data, train = config.data, config.train
    check_target(data.target, data.separator, data.label_names)
    require(
        not data.soft_labels or (data.target == CLASS and not data.pair_column),
        "data.soft_labels is set, which has a probability of each class of a text, but "
        f"data.target is {data.target!r} and data.pair_column {data.pair_column!r}; set it to ''",
    )
    choose("train.monitor", train.monitor, {"": None, "loss": None, **MONITORS[data.target]})
    for name in ("class_weights", "label_smoothing"):
        require(
            data.target != NUMBER or not train[name],
            f"train.{name} is {train[name]!r}, but data.target is 'number', which has no classes",
        )


def check_use_of_evidence(config: ConfigDict) -> None:
    """Raises InputError for settings that evidence of n-grams cannot be used with."""
    text = config.text
    bare = text.tokenizer == "bytes" and not text.fill_vocabulary
    most = len(ALL_BYTES["vocab"]) if bare else text.vocab_size
    check_evidence(config.embedding.evidence.orders, most)
    why = (
        (config.data.target == NUMBER, "data.target is 'number': evidence counts the texts of each class"),
        (config.data.pair_column, "data.pair_column is set: a label of a pair is not that of its n-grams"),
        (
            config.train.row_sparse,
            "train.row_sparse is True: the scale of evidence is that of the whole table",
        ),
    )
    for refused, reason in why:
        require(not refused, f"embedding.evidence.orders is set, but {reason}; set it to ()")


def load_classifier_data(config: ConfigDict, cache: Path, source: "Source | None" = None) -> Data:
    """Returns the batches of the three splits; this process gets its own rows of each."""
    size, data = config.batch.size, dict(config.data, source=source or config.data.source)
    return load_data(
        data, config.text, size, config.batch.buckets, cache, own_rows(size), config.embedding.evidence
    )


def classifier_network(config: ConfigDict, data: Data) -> Network:
    """Returns the classifier of `config.model`, its loss and its measure."""
    head, pair = head_of(config.data.target, data.task), bool(config.data.pair_column)
    reads: dict[str, Any] = {"pair": pair, "evidence": data.evidence.width if data.evidence else 0}
    model = build_classifier(data.tokenizer.vocab_size, **head.model_options, **reads, **config.model)
    factors = class_weights(config.train.class_weights, data)
    if head.target == CLASS:
        say_imbalance(data, weighted=factors is not None)

    def apply_fn(variables, *arguments, **keywords):
        words = len(variables["params"]["embedding"]["embedding"])  # with row_sparse, those of a batch
        return model.clone(vocab_size=words).apply(variables, *arguments, **keywords)

    options = regularisers(config)
    return Network(
        model,
        make_classifier_loss(
            apply_fn, options.label_smoothing, config.model.weight_drop, factors, head.measure
        ),
        make_classifier_measure(apply_fn, head.measure),
        regularisers=options,
        row_sparse=config.train.row_sparse,
        scoring=Scoring(
            make_classifier_measure(
                apply_fn, lambda logits, batch: (head.measure(logits, batch), head.answer(logits))
            ),
            head.scores,
            table,
        ),
        monitor=partial(monitored, config.train.monitor, head),
    )


def class_weights(setting: str, data: Data) -> np.ndarray | None:
    """Returns float[C], the factors of the labels' losses that `train.class_weights` names; None for "".

    "balanced" is n / (C n_c), as in scikit-learn, for n training texts, n_c of them of class c, and the C
    classes that occur. Where texts have several labels it is (n - n_c) / n_c, the factor of the texts that
    have label c. A mapping has factors by label name; the other labels keep 1.

    Raises:
      InputError: a mapping that names an unknown label.
    """
    if not setting:
        return None
    names = list(data.label_names)
    if setting == BALANCED:
        labels = data.corpus.train.labels
        if labels.ndim == 2:
            counts = labels.sum(axis=0)
            return np.where(counts > 0, np.maximum(len(labels) - counts, 1) / np.maximum(counts, 1), 1.0)
        counts = np.bincount(labels, minlength=len(names))
        return np.where(counts > 0, counts.sum() / ((counts > 0).sum() * np.maximum(counts, 1)), 1.0)
    factors = np.ones(len(names))
    for name, factor in factors_of(setting).items():
        position = choose("a label of train.class_weights", name, {name: k for k, name in enumerate(names)})
        factors[position] = factor
    return factors


def factors_of(setting: str) -> dict[str, float]:
    """Returns the factors by label name of a `train.class_weights` that is JSON.

    Raises:
      InputError: it is no JSON object of numbers above 0.

    >>> factors_of('{"positive": 3}')
    {'positive': 3}
    """
    try:
        found = json.loads(setting)
    except ValueError:
        found = None
    fits = isinstance(found, dict) and all(
        type(factor) in (int, float) and 0 < factor < math.inf for factor in found.values()
    )
    require(
        fits,
        f"train.class_weights is {setting!r}; give 'balanced', or factors above 0 by label as JSON, such as "
        "'{\"positive\": 3}'",
    )
    return dict(found)


def say_imbalance(data: Data, weighted: bool) -> None:
    """Says in the log if one class has over 90 % of the texts to train on."""
    counts = np.bincount(data.corpus.train.labels, minlength=len(data.label_names))
    share = counts.max() / counts.sum()
    if share > MOST_OF_ALL:
        advice = (
            "" if weighted else "; train.class_weights 'balanced' and train.monitor 'macro_f1' count them"
        )
        name = data.label_names[int(counts.argmax())]
        say(f"warning: {share:.1%} of the texts to train on are {name!r}: accuracy hides the rest{advice}")


def monitored(name: str, head: Head, metrics: Measured) -> Results:
    """Returns what the head and `train.monitor` add to an evaluation: values, and a name as "monitor"."""
    found = head.details(metrics)
    if not name:
        return found
    values = {} if name == "loss" or name in found else {name: head.monitors[name](metrics)}
    return found | values | {"monitor": name}


def regularisers(config: ConfigDict) -> Regularisers:
    """Returns the regularisers of `config.train`."""
    return Regularisers(*(config.train[name] for name in Regularisers._fields)).check()


def keep_evidence(workdir: Path, data: Data) -> None:
    """Writes the n-grams that a predictor looks up into the run's folder, where the network reads any.

    Raises:
      InputError: the run has begun with others, which were counted on other texts or labels.
    """
    if not data.evidence:
        return
    path, arrays = workdir / EVIDENCE, data.evidence.to_arrays()
    require(
        not has_begun(workdir) or _are_ngrams_of(path, arrays),
        f"the run in {workdir} began with other data: its n-grams are others, or have other counts; give it "
        "the texts and labels that it began with, or another --workdir",
    )
    save_params(path, arrays)


def _are_ngrams_of(path: Path, arrays: Mapping[str, Any]) -> bool:
    """Returns whether a file has these n-grams, and ratios that only rounding tells apart, or is damaged."""
    try:
        old, new = leaves_by_path(load_params(path)), leaves_by_path(arrays)
    except InputError:
        return True  # it is written anew
    return old.keys() == new.keys() and all(
        array.shape == new[path].shape and np.allclose(array, new[path], rtol=1e-5, atol=1e-6)
        for path, array in old.items()
    )


def report_classifier(workdir: Path, test: Measured, data: Data) -> Results:
    """Draws what the classifier confuses, and returns the counts, or what another head has to tell."""
    results: Results = {"label_names": list(data.label_names)} if data.label_names else {}
    if isinstance(test, Metrics):
        results = report_confusion(workdir, test, data.label_names)
    elif isinstance(test, NumberMetrics):
        results = NumberHead(*data.corpus.scale).details(test)
    return results if data.tested else {**results, "tested_on": "validation"}


CLASSIFICATION = Task(
    CLASSIFIER,
    CLASSIFIER_LEAST,
    check_classifier,
    load_classifier_data,
    classifier_network,
    f"{{tested_on}} accuracy {{accuracy:.2%}} on {{examples:,}} texts\n{USE_IT}",
    report_classifier,
    {
        LABELS: "{tested_on} micro F1 {micro_f1:.2%}, all labels right {subset_accuracy:.2%}, on "
        f"{{examples:,}} texts\n{USE_IT}",
        NUMBER: f"{{tested_on}} RMSE {{rmse:.4g}}, R2 {{r2:.3f}}, on {{examples:,}} texts\n{USE_IT}",
    },
    keep_evidence,
)
