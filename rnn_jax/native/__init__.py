"""Kernels for CPUs and NVIDIA GPUs, built with the package where there is a compiler; how they are found."""

import ctypes
import os
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import jax

from rnn_jax.native.sources import digest

__all__ = ["cores", "describe", "library", "processor", "why_missing"]

SWITCH = "RNN_JAX_NATIVE"  # 0: no kernels; avx2 or portable: those of lesser processors
# Of a platform: the file, its functions by the names of XLA's calls, and what compiles it.
LIBRARIES = {
    "cpu": ("_kernels", ("rnn_jax_forward", "rnn_jax_backward", "rnn_jax_recurrence"), "C++ compiler"),
    "cuda": ("_persistent", ("rnn_jax_persistent_forward", "rnn_jax_persistent_backward"), "nvcc"),
}


@cache
def why_missing(platform: str = "cpu", dtype: str = "float32") -> str:
    """Returns why the kernels cannot be used, or "" where they can. The first call registers them with XLA.

    Args:
      platform: "cpu", the native kernels, or "cuda", the persistent ones.
      dtype: of the products' operands.

    >>> why_missing() == "" or "native" in why_missing()
    True
    >>> why_missing(dtype="float64")
    'native kernels do not multiply float64 numbers'
    """
    name, targets, compiler = LIBRARIES[platform]
    kernels = "native kernels" if platform == "cpu" else "persistent kernels"
    if platform == "cpu" and dtype == "bfloat16":
        lacks = "this processor does not multiply bfloat16 numbers"
        return why_missing() or ("" if has_bfloat16() else lacks)
    if dtype != "float32":
        return f"{kernels} do not multiply {dtype} numbers"
    if os.environ.get(SWITCH, "1") == "0":
        return f"{kernels} are turned off ({SWITCH}=0)"
    path = library(platform)
    if path is None:
        return f"{kernels} were not built: there was no {compiler} when rnn_jax was installed"
    try:
        loaded = ctypes.CDLL(str(path))
        if built_from(loaded) != digest(name):
            return f"{kernels} were built from other sources than those here: install rnn_jax again"
        for target in targets:
            capsule = jax.ffi.pycapsule(getattr(loaded, target))
            jax.ffi.register_ffi_target(target, capsule, platform=platform)
    except (OSError, AttributeError, RuntimeError) as error:  # of another JAX, or another machine
        return f"{kernels} cannot be loaded: {error}"
    return ""


def library(platform: str = "cpu") -> Path | None:
    """Returns the file of the kernels of a platform, or None if they were not built."""
    names = (f"{LIBRARIES[platform][0]}{suffix}" for suffix in EXTENSION_SUFFIXES)
    return next(filter(Path.is_file, map(Path(__file__).with_name, names)), None)


def built_from(loaded: ctypes.CDLL) -> int | None:
    """Returns the digest of the sources that a library was built from; None for one that does not say it."""
    found = getattr(loaded, "rnn_jax_sources", None)
    if found is None:
        return None
    found.restype = ctypes.c_uint64
    return int(found())


def processor() -> str:
    """Returns whose instructions the kernels use, such as "AVX-512"; "" where there are none."""
    if why_missing():
        return ""
    name = ctypes.CDLL(str(library())).rnn_jax_processor
    name.restype = ctypes.c_char_p
    return str(name().decode())


def has_bfloat16() -> bool:
    """Returns whether this processor multiplies bfloat16 numbers, with the kernels that were built."""
    found = ctypes.CDLL(str(library())).rnn_jax_has_bfloat16
    found.restype = ctypes.c_bool
    return bool(found())


def describe() -> str:
    """Returns a line for a log: whose instructions the kernels use, or why there are none.

    >>> "native kernels" in describe()
    True
    """
    reason = why_missing()
    return f"no kernels: {reason}" if reason else f"native kernels: {processor()}"


def cores() -> int:
    """Returns the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
