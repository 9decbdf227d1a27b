"""`load(workdir)`: a trained model of any kind that predicts, in use."""

from pathlib import Path

from rnn_jax.checkpoints.workdir import CONFIG, TAG, read_json
from rnn_jax.inference import predictor
from rnn_jax.inference.hub import local_folder
from rnn_jax.inference.predictor import Predictor
from rnn_jax.inference.tagger import Tagger, load_tagger


def load(workdir: str | Path, which: str | int = "best", fallback: bool = False) -> Predictor | Tagger:
    """Returns the model that a run saved, on the default device: a Predictor of texts, or a Tagger of words.

    Args:
      workdir: the run's folder, one that `model.save` wrote, or one on the Hugging Face hub:
        "hf://user/name" or "hf://user/name@revision".
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
    folder = local_folder(workdir)
    config = read_json(folder / CONFIG) if (folder / CONFIG).is_file() else None
    if isinstance(config, dict) and config.get("task") == TAG:
        return load_tagger(folder, which, fallback)
    return predictor.load(folder, which, fallback)
