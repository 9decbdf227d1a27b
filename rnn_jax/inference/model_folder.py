"""A trained model as a folder to share: parameters, settings, words and labels in files without code."""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from ml_collections import ConfigDict

from rnn_jax.checkpoints.workdir import (
    CONFIG,
    EVIDENCE,
    PARAMS,
    REPORT,
    RESULTS,
    TASK,
    TOKENIZER,
    Json,
    is_saved_model,
    read_json,
    write_json,
    write_text,
)
from rnn_jax.convert.parameter_files import save_params
from rnn_jax.data.evidence import Evidence
from rnn_jax.data.tokenizer import Tokenizer
from rnn_jax.errors import InputError, require
from rnn_jax.files import TEMPORARY, path_of
from rnn_jax.inference.model_card import CARD, About, model_card
from rnn_jax.trees import Params

SOMETIMES = (RESULTS, EVIDENCE)  # where the run was finished, and where its network reads n-grams
FILES = (PARAMS, CONFIG, TOKENIZER, TASK, CARD, *SOMETIMES)


class TrainedModel(Protocol):
    """What is saved of a model: `Predictor`, `Tagger` and `Writer` have it."""

    @property
    def config(self) -> ConfigDict:
        """The resolved config of its run."""

    @property
    def params(self) -> Params:
        """Its parameters."""

    @property
    def tokenizer(self) -> Tokenizer:
        """Text to word ids."""

    @property
    def step(self) -> int:
        """The training step that the parameters are of."""

    @property
    def workdir(self) -> Path | None:
        """The folder that it was loaded from."""

    @property
    def evidence(self) -> Evidence | None:
        """The n-grams that its network reads; None for none."""

    @property
    def task(self) -> Mapping[str, object]:
        """What using it needs beside its config and tokeniser, such as the names of the labels."""


def save_model(model: TrainedModel, folder: str | Path, about: About) -> None:
    """Writes a folder that `load` reads, whole or not at all; a model that was saved there is replaced.

    In it are model.safetensors, config.json, tokenizer.json, task.json, README.md (the model card); where the
    network reads n-grams, evidence.safetensors; and of a finished run's best checkpoint, results.json. A
    process that is killed leaves a folder ending in .tmp.

    Args:
      model: what `load` or `load_language_model` returned.
      folder: a new or empty folder, or one that holds a saved model and nothing else but the report of it,
        which goes with it.
      about: what the model card says beside the numbers.

    Raises:
      InputError: the folder holds something else, is the current one or around it, or cannot be written.
    """
    folder = path_of(folder)
    try:
        folder = Path(os.path.abspath(folder))  # "." and "a/.." have no name of their own
        _check_place(folder)
        results = results_of(model)
        with _replacing_folder(folder) as new:
            save_params(new / PARAMS, model.params)
            write_json(new / CONFIG, json.loads(model.config.to_json()))
            write_text(new / TOKENIZER, model.tokenizer.to_json())
            write_json(new / TASK, {**model.task, "step": model.step})
            if model.evidence:
                save_params(new / EVIDENCE, model.evidence.to_arrays())
            if results:
                write_json(new / RESULTS, results)
            address = about.address or folder.name
            write_text(new / CARD, model_card(model, results, about._replace(address=address)))
    except OSError as error:
        raise InputError(f"{folder} cannot be written: {error}") from error


def results_of(model: TrainedModel) -> dict[str, Json]:
    """Returns results.json of the model's run where it is about this very checkpoint, else {}."""
    path = model.workdir and model.workdir / RESULTS
    if not path or not path.exists():
        return {}
    results = read_json(path)
    require(isinstance(results, dict), f"{path} is no report of a run; delete it, it is made again")
    return results if results.get("best_step") == model.step else {}


def _check_place(folder: Path) -> None:
    """Raises InputError where there is something that saving would destroy."""
    require(folder.is_dir() or not folder.exists(), f"{folder} is a file; give a folder")
    require(
        folder.resolve() not in (Path.cwd(), *Path.cwd().parents),
        f"{folder} is the current folder, or around it; give a folder in it",
    )
    there = {path.name for path in folder.iterdir()} if folder.exists() else set()
    others = sorted(there - {*FILES, REPORT})
    require(
        not there or (is_saved_model(folder) and not others),
        f"{folder} holds more than a saved model ({', '.join(others or sorted(there))[:300]}); "
        "give a new or empty folder",
    )


@contextmanager
def _replacing_folder(folder: Path) -> Iterator[Path]:
    """Gives a temporary folder that takes the place of `folder` at the end."""
    new = folder.with_name(f"{folder.name}.{os.getpid()}{TEMPORARY}")
    old = folder.with_name(f"{folder.name}.{os.getpid()}.old{TEMPORARY}")
    new.mkdir(parents=True)
    try:
        yield new
        if folder.exists():
            folder.rename(old)
        try:
            new.rename(folder)
        except OSError:
            if old.exists():
                old.rename(folder)
            raise
    finally:
        for left in (new, old):
            shutil.rmtree(left, ignore_errors=True)
