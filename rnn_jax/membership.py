"""Which of the processes of a run this one is: by flag, by JAX's environment variables, or by the cluster."""

import os
from collections.abc import Mapping
from typing import NamedTuple

from rnn_jax.errors import require

ADDRESS, COUNT, INDEX = "JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"
AUTO = "auto"


class Membership(NamedTuple):
    """One of the processes of a run: where they meet, how many they are, and which this one is."""

    coordinator: str
    processes: int | None  # None, as the next, where the cluster tells
    process: int | None


def membership(
    coordinator: str | None, count: int | None, index: int | None, environment: Mapping[str, str] = os.environ
) -> Membership | None:
    """Returns which of the processes this one is; None where it is the only one.

    Args:
      coordinator: host:port on which process 0 listens; "auto" to ask the cluster (SLURM, Open MPI,
        Kubernetes, TPU) as `jax.distributed.initialize` does. None takes that of the environment.
      count, index: the number of processes, and this one's, from 0.

    Raises:
      InputError: something is missing or out of range.
    """
    coordinator = coordinator or environment.get(ADDRESS)
    count = _number("--processes", count, COUNT, environment)
    index = _number("--process", index, INDEX, environment)
    if coordinator == AUTO or (coordinator, count, index) == (None, None, None):
        return Membership(AUTO, count, index) if coordinator else None
    given = {f"--coordinator ({ADDRESS})": coordinator, f"--processes ({COUNT})": count}
    given |= {f"--process ({INDEX})": index}
    missing = [name for name, value in given.items() if value is None]
    require(not missing, f"several processes need {', '.join(given)}; give {', '.join(missing)} too")
    host, _, port = str(coordinator).rpartition(":")
    require(
        bool(host) and port.isdecimal() and 0 < int(port) < 2**16,
        f"--coordinator is {coordinator!r}; give the host of process 0 and a free port: 10.0.0.1:1234",
    )
    require(count is not None and count > 0, f"--processes is {count}; give at least 1")
    require(
        index is not None and count is not None and 0 <= index < count,
        f"--process is {index}; of {count} processes it is one of 0 to {(count or 1) - 1}",
    )
    return Membership(str(coordinator), count, index) if count != 1 else None


def _number(flag: str, value: int | None, name: str, environment: Mapping[str, str]) -> int | None:
    text = environment.get(name)
    if value is not None or not text:
        return value
    require(text.isdecimal(), f"{name} is {text!r}; give a number, or {flag}")
    return int(text)
