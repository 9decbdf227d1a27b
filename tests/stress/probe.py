"""The training program, which writes down what it holds: `python -m tests.stress.probe --config=...`.

At each line of train metrics a JSON line goes to the file that the variable PROBE names: live JAX arrays, the
objects that Python's collector knows, and MiB that malloc has given out and has taken from the system.
"""

import ctypes
import gc
import json
import os
import sys
import time

import jax

from rnn_jax.cli import main
from rnn_jax.training.logger import Journal

FILE = "PROBE"
FIELDS = (
    *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
    *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
)


class MallInfo(ctypes.Structure):
    """What glibc's mallinfo2 returns, summed over its arenas."""

    _fields_ = [(field, ctypes.c_size_t) for field in FIELDS]


def malloc_sizes() -> dict[str, float]:
    """Returns the MiB that malloc has given out and not got back, and those it has; nothing without glibc."""
    mallinfo = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if mallinfo is None:
        return {}
    mallinfo.restype = MallInfo
    info = mallinfo()
    return {"allocated": (info.uordblks + info.hblkhd) / 2**20, "heap": (info.arena + info.hblkhd) / 2**20}


def holdings() -> dict[str, float]:
    """Returns what this process holds."""
    arrays = jax.live_arrays()
    size = sum(array.nbytes for array in arrays) / 2**20
    return {"arrays": len(arrays), "array_size": size, "objects": len(gc.get_objects()), **malloc_sizes()}


def watch(path: str) -> None:
    """From now on every train line is followed by a line of holdings in the file."""
    record = Journal.record

    def recorded(self, step, split, values):
        record(self, step, split, values)
        if split == "train":
            with open(path, "a") as file:
                file.write(json.dumps({"time": time.time(), "step": step, **holdings()}) + "\n")

    Journal.record = recorded  # type: ignore[method-assign]


if __name__ == "__main__":
    watch(os.environ[FILE])
    main(["train", *sys.argv[1:]])
