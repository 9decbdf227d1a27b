"""What is chosen for the machine, all of it here: processes' variables, devices, chunks, what is kept.

Every choice was measured (docs/performance.md) and can be overridden: a variable that is already set is left
alone, `config.devices` gives the number of devices, `RNN(remat=)` what is kept.
"""

import os
import platform
import sys

WIDE = 2048  # bytes of a row of units from which one CPU device for all cores beats a device for each
DEVICE_COUNT_FLAG = "--xla_force_host_platform_device_count"
# A kernel may write several results: a step of the recurrence dispatches fewer, and is up to 25 % faster.
FUSION_FLAG = "--xla_backend_extra_options"
FUSION = f"{FUSION_FLAG}=xla_cpu_use_multi_output_fusion=true"
# Freed memory stays with the process and comes in huge pages: fresh pages cost a quarter of a step. One arena
# holds it for all threads: several, each of which keeps the most that it ever held, grow for hours.
ALLOCATOR = "glibc.malloc.hugetlb=1:glibc.malloc.arena_max=1:" + ":".join(
    f"glibc.malloc.{limit}={2**40}" for limit in ("mmap_threshold", "trim_threshold")
)


def cpu_devices(hidden: int, dtype: str = "float32") -> int:
    """Returns the number of CPU devices for a layer of so many units: one for each core, up to WIDE.

    That is below 512 units in float32, and below 1024 in bfloat16.

    Devices have nothing to wait for within a step, which is most of a narrow layer's time. But each reads
    weights of its own; wide ones leave the cache, and then the cores do better together on one product.
    """
    return cores() if hidden * (2 if dtype == "bfloat16" else 4) < WIDE else 1


def environment(devices: int = 0) -> dict[str, str]:
    """Returns the variables to set before Python starts, for so many CPU devices; 0 is one for each core.

    Variables that the user has set are not among them, nor are flags that are in XLA_FLAGS already.
    """
    chosen = {}
    flags = os.environ.get("XLA_FLAGS", "")
    wanted = {DEVICE_COUNT_FLAG: f"{DEVICE_COUNT_FLAG}={devices or cores()}", FUSION_FLAG: FUSION}
    missing = [setting for flag, setting in wanted.items() if flag not in flags]
    if missing:
        chosen["XLA_FLAGS"] = " ".join([flags, *missing]).strip()
    if platform.libc_ver()[0] == "glibc" and "GLIBC_TUNABLES" not in os.environ:
        chosen["GLIBC_TUNABLES"] = ALLOCATOR
    return chosen


def restart(devices: int, hidden: int, dtype: str = "float32") -> None:
    """Starts the command again in `environment(devices or cpu_devices(...))`, unless it is in it."""
    usable = isinstance(devices, int) and devices >= 0 and isinstance(hidden, int)
    missing = environment(devices or cpu_devices(hidden, dtype)) if usable else {}
    if missing:
        sys.stdout.flush()
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], os.environ | missing)


def describe_environment() -> str:
    """Returns the variables as this process has them."""
    return ", ".join(f"{name}={os.environ.get(name, '')}" for name in ("XLA_FLAGS", "GLIBC_TUNABLES"))


def cores() -> int:
    """Returns the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
