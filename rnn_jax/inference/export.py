"""A trained classifier or tagger in one file that JAX runs without this library: docs/export.md says how."""

import io
import json
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias

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
from rnn_jax.inference.tagger import Tagger, likeliest_tags
from rnn_jax.models.evidence import look_up

CLASSIFIER, TAGGER, FORMAT = "rnn_jax classifier", "rnn_jax tagger", 1
ABOUT, PROGRAM = "about.json", "program.bin"
LARGEST_ABOUT = 2**24  # bytes: what is no export may be an archive that expands without end
NGRAMS = "evidence"  # where the n-grams that the program looks up stand beside the parameters
PLATFORMS = ("cpu", "cuda", "rocm", "tpu")
OTHER_HEADS = 2  # the format of pairs of texts, several labels and numbers, which readers of format 1 refuse
CLASSIFY = "{} = program(params, token_ids i32[b, t], lengths i32[b])"
PAIR = "{} = program(params, token_ids i32[b, 2 t], lengths i32[b, 2])"

TAG = (
    "tags i32[b, t], probabilities f32[b, t] = program(params, token_ids i32[b, t], lengths i32[b], "
    "letters i32[b, t, letter_width])"
)

Flat: TypeAlias = Mapping[str, jax.Array]  # parameters by path


class Program(NamedTuple):
    """What is exported of a model.

    Attributes:
      kind, call: what it is, and how the program is called.
      function: `function(params, *arrays)`, with parameters by path.
      shapes: those of the arrays, which are int32; "b" and "t" may be any numbers.
      names: the names of what it predicts, for about.json.
      reads: how texts become arrays, for about.json.
      more: arrays by path that stand beside the parameters.
    """

    kind: str
    call: str
    function: Callable[..., Any]
    shapes: tuple[str, ...]
    names: Mapping[str, object]
    reads: Mapping[str, object]
    more: Mapping[str, np.ndarray] = MappingProxyType({})


def export_classifier(predictor: Predictor, path: str | Path) -> None:
    """Writes a classifier into a zip archive that JAX runs without this library, as docs/export.md shows.

    In it are a `jax.export` program for any number of texts and words on every platform of PLATFORMS, the
    parameters as .npy files, the tokeniser and about.json. An older export at `path` is replaced. Equal
    classifiers give equal bytes.

    Args:
      predictor: the classifier, as `load` returns it.
      path: the file to write.

    Raises:
      InputError: `predictor` is no classifier, something that is no export is at `path`, or it cannot be
        written.

    >>> from rnn_jax import load
    >>> export_classifier(load("runs/bilstm"), "bilstm.zip")  # doctest: +SKIP
    """
    require(
        isinstance(predictor, Predictor),
        f"predictor is a {type(predictor).__name__}; give a classifier, as rnn_jax.load returns it: "
        "language models are not exported, and taggers by export_tagger",
    )

    def classify(params: Flat, token_ids: jax.Array, lengths: jax.Array) -> jax.Array:
        tree = _variables(params)
        # Looked up by the program, so that a reader gives words alone.
        ngrams = tree["params"].pop(NGRAMS, {})
        tables = [(ngrams[order]["grams"], ngrams[order]["ratios"]) for order in sorted(ngrams, key=int)]
        known = {"evidence": look_up(tables, token_ids, lengths)} if tables else {}
        return predictor.head.exported(predictor.apply_fn(tree, token_ids, lengths, **known))

    reads = _cut(predictor.config.text.max_length, predictor.config.text.truncate)
    target, pair = predictor.head.target, predictor.pair
    names = {"label_names": predictor.label_names, "target": target, "pair": pair}
    names |= {} if (target, pair) == (CLASS, False) else {"format": OTHER_HEADS}
    call, *shapes = (PAIR, "b, 2*t", "b, 2") if pair else (CLASSIFY, "b, t", "b")
    call = call.format(predictor.head.export_call)
    more = flatten_dict({NGRAMS: predictor.evidence.to_arrays()}, sep="/") if predictor.evidence else {}
    _write(predictor, path, Program(CLASSIFIER, call, classify, tuple(shapes), names, reads, more))


def _cut(size: int, keep: str) -> dict[str, object]:
    """Returns how a text is cut, for about.json."""
    first = int((truncate([np.arange(2 * size)], size, keep)[0] < size).sum())
    # What truncate means, so that a reader needs no table of its names.
    return {"max_length": size, "truncate": keep, "keep_first": first, "keep_last": size - first}


def export_tagger(tagger: Tagger, path: str | Path) -> None:
    """Writes a tagger into a zip archive, as `export_classifier` writes a classifier.

    The program returns the likeliest tags, of a CRF by Viterbi, and the probability of each.

    Args:
      tagger: the tagger, as `load` returns it.
      path: the file to write.

    Raises:
      InputError: `tagger` is no tagger, something that is no export is at `path`, or it cannot be written.

    >>> from rnn_jax import load
    >>> export_tagger(load("runs/tagger"), "tagger.zip")  # doctest: +SKIP
    """
    require(
        isinstance(tagger, Tagger),
        f"tagger is a {type(tagger).__name__}; give a tagger, as rnn_jax.load returns it",
    )
    spelling, size = tagger.spelling, tagger.config.text.max_length
    reads = {
        "max_length": size,
        "lowercase": spelling.lowercase,  # of words that are looked up
        "letters": spelling.letters,
        "letter_width": spelling.width,
    }
    # Among t words a CRF has t - 1 moves, and of a symbol JAX has to know that there is one: a word is added.
    more = 1 if tagger.model.output == "crf" else 0

    def tag(params: Flat, token_ids: jax.Array, lengths: jax.Array, letters: jax.Array) -> tuple[Any, ...]:
        longer = (jnp.pad(array, [(0, 0), (0, more), (0, 0)][: array.ndim]) for array in (token_ids, letters))
        token_ids, letters = longer
        found = likeliest_tags(tagger.model, _variables(params), token_ids, lengths, letters)
        return tuple(array[:, : array.shape[1] - more] for array in found)

    shapes, names = ("b, t", "b", f"b, t, {spelling.width}"), {"tag_names": tagger.tag_names}
    _write(tagger, path, Program(TAGGER, TAG, tag, shapes, names, reads))


def _variables(params: Flat) -> dict[str, Any]:
    return {"params": unflatten_dict(params, sep="/")}


def _write(model: Predictor | Tagger, path: str | Path, what: Program) -> None:
    path = path_of(path)
    try:
        _check_place(path)
        params = {name: np.asarray(leaf) for name, leaf in flatten_dict(model.params, sep="/").items()}
        params |= what.more
        program = _exported(what, params)
        files = {
            ABOUT: json.dumps(_about(model, what, params, program), indent=2).encode(),
            PROGRAM: _serialized(program),
            TOKENIZER: model.tokenizer.to_json().encode(),
        }
        files |= {f"params/{name}.npy": _npy(array) for name, array in params.items()}
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file, zipfile.ZipFile(file, "w") as archive:
            for name, content in files.items():
                archive.writestr(zipfile.ZipInfo(name), content)  # of a fixed date
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error}") from error


def _exported(what: Program, params: dict[str, np.ndarray]) -> export.Exported:
    """Returns the program. Parameters are arguments: constants would be in it once more for every shape."""
    scope = export.SymbolicScope()
    arrays = [
        jax.ShapeDtypeStruct(export.symbolic_shape(shape, scope=scope), jnp.int32) for shape in what.shapes
    ]
    shapes = {name: jax.ShapeDtypeStruct(array.shape, array.dtype) for name, array in params.items()}
    with _no_source_lines():
        return export.export(jax.jit(what.function), platforms=PLATFORMS)(shapes, *arrays)


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
    model: Predictor | Tagger, what: Program, params: dict[str, np.ndarray], program: export.Exported
) -> dict[str, object]:
    return {
        "kind": what.kind,
        "format": FORMAT,
        **what.names,
        "call": what.call,
        "params": list(params),
        **what.reads,
        "buckets": model.buckets,
        "batch_size": model.config.batch.size,
        "step": model.step,
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
            return small and json.loads(archive.read(ABOUT))["kind"] in (CLASSIFIER, TAGGER)
    except (*DAMAGE, KeyError, TypeError, ValueError):
        return False
