"""Several processes, such as one on each host, train one network: how they meet, and how they end together.

If a process is lost, JAX ends the others, but late, or with no message except a stack trace. So each process
reports every few seconds that it is alive, and a process that fails tells the others why.
"""

import atexit
import itertools
import os
import re
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import jax
from jax._src.distributed import global_state  # the coordination service's client, which JAX does not export
from jax.errors import JaxRuntimeError

from rnn_jax.distributed.preemption import Interrupted
from rnn_jax.errors import InputError, require

ADDRESS, COUNT, INDEX = "JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"
AUTO = "auto"


class Membership(NamedTuple):
    """One of several processes of a run, as `membership` returns it.

    Attributes:
      coordinator: host:port on which process 0 listens, or "auto" to ask the cluster.
      processes: the number of processes, at least 2; None if the cluster says it.
      process: the number of this one, from 0; None if the cluster says it.

    >>> from rnn_jax.distributed import Membership
    >>> Membership("10.0.0.1:1234", processes=2, process=0).coordinator
    '10.0.0.1:1234'
    """

    coordinator: str
    processes: int | None
    process: int | None


def membership(
    coordinator: str | None, count: int | None, index: int | None, environment: Mapping[str, str] = os.environ
) -> Membership | None:
    """Returns which of the processes this one is; None if it is the only one.

    Args:
      coordinator: host:port on which process 0 listens; "auto" asks the cluster (SLURM, Open MPI,
        Kubernetes, TPU) as `jax.distributed.initialize` does. None takes JAX_COORDINATOR_ADDRESS.
      count: the number of processes, at least 1; None takes JAX_NUM_PROCESSES.
      index: the number of this process, from 0 to count - 1; None takes JAX_PROCESS_ID.
      environment: where those variables are.

    Raises:
      InputError: one of the three is missing or out of its range.

    >>> from rnn_jax.distributed import membership
    >>> membership("10.0.0.1:1234", 2, None, {"JAX_PROCESS_ID": "1"})
    Membership(coordinator='10.0.0.1:1234', processes=2, process=1)
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


BEAT, SILENCE, HEARTBEAT = 2.0, 20.0, 45  # seconds: between signs of life; without one; JAX's own limit
PATIENCE = 300.0  # seconds until all have come
BEATS, LOST = "rnn_jax/alive", "rnn_jax/lost"
ADVICE = (
    "every process ends; start all again with the same command, and the run goes on from its last checkpoint"
)


class PeerLostError(ConnectionError):
    """Another process has ended or cannot be reached, so this one cannot go on.

    >>> from rnn_jax.distributed import PeerLostError
    >>> issubclass(PeerLostError, ConnectionError)
    True
    """


@contextmanager
def joined(member: Membership | None, patience: float = PATIENCE) -> Iterator[None]:
    """A context in which this process has met the others; enter it before any computation.

    If the body fails, the other processes are told why. Then this process ends without JAX's shutdown, which
    would wait for processes that are gone.

    Args:
      member: as `membership` returns it; None, for a process alone, does nothing.
      patience: seconds, above 0, to wait until all processes have come.

    Raises:
      InputError: the processes cannot meet.
      PeerLostError: another process was lost while this one waited for it.

    >>> from rnn_jax.distributed import joined, membership
    >>> with joined(membership(None, None, None, environment={})):
    ...     print("trains alone")
    trains alone
    """
    if member is None:
        yield
        return
    _meet(member, patience)
    watch = Watch()
    try:
        yield
    except Interrupted:  # all end together
        watch.leave()
        raise
    except BaseException as error:
        atexit.register(end_alone)
        lost = watch.tell(error)
        if lost:
            raise PeerLostError(f"{lost}: {ADVICE}") from error
        raise
    watch.leave()


def _meet(member: Membership, patience: float) -> None:
    """Joins JAX's distributed service; if not all come in time, ends the process with a message."""
    place = "" if member.coordinator == AUTO else f" at {member.coordinator}"
    number = "?" if member.process is None else member.process
    print(
        f"process {number} of {member.processes or '?'} waits for the others{place}",
        file=sys.stderr,
        flush=True,
    )
    late = threading.Timer(
        patience,
        _say_and_end,
        [
            f"process {number}: not all of {member.processes or 'the'} processes have come{place} within "
            f"{patience:.0f} s; start each with the same --coordinator and --processes, and its own --process"
        ],
    )
    late.daemon = True
    late.start()
    try:
        jax.distributed.initialize(
            None if member.coordinator == AUTO else member.coordinator,
            member.processes,
            member.process,
            initialization_timeout=int(patience) + 60,
            heartbeat_timeout_seconds=HEARTBEAT,
            shutdown_timeout_seconds=30,
        )
    except (RuntimeError, ValueError) as error:
        atexit.register(end_alone)
        raise InputError(f"the processes cannot meet{place}: {error}") from error
    finally:
        late.cancel()


class Roll:
    """The time at which each process last reported that it is alive."""

    def __init__(self, count: int, now: float):
        self.heard = {str(index): ("", now) for index in range(count)}

    def silent(self, beats: Mapping[str, str], now: float) -> list[str]:
        """Takes the last sign of each process, and returns those that gave no other for too long."""
        for index, beat in beats.items():
            if self.heard[index][0] != beat:
                self.heard[index] = beat, now
        return [index for index, (_, when) in self.heard.items() if now - when > SILENCE]


class Watch:
    """A thread that reports that this process is alive, and ends the process when another is lost."""

    def __init__(self) -> None:
        self.client: Any = global_state.client
        self.index = global_state.process_id
        self.roll = Roll(global_state.num_processes, time.monotonic())
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def stop(self) -> None:
        """Ends the watch."""
        self.stopped.set()
        self.thread.join()

    def leave(self) -> None:
        """Ends the watch, and leaves JAX's service together with the others."""
        self.stop()
        jax.distributed.shutdown()

    def tell(self, error: BaseException) -> str:
        """Tells the others of an error. If a lost process caused it, returns which one; else returns ""."""
        self.stop()
        if not _is_of_a_reduction(error):
            reason = f"error: {str(error) or type(error).__name__}"
            with suppress(JaxRuntimeError):
                self.client.key_value_set(f"{LOST}/{self.index}", reason, allow_overwrite=True)
            return ""
        for _ in range(4):  # a process that failed is telling its error about now
            if lost := self._lost():
                return lost
            time.sleep(0.5)
        return f"another process has ended or is out of reach ({str(error).strip().splitlines()[0]})"

    def _run(self) -> None:
        for number in itertools.count():
            if self.stopped.wait(BEAT):
                return
            lost = self._lost(str(number))
            if lost and not self.stopped.is_set():
                _say_and_end(f"error: {lost}: {ADVICE}")

    def _lost(self, beat: str = "") -> str:
        """Reports that this process is alive; returns which processes are lost and why, "" for none."""
        try:
            if beat:
                self.client.key_value_set(f"{BEATS}/{self.index}", beat, allow_overwrite=True)
            if beat and self.index == 0:
                beats = {key.rpartition("/")[2]: value for key, value in self.client.key_value_dir_get(BEATS)}
                for index in self.roll.silent(beats, time.monotonic()):
                    reason = f"gave no sign of life for {SILENCE:.0f} s"
                    self.client.key_value_set(f"{LOST}/{index}", reason, allow_overwrite=True)
            lost = self.client.key_value_dir_get(LOST)
        except JaxRuntimeError:
            return "process 0, where all meet, has ended or is out of reach"
        return "; ".join(f"process {key.rpartition('/')[2]} ended: {reason}" for key, reason in lost)


def _is_of_a_reduction(error: BaseException) -> bool:
    """Returns whether XLA says that processes cannot reach each other; XLA has no error class for that."""
    status = re.match("([A-Z_]+): ", str(error))
    usual = isinstance(error, ValueError | RuntimeError) and not isinstance(error, InputError)
    return usual and status is not None and status[1] != "RESOURCE_EXHAUSTED"


def _say_and_end(message: str) -> None:
    """Prints a message and ends this process, from any thread, even if the main thread waits for others."""
    os.write(2, f"{message}\n".encode())
    end_alone()


def end_alone() -> None:
    """Ends this process with exit code 1, without waiting for the others as JAX would."""
    if global_state.process_id == 0 and global_state.client:
        time.sleep(2 * BEAT)  # the others read here why
    sys.stdout.flush()
    os._exit(1)
