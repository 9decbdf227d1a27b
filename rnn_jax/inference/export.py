"""A trained classifier in one file that JAX runs without this library: docs/export.md says how."""

import io
import json
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from jax import export

from rnn_jax.checkpoints.workdir import TOKENIZER
from rnn_jax.data.targets import CLASS
from rnn_jax.data.tokenizer import truncate
from rnn_jax.errors import InputError, require
from rnn_jax.files import DAMAGE, path_of, replacing
from rnn_jax.inference.predictor import Predictor

KIND, FORMAT = "rnn_jax classifier", 1
OTHER_HEADS = 2  # the format of pairs of texts, several labels and numbers, which readers of format 1 refuse
ABOUT, PROGRAM = "about.json", "program.bin"
LARGEST_ABOUT = 2**24  # bytes: what is no export may be an archive that expands without end
PLATFORMS = ("cpu", "cuda", "rocm", "tpu")
CALL = "{} = program(params, token_ids i32[b, t], lengths i32[b])"
PAIR_CALL = "{} = program(params, token_ids i32[b, 2 t], lengths i32[b, 2])"


def export_classifier(predictor: Predictor, path: str | Path) -> None:
    """Writes a classifier into a zip archive that JAX runs without this library, as docs/export.md shows.

    In it are a `jax.export` program for any number of texts and words on every platform of PLATFORMS, the
    parameters as .npy files, the tokeniser and about.json. An older export at `path` is replaced. Equal
    classifiers give equal bytes.

    Args:
      predictor: the classifier, as `load` returns it.
      path: the file to write.

    Raises:
      InputError: `predictor` is a language model, something that is no export is at `path`, or it cannot
        be written.

    >>> from rnn_jax import load
    >>> export_classifier(load("runs/bilstm"), "bilstm.zip")  # doctest: +SKIP
    """
    path = path_of(path)
    require(
        isinstance(predictor, Predictor),
        f"predictor is a {type(predictor).__name__}; give a classifier, as rnn_jax.load returns it: "
        "language models are not exported",
    )
    try:
        _check_place(path)
        params = {name: np.asarray(leaf) for name, leaf in flatten_dict(predictor.params, sep="/").items()}
        program = _program(predictor, params)
        files = {
            ABOUT: json.dumps(_about(predictor, params, program), indent=2).encode(),
            PROGRAM: _serialized(program),
            TOKENIZER: predictor.tokenizer.to_json().encode(),
        }
        files |= {f"params/{name}.npy": _npy(array) for name, array in params.items()}
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file, zipfile.ZipFile(file, "w") as archive:
            for name, content in files.items():
                archive.writestr(zipfile.ZipInfo(name), content)  # of a fixed date
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error}") from error


def _program(predictor: Predictor, params: dict[str, np.ndarray]) -> export.Exported:
    """Returns CALL. Parameters are arguments: constants would be in it once more for every shape compiled."""

    def classify(params, token_ids, lengths):
        variables = {"params": unflatten_dict(params, sep="/")}
        return predictor.head.exported(predictor.apply_fn(variables, token_ids, lengths))

    batch, time = export.symbolic_shape("b, t")
    parts, width = ((2,), 2 * time) if predictor.pair else ((), time)
    shapes = {name: jax.ShapeDtypeStruct(array.shape, array.dtype) for name, array in params.items()}
    token_ids, lengths = (
        jax.ShapeDtypeStruct(shape, jnp.int32) for shape in ((batch, width), (batch, *parts))
    )
    with _no_source_lines():
        return export.export(jax.jit(classify), platforms=PLATFORMS)(shapes, token_ids, lengths)


@contextmanager
def _no_source_lines() -> Iterator[None]:
    """Keeps the paths of this machine's source files out of what is lowered."""
    frames = jax.config.jax_traceback_in_locations_limit  # type: ignore[attr-defined]  # made as it runs
    jax.config.update("jax_traceback_in_locations_limit", 0)
    try:
        yield
    finally:
        jax.config.update("jax_traceback_in_locations_limit", frames)


def _serialized(program: export.Exported) -> bytes:
    try:
        return bytes(program.serialize())
    except ImportError as error:
        raise InputError(f"jax.export cannot write: {error}; pip install flatbuffers") from error


def _about(
    predictor: Predictor, params: dict[str, np.ndarray], program: export.Exported
) -> dict[str, object]:
    size, keep = predictor.config.text.max_length, predictor.config.text.truncate
    kept = truncate([np.arange(2 * size)], size, keep)[0]
    first = int((kept < size).sum())
    return {
        "kind": KIND,
        "format": FORMAT if predictor.head.target == CLASS and not predictor.pair else OTHER_HEADS,
        "target": predictor.head.target,
        "pair": predictor.pair,
        "label_names": predictor.label_names,
        "call": (PAIR_CALL if predictor.pair else CALL).format(predictor.head.export_call),
        "params": list(params),
        "max_length": size,
        "truncate": keep,
        "keep_first": first,  # what truncate means, so that a reader needs no table of its names
        "keep_last": size - first,
        "buckets": predictor.buckets,
        "batch_size": predictor.config.batch.size,
        "step": predictor.step,
        "platforms": program.platforms,
        "jax": jax.__version__,
        "calling_convention": program.calling_convention_version,
    }


def _npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()


def _check_place(path: Path) -> None:
    """Raises InputError where there is something else than an export."""
    require(not path.is_dir(), f"{path} is a folder; give a file")
    if path.exists():
        require(
            _is_export(path),
            f"{path} is no export of rnn_jax that can be read; delete it, or give another",
        )


def _is_export(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            small = archive.getinfo(ABOUT).file_size <= LARGEST_ABOUT
            return small and json.loads(archive.read(ABOUT))["kind"] == KIND
    except (*DAMAGE, KeyError, TypeError, ValueError):
        return False
