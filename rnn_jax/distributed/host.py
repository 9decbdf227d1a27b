"""The choices that depend on the machine: environment variables and the number of devices.

Every choice was measured (docs/performance.md), and a user can override it: a variable that is already set is
left alone, and `config.devices` gives the number of devices.
"""

import os
import platform
import sys

from rnn_jax.native import cores, why_missing

WIDE = 2048  # bytes of a row of units; from here on one fused CPU device for all cores beats one for each
DEVICE_COUNT_FLAG = "--xla_force_host_platform_device_count"
# Kernels may write several results: a step of these cells then starts fewer, and is 10 to 20 % faster.
# `jax.lax.associative_scan` is hundreds of times slower with it, so other cells and tasks do without.
FUSED_CELLS, FUSED_TASKS = ("simple", "lstm", "gru"), ("classify", "language", "tag")
FUSION_FLAG = "--xla_backend_extra_options"
FUSION = f"{FUSION_FLAG}=xla_cpu_use_multi_output_fusion=true"
# The process keeps freed memory, and gets memory in huge pages: fresh pages cost 10 to 18 % of a step. All
# threads share one arena: each of several arenas would keep the most that it ever held, and grow for hours.
ALLOCATOR = "glibc.malloc.hugetlb=1:glibc.malloc.arena_max=1:" + ":".join(
    f"glibc.malloc.{limit}={2**40}" for limit in ("mmap_threshold", "trim_threshold")
)


def cpu_devices(hidden: int, dtype: str = "float32", layer_norm: bool = False) -> int:
    """Returns the number of CPU devices for a network whose layers have `hidden` units.

    It is 1 where the native kernels run its layers: they share the rows of a batch among all cores, and no
    core waits for another within a layer. For the fused backend it is one for each core below 512 units in
    float32, or 1024 in bfloat16, and else 1. A narrow layer spends most of a step on waiting between cores,
    and separate devices do not wait for each other within a step. But each device reads its own copy of the
    weights. Copies of wide weights do not fit in the cache, and then all cores are faster on one product.
    """
    if not layer_norm and not why_missing(dtype=dtype):
        return 1
    return cores() if hidden * (2 if dtype == "bfloat16" else 4) < WIDE else 1


def fusion_pays(task: str, cell: str) -> bool:
    """Returns whether `FUSION` was measured to pay for a config's task and cell: for the library's own."""
    return task in FUSED_TASKS and cell in FUSED_CELLS


def environment(devices: int = 0, fusion: bool = True) -> dict[str, str]:
    """Returns the variables to set before Python starts, for this many CPU devices; 0 is one for each core.

    It leaves out variables that the user has set, flags that XLA_FLAGS already has, and `FUSION` on request.
    """
    chosen = {}
    flags = os.environ.get("XLA_FLAGS", "")
    wanted = {DEVICE_COUNT_FLAG: f"{DEVICE_COUNT_FLAG}={devices or cores()}"}
    wanted |= {FUSION_FLAG: FUSION} if fusion else {}
    missing = [setting for flag, setting in wanted.items() if flag not in flags]
    if missing:
        chosen["XLA_FLAGS"] = " ".join([flags, *missing]).strip()
    if platform.libc_ver()[0] == "glibc" and "GLIBC_TUNABLES" not in os.environ:
        chosen["GLIBC_TUNABLES"] = ALLOCATOR
    return chosen


def restart(
    devices: int, hidden: int, dtype: str = "float32", layer_norm: bool = False, fusion: bool = True
) -> None:
    """Starts the command again with the variables of `environment`, unless they are set already."""
    usable = isinstance(devices, int) and devices >= 0 and isinstance(hidden, int)
    missing = environment(devices or cpu_devices(hidden, dtype, layer_norm), fusion) if usable else {}
    if missing:
        sys.stdout.flush()
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], os.environ | missing)


def describe_environment() -> str:
    """Returns the values that this process has for the variables of `environment`, for a log."""
    return ", ".join(f"{name}={os.environ.get(name, '')}" for name in ("XLA_FLAGS", "GLIBC_TUNABLES"))
