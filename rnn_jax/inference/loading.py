"""`load(workdir)`: a trained model of any kind that predicts, or several as one, in use."""

from collections.abc import Iterable
from pathlib import Path
from typing import TypeAlias, overload

from rnn_jax.checkpoints.workdir import CONFIG, TAG, read_json
from rnn_jax.errors import require
from rnn_jax.inference import predictor
from rnn_jax.inference.ensemble import Ensemble
from rnn_jax.inference.hub import local_folder
from rnn_jax.inference.predictor import Predictor
from rnn_jax.inference.tagger import Tagger, load_tagger

Several: TypeAlias = list[str | Path] | list[str] | list[Path] | tuple[str | Path, ...]


@overload
def load(workdir: str | Path, which: str | int = "best", fallback: bool = False) -> Predictor | Tagger: ...
@overload
def load(workdir: Several, which: str | int = "best", fallback: bool = False) -> Ensemble: ...


def load(
    workdir: str | Path | Several, which: str | int = "best", fallback: bool = False
) -> Predictor | Tagger | Ensemble:
    """Returns the model that a run saved, on the default device: a Predictor of texts, or a Tagger of words.

    Args:
      workdir: the run's folder, one that `model.save` wrote, or one on the Hugging Face hub:
        "hf://user/name" or "hf://user/name@revision". Several of them, in a list, give an Ensemble.
      which: "best" (on validation), "last", or the step of a checkpoint.
      fallback: where the wanted checkpoint cannot be read, take the newest one that can.

    Raises:
      InputError: no run of a classifier or tagger, no such checkpoint, or one that cannot be read or is of
        another network.

    >>> load("runs/none")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    rnn_jax.errors.InputError: workdir is 'runs/none', which is not the folder of a run: ...
    """
    if not isinstance(workdir, str | Path):
        require(
            isinstance(workdir, Iterable), f"workdir is {workdir!r}; give the folder of a run, or several"
        )
        folders = list(workdir)  # of a generator, which gives them once
        members = [load(each, which, fallback) for each in folders]
        for each, member in zip(folders, members, strict=True):
            require(isinstance(member, Predictor), f"{each} is a tagger; an ensemble has models of texts")
        return Ensemble([member for member in members if isinstance(member, Predictor)])
    folder = local_folder(workdir)
    config = read_json(folder / CONFIG) if (folder / CONFIG).is_file() else None
    if isinstance(config, dict) and config.get("task") == TAG:
        return load_tagger(folder, which, fallback)
    return predictor.load(folder, which, fallback)
