"""`rnn_jax.fit`: texts and labels that a program has in memory become a trained model."""

import importlib
import shutil
import signal
import tempfile
import warnings
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ml_collections import ConfigDict

from rnn_jax.checkpoints.checkpoints import Checkpoints
from rnn_jax.checkpoints.restore import settings_of_run
from rnn_jax.checkpoints.workdir import (
    CLASSIFY,
    LANGUAGE,
    RESULTS,
    TAG,
    check_run,
    check_task,
    has_begun,
    is_saved_model,
)
from rnn_jax.config import changed, starting_from
from rnn_jax.data.columns import column_of, find_column
from rnn_jax.data.encoding import default_cache
from rnn_jax.data.in_memory import PAIR, are_words, splits_of
from rnn_jax.data.labels import read_labels
from rnn_jax.data.sentences import TAG_COLUMNS, WORD_COLUMNS
from rnn_jax.data.soft_labels import kept_soft_labels
from rnn_jax.data.sources import IN_MEMORY, Splits
from rnn_jax.data.targets import CLASS, LABELS, labels_of
from rnn_jax.distributed.preemption import Interrupted
from rnn_jax.errors import choose, require
from rnn_jax.files import path_of
from rnn_jax.inference.loading import load
from rnn_jax.inference.predictor import Predictor
from rnn_jax.inference.tagger import Tagger
from rnn_jax.inference.writer import load_language_model
from rnn_jax.progress import quiet, tell
from rnn_jax.settings import recipe_settings, tagger_settings
from rnn_jax.training.automatic import AUTO, NO_START, automatic_settings
from rnn_jax.training.loop import TASKS, check_config, prepare_data, train_and_evaluate
from rnn_jax.vectors.arrays import kept_vectors, table_of

# How a finished run of each task is loaded.
LOADERS: dict[str, Callable[[Path], Any]] = {CLASSIFY: load, LANGUAGE: load_language_model, TAG: load}
DEFAULT_RECIPE = "bilstm"

if TYPE_CHECKING:
    import datasets


def fit(
    texts: Any,
    labels: Any = None,
    *,
    recipe: str | ConfigDict | None = None,
    validation: Any = None,
    workdir: str | Path | None = None,
    progress: bool = True,
    start: "Predictor | Tagger | str | Path | None" = None,
    **settings: Any,
) -> Any:
    """Trains a network on texts and labels, and returns it as `rnn_jax.load` does.

    Where a text is a list of words, and its label a list with a tag for each word, that is a tagger of words.
    Nothing else can be meant by such data, so that no argument has to say it.

    The best checkpoint is chosen on a validation split. There is a test split where `texts` has one, or where
    `data.test_share` is given; without one, what is printed at the end was measured on the validation split.

    Args:
      texts: n texts, or n pairs (first, second) to compare: a list, a numpy array, a column of pandas or of
        `datasets`, or a generator. Without `labels`: a table with both (a `datasets.Dataset`, or a
        `DatasetDict` of splits, a pandas DataFrame), an iterable of pairs (text, label) or of rows
        {column: value}, or the path of a file or folder, which is read and split as `rnn-jax train` does it.
        A table has the columns `data.text_column` and `data.label_column`, "text" and "label" by default; one
        of tagged words has lists in `tokens` and `tags`, or in columns of another usual name.
      labels: n labels, integers, strings or booleans, in any of these forms. n lists of labels make a network
        for several labels at once; for numbers give `**{"data.target": "number"}`.
      recipe: the name of a recipe, or settings such as `rnn_jax.recipe("bilstm")`, which are used as they
        are; None is "bilstm", of lists of words the settings of `tagger_settings()`, or those of `start`.
        "auto" takes what was best for so many labelled texts (docs/small_data.md), and says why.
      validation: the share of the texts to validate on, in (0, 1), or a split of its own: a pair (texts,
        labels) or a table; of a language model a share. None is `data.validation_share`, 0.1, unless `texts`
        has that split.
      workdir: the run's folder; a run in it goes on. None is a temporary folder, removed with the model.
      progress: whether to print; what is not printed goes to the logger "rnn_jax".
      start: a model, or the folder of a run, whose parameters training starts from.
      settings: values by dotted key: `fit(texts, labels, **{"model.hidden": 64}, seed=1)`. What they mean
        is in rnn_jax/settings.py. `embedding.vectors` may also be {word: vector} or (words, table), and
        `data.soft_labels` (texts, probabilities), with {label: probability} for each text.

    Raises:
      InputError: a setting, the data or the workdir cannot be used; raised before any training.
      NonFiniteLossError: training diverged.
      KeyboardInterrupt: Ctrl-C. The step that was under way is done and saved, and the message says how to go
        on.

    >>> import rnn_jax
    >>> rnn_jax.fit(["dull", "fine"], [0, 1], **{"model.hiden": 64})
    Traceback (most recent call last):
    ...
    rnn_jax.errors.InputError: 'model.hiden' is no setting of task 'classify'. Did you mean 'model.hidden'?
    """
    with quiet(not progress):
        settings = _kept(
            settings, "embedding.vectors", lambda folder, of: kept_vectors(folder, *table_of(of))
        )
        settings = _kept(settings, "data.soft_labels", kept_soft_labels)
    validation = validation.item() if getattr(validation, "shape", None) == () else validation  # of numpy
    words, texts, labels = are_words(texts, labels)
    words = words and not {"data.target", "data.pair_column"} & {*settings}  # pairs with several labels
    config = _config(recipe, start, validation, settings, words)
    _import_datasets()
    source = _source(texts, labels, validation, config)
    if source is not None:
        whole = start is not None or isinstance(recipe, ConfigDict)  # settings that are used as they are
        with quiet(not progress):
            keep_names = isinstance(recipe, ConfigDict) or "data.label_names" in settings
            _fit_data(config, source, whole or "data.test_share" in settings, keep_names)
    if automatic(recipe):
        with quiet(not progress):
            config = _chosen(config, source, settings)
    check_config(config)
    loader = choose("config.task", config.task, LOADERS)
    require(
        workdir is not None or config.task != LANGUAGE,
        "workdir is None; a language model is used from its folder, so give one",
    )
    folder = Path(tempfile.mkdtemp(prefix="rnn_jax-")) if workdir is None else path_of(workdir)
    try:
        with quiet(not progress):
            _train(config, folder, source, "" if workdir else " (removed with the model)")
            model = loader(folder)
    except BaseException as error:
        _end(error, folder, temporary=workdir is None)
        raise
    if workdir is None:
        weakref.finalize(model, shutil.rmtree, folder, ignore_errors=True)
    return model


def _config(recipe: Any, start: Any, validation: Any, settings: Mapping[str, Any], words: bool) -> ConfigDict:
    """Returns the settings of the run, the source of its data left open."""
    run = None if start is None else _run_of(start)
    if automatic(recipe):
        require(start is None, NO_START)
        config = recipe_settings(DEFAULT_RECIPE)  # until the texts are counted
    elif recipe is not None:
        config = recipe_settings(recipe)
    elif run is not None:
        config = settings_of_run(run)
    else:
        config = tagger_settings() if words else recipe_settings(DEFAULT_RECIPE)
    require("task" in config, f"recipe has no setting `task`; give one of: {', '.join(TASKS)}")
    data = config.get("data", {})
    pairs = bool(data.get("pair_column")) or data.get("target") == LABELS  # with several labels each
    require(
        not words or config.task == TAG or pairs,
        f"texts are lists of words, which a tagger takes, but the task is {config.task!r}; give strings, or "
        "no recipe",
    )
    if run is not None:
        config = starting_from(config, run)
    config = changed(config, settings, choose("config.task", config.task, TASKS).settings)
    if isinstance(validation, int | float):
        config.data.validation_share = float(validation)
    return config


def automatic(recipe: Any) -> bool:
    """Returns whether the recipe is "auto", which is no file."""
    return isinstance(recipe, str) and recipe == AUTO


def _chosen(config: ConfigDict, source: "Splits | None", settings: Mapping[str, Any]) -> ConfigDict:
    """Returns the settings that "auto" chooses for the texts, with those that were given."""
    found, why = automatic_settings(config, source)
    tell(why)
    given = {key: value for key, value in settings.items() if not key.startswith("data.")}
    return changed(found, given, TASKS[found.task].settings)


def _kept(settings: Mapping[str, Any], key: str, keep: Callable[[Path, Any], Path]) -> dict[str, Any]:
    """Returns the settings; what one of them has in memory goes into a file of the cache, which stands in."""
    given = settings.get(key, "")
    if isinstance(given, str | Path):
        return {**settings, **({key: str(given)} if given else {})}
    path = keep(default_cache(), given)
    tell(f"{key}: kept as {path}, which a run that goes on needs; or give the same ones again")
    return {**settings, key: str(path)}


def _import_datasets() -> None:
    """Imports `datasets` without the warning of its progress bars, which are off, in notebooks."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="IProgress not found")
        importlib.import_module("datasets")


def _run_of(start: Any) -> Path:
    """Returns the folder of the run that `start` names; its best checkpoint has to be what is meant."""
    folder: Any = start.workdir if isinstance(start, Predictor | Tagger) else start
    require(isinstance(folder, str | Path), f"start is {start!r}; give a model, or the folder of a run")
    folder = path_of(folder).resolve()
    check_run("start", folder)
    if isinstance(start, Predictor | Tagger) and not is_saved_model(folder):
        with Checkpoints(folder) as checkpoints:
            best = checkpoints.steps("best", fallback=False)[0]
        require(
            start.step == best,
            f"start is the checkpoint of step {start.step}, but training starts from the best one, that of "
            f"step {best}; load the model with which='best'",
        )
    return folder


def _source(texts: Any, labels: Any, validation: Any, config: ConfigDict) -> "Splits | None":
    """Returns the splits by name, or None where `texts` is the name of a source, which goes to the config."""
    own = None if validation is None or isinstance(validation, int | float) else validation
    require(
        own is None or config.task != LANGUAGE,
        f"validation is a {type(own).__name__}; a language model holds out a share of its texts: give that",
    )
    if isinstance(texts, str | Path) and labels is None:
        require(own is None, f"validation is a {type(own).__name__}; with a file or folder give a share")
        config.data.source = str(texts)
        return None
    data = config.data
    if config.task == TAG:
        columns = data.word_column or WORD_COLUMNS[0], data.tag_column or TAG_COLUMNS[0]
    else:
        columns = data.text_column, data.get("label_column", "label")
    pair = data.get("pair_column", "")
    splits = splits_of(texts, labels, own, *columns, pair, words=config.task == TAG)
    share = validation if isinstance(validation, int | float) else None
    require(
        share is None or "validation" not in splits,
        f"validation is {share}, but the texts have a validation split of their own; leave one of them out",
    )
    return splits


def _fit_data(config: ConfigDict, source: Splits, keep_share: bool, keep_names: bool) -> None:
    """Puts into the settings what texts in memory need in place of what a recipe or an earlier run had."""
    data = config.data
    data.source = IN_MEMORY
    if "target" in data:
        _fit_head(config, source["train"])
    if "test_share" in data and not keep_share:
        data.test_share = 0.0
    if not keep_names and data.get("label_names") and find_column(source["train"], data.label_column):
        labels = _labels_in(column_of(source["train"], data.label_column, "train"), data)
        fits = labels == set(data.label_names) or not any(isinstance(label, str) for label in labels)
        if len(labels) != len(data.label_names) or not fits:  # an earlier run's, of other labels
            data.label_names = ()


def _labels_in(column: list[Any], data: ConfigDict) -> set[Any]:
    """Returns the labels of a column, of several labels a text those of all texts."""
    values = read_labels(column)
    if data.target != LABELS:
        return set(values)
    return {label for value in values for label in labels_of(value, data.separator)}


def _fit_head(config: ConfigDict, train: "datasets.Dataset") -> None:
    """Sets the head that the form of the texts and labels asks for: pairs, or lists of labels."""
    data = config.data
    if not data.pair_column and PAIR in train.column_names and data.text_column != PAIR:
        data.pair_column = PAIR
        tell("texts are pairs, so that two are compared: data.pair_column is 'pair'")
    label = train.features.get(data.label_column)
    if data.target == CLASS and type(label).__name__ in ("List", "LargeList", "Sequence"):
        data.target = LABELS
        tell("labels are lists, so that a text may have several: data.target is 'labels'")


def _train(config: ConfigDict, folder: Path, source: "Splits | None", note: str) -> None:
    tell(f"workdir: {folder}{note}")
    finished = (folder / RESULTS).exists()
    results = train_and_evaluate(config, folder, source)
    task = TASKS[config.task].of(config)
    if finished:  # nothing was read: the texts may be others than those that the run had
        check_task(folder, prepare_data(config, source).task)
    tell(task.close(folder, results).split("\n")[0])


def _end(error: BaseException, folder: Path, temporary: bool) -> None:
    """Says how to go on after Ctrl-C, and removes a temporary folder from which nobody can go on."""
    stopped = isinstance(error, Interrupted) and error.signal == signal.SIGINT
    saved = has_begun(folder)
    if stopped or (isinstance(error, KeyboardInterrupt) and saved):
        what = str(error) or "ended within a step; what was saved before it is kept"
        raise KeyboardInterrupt(
            f"{what}; to go on, call rnn_jax.fit again with the same arguments and workdir={str(folder)!r}"
        ) from None
    if temporary and saved:
        error.add_note(f"what was saved is in {folder}: call rnn_jax.fit again with workdir={str(folder)!r}")
    elif temporary and not isinstance(error, Interrupted):
        shutil.rmtree(folder, ignore_errors=True)
