"""Kernels in C++ for CPUs, built with the package where there is a compiler; how they are found."""

import ctypes
import os
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import jax

__all__ = ["cores", "describe", "library", "processor", "why_missing"]

SWITCH = "RNN_JAX_NATIVE"  # 0: no kernels; avx2 or portable: those of lesser processors
TARGETS = ("rnn_jax_forward", "rnn_jax_backward")  # names of functions of the library, and of XLA's calls


@cache
def why_missing(dtype: str = "float32") -> str:
    """Returns why there are no kernels whose products have operands of `dtype`, or "" where there are.

    The first call registers the kernels with XLA.

    >>> why_missing() == "" or "native" in why_missing()
    True
    >>> why_missing("float64")
    'native kernels multiply float32 or bfloat16 numbers, and not float64'
    """
    if dtype not in ("float32", "bfloat16"):
        return f"native kernels multiply float32 or bfloat16 numbers, and not {dtype}"
    if dtype == "bfloat16":
        return why_missing() or (
            "" if has_bfloat16() else "this processor does not multiply bfloat16 numbers"
        )
    if os.environ.get(SWITCH, "1") == "0":
        return f"native kernels are turned off ({SWITCH}=0)"
    path = library()
    if path is None:
        return "native kernels were not built: there was no C++ compiler when rnn_jax was installed"
    try:
        loaded = ctypes.CDLL(str(path))
        for name in TARGETS:
            jax.ffi.register_ffi_target(name, jax.ffi.pycapsule(getattr(loaded, name)), platform="cpu")
    except (OSError, AttributeError, RuntimeError) as error:  # of another JAX, or another machine
        return f"native kernels cannot be loaded: {error}"
    return ""


def library() -> Path | None:
    """Returns the file of the kernels, or None if they were not built."""
    names = (f"_kernels{suffix}" for suffix in EXTENSION_SUFFIXES)
    return next(filter(Path.is_file, map(Path(__file__).with_name, names)), None)


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
