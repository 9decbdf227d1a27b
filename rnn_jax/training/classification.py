"""The task of a text classifier: its settings checked, its data, its network, its report."""

from pathlib import Path

import jax
from ml_collections import ConfigDict

from rnn_jax.data.pipeline import Data, load_data
from rnn_jax.data.sources import Source
from rnn_jax.data.tokenizer import TRUNCATIONS
from rnn_jax.distributed.data_parallel import batch_mesh, check_rows, own_rows
from rnn_jax.errors import choose, require
from rnn_jax.models.classifier import build_classifier
from rnn_jax.models.losses import Metrics, make_classifier_loss, make_classifier_measure
from rnn_jax.settings import CLASSIFIER, CLASSIFIER_LEAST
from rnn_jax.training.regularisers import Regularisers
from rnn_jax.training.report import report_confusion
from rnn_jax.training.tasks import Network, Results, Task
from rnn_jax.training.trainer import check_plan


def check_classifier(config: ConfigDict) -> None:
    """Raises InputError for a setting that cannot be."""
    build_classifier(3, 2, **config.model)
    check_plan(config)
    regularisers(config)
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
    choose("text.truncate", config.text.truncate, TRUNCATIONS)
    trained, most = config.text.train_length, config.text.max_length
    require(trained <= most, f"text.train_length is {trained}, more than text.max_length, {most}")
    if jax.process_count() > 1:  # a process alone pads the batch with rows of zeros
        check_rows("batch.size", config.batch.size, batch_mesh(config.devices))


def load_classifier_data(config: ConfigDict, cache: Path, source: "Source | None" = None) -> Data:
    """Returns the batches of the three splits; this process gets its own rows of each."""
    size, data = config.batch.size, dict(config.data, source=source or config.data.source)
    return load_data(data, config.text, size, config.batch.buckets, cache, own_rows(size))


def classifier_network(config: ConfigDict, data: Data) -> Network:
    """Returns the classifier of `config.model`, its loss and its measure."""
    model = build_classifier(data.tokenizer.vocab_size, len(data.label_names), **config.model)

    def apply_fn(variables, *arguments, **keywords):
        words = len(variables["params"]["embedding"]["embedding"])  # with row_sparse, those of a batch
        return model.clone(vocab_size=words).apply(variables, *arguments, **keywords)

    options = regularisers(config)
    return Network(
        model,
        make_classifier_loss(apply_fn, options.label_smoothing, config.model.weight_drop),
        make_classifier_measure(apply_fn),
        regularisers=options,
        row_sparse=config.train.row_sparse,
    )


def regularisers(config: ConfigDict) -> Regularisers:
    """Returns the regularisers of `config.train`."""
    return Regularisers(*(config.train[name] for name in Regularisers._fields)).check()


def report_classifier(workdir: Path, test: Metrics, data: Data) -> Results:
    """Draws what the classifier confuses, and returns the counts."""
    results = report_confusion(workdir, test, data.label_names)
    return results if data.tested else {**results, "tested_on": "validation"}


CLASSIFICATION = Task(
    CLASSIFIER,
    CLASSIFIER_LEAST,
    check_classifier,
    load_classifier_data,
    classifier_network,
    "{tested_on} accuracy {accuracy:.2%} on {examples:,} texts\n"
    "use it: rnn-jax predict --workdir {workdir} 'what a film'",
    report_classifier,
)
