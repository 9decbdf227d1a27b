"""Parameters as one file that other programs read: numpy's .npz or .safetensors, arrays named by their paths.

Neither format has code in it, as pickles do. For runs there are checkpoints (rnn_jax.checkpoints).
"""

import os
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO, TypeAlias

import numpy as np
import safetensors
import safetensors.numpy
from flax.traverse_util import flatten_dict, unflatten_dict

from rnn_jax.errors import InputError, choose, require
from rnn_jax.files import check_expansion, most_bytes, path_of, replacing
from rnn_jax.trees import Params

ArraysByPath: TypeAlias = dict[str, np.ndarray]
# In the metadata of .safetensors, which has none of its own, and the comment of .npz: of a zip archive's
# directory, in which a changed byte can hide arrays, nothing is checked.
CHECKSUM = "rnn_jax_crc32"
NUMBERS = "biufc"  # kinds of numpy's own types; bfloat16 is not one of them
INTEGERS = tuple(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))
SAFETENSORS = ("bfloat16", "float16", "float32", "float64", "complex64", "bool", *INTEGERS)


def save_params(path: str | Path, params: Mapping[str, object]) -> None:
    """Writes a tree of arrays, whole or not at all; a file that is there is replaced.

    An array's name is its path, "encoder/layers_0/cell/hi/kernel". A state dict is such a tree, too.

    Args:
      path: ends in .npz or in .safetensors, which alone can hold bfloat16.
      params: nested dicts of arrays of numpy or JAX.

    Raises:
      InputError: another ending, a tree that is no nested dict with names free of "/", an array that the
        format has no type for, or a path that cannot be written.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "params.npz")
    >>> save_params(path, {"head": {"bias": np.ones(2, np.float32)}})
    >>> np.load(path).files
    ['head/bias']
    """
    path = path_of(path)
    write, _ = choose("the ending of the path", path.suffix, PARAMETER_FORMATS)
    arrays = _flat(params)
    try:
        with replacing(path) as file:
            write(file, arrays)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error}") from error


def load_params(path: str | Path) -> Params:
    """Returns the tree of numpy arrays that `save_params`, or another program, wrote.

    Raises:
      InputError: another ending than .npz and .safetensors, or a file that is not of that format, is damaged,
        holds Python objects, or has an array and a folder of one name.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "params.npz")
    >>> save_params(path, {"head": {"bias": np.ones(2, np.float32)}})
    >>> load_params(path)
    {'head': {'bias': array([1., 1.], dtype=float32)}}
    """
    path = path_of(path)
    _, read = choose("the ending of the path", path.suffix, PARAMETER_FORMATS)
    try:
        arrays, checksum = read(path)
    except InputError:
        raise
    except Exception as error:  # the libraries raise a different class for each kind of damage
        raise InputError(
            f"{path} cannot be read as {path.suffix}: {type(error).__name__}: {error}"
        ) from error
    intact = checksum in (None, _checksum(arrays))
    require(intact, f"{path} is damaged: its checksum is not that of its arrays; get it again")
    return _nested(path, arrays)


def _flat(params: Mapping[str, object]) -> ArraysByPath:
    require(isinstance(params, Mapping), f"params is {type(params).__name__}; give a nested dict of arrays")
    flat = flatten_dict(dict(params), keep_empty_nodes=True)
    arrays = {}
    for path, leaf in flat.items():
        named = all(
            isinstance(name, str) and name.isprintable() and name and "/" not in name for name in path
        )
        require(named, f'params has {path}; give a nested dict, its names printable strings without "/"')
        require(
            isinstance(getattr(leaf, "dtype", None), np.dtype),
            f"{'/'.join(path)} is {type(leaf).__name__}; give arrays of numpy or JAX, and no empty dict",
        )
        array = np.array(leaf, order="C")
        arrays["/".join(path)] = array.astype(array.dtype.newbyteorder("="), copy=False)
    require(len(arrays) > 0, "params is empty; give a nested dict of arrays")
    return arrays


def _nested(path: Path, arrays: ArraysByPath) -> Params:
    for name in arrays:
        parts = name.split("/")
        folders = {"/".join(parts[:end]) for end in range(1, len(parts))}
        require(
            all(parts) and not folders & arrays.keys(),
            f"{path} has {name!r}, which is no path of a tree: a part is empty or an array itself",
        )
    return unflatten_dict(arrays, sep="/")


def _write_npz(file: BinaryIO, arrays: ArraysByPath) -> None:
    # Not np.savez: an array called "file" would be its argument, and bfloat16 be written as bytes of no type.
    with zipfile.ZipFile(file, "w") as archive:
        archive.comment = f"{CHECKSUM} {_checksum(arrays)}".encode()
        for name, array in arrays.items():
            require(
                array.dtype.kind in NUMBERS,
                f"{name} is {array.dtype}, which .npz has no type for; save as .safetensors, or as float32",
            )
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def _read_npz(path: Path) -> tuple[ArraysByPath, str | None]:
    # Not np.load: of arrays called "a" and "a.npy" it gives one for both.
    arrays = {}
    with zipfile.ZipFile(path) as archive:
        check_expansion(str(path), sum(entry.file_size for entry in archive.infolist()), most_bytes(path))
        _check_end(path, len(archive.comment))
        ours, _, checksum = archive.comment.decode("ascii", "replace").partition(" ")
        for name in archive.namelist():
            with archive.open(name) as member:
                array = np.lib.format.read_array(member, allow_pickle=False)
                require(not member.read(1), f"{path} has bytes after the array {name!r}")
            numbers = name.endswith(".npy") and array.dtype.kind in NUMBERS
            require(
                numbers, f"{path} has {name!r} of {array.dtype}; an .npz of .npy files of numbers is read"
            )
            arrays[name.removesuffix(".npy")] = array
    return arrays, checksum if ours == CHECKSUM else None


def _check_end(path: Path, comment_size: int) -> None:
    """Raises InputError where the comment is cut off, with the checksum: to zipfile it is a shorter one."""
    with path.open("rb") as file:
        file.seek(-comment_size - 2, os.SEEK_END)  # its size, two bytes, is before it
        size = int.from_bytes(file.read(2), "little")
    require(size == comment_size, f"{path} cannot be read as .npz: its end is cut off, or not its own")


def _write_safetensors(file: BinaryIO, arrays: ArraysByPath) -> None:
    for name, array in arrays.items():
        require(
            array.dtype.name in SAFETENSORS,
            f"{name} is {array.dtype}, but .safetensors has only {', '.join(SAFETENSORS)}",
        )
    file.write(safetensors.numpy.save(arrays, metadata={CHECKSUM: _checksum(arrays)}))


def _read_safetensors(path: Path) -> tuple[ArraysByPath, str | None]:
    with safetensors.safe_open(path, "numpy") as file:
        return file.get_tensors(), (file.metadata() or {}).get(CHECKSUM)


def _checksum(arrays: ArraysByPath) -> str:
    crc = 0
    for name, array in sorted(arrays.items()):
        header = f"{name} {array.dtype} {array.shape} ".encode()
        crc = zlib.crc32(array.tobytes(), zlib.crc32(header, crc))
    return f"{crc:08x}"


PARAMETER_FORMATS = {".npz": (_write_npz, _read_npz), ".safetensors": (_write_safetensors, _read_safetensors)}
