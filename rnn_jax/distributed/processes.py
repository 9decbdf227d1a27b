"""Several processes, such as one on each host, that train one network: how they meet, and end together.

JAX ends all processes when one is lost, but late, or with a stack trace alone. So each says every few seconds
that it is alive, and one that has to end tells the others why.
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


BEAT, SILENCE, HEARTBEAT = 2.0, 20.0, 45  # seconds: between signs of life; without one; JAX's own limit
PATIENCE = 300.0  # seconds until all have come
BEATS, LOST = "rnn_jax/alive", "rnn_jax/lost"
ADVICE = (
    "every process ends; start all again with the same command, and the run goes on from its last checkpoint"
)


class PeerLostError(ConnectionError):
    """Another process has ended or cannot be reached, so that this one cannot go on."""


@contextmanager
def joined(member: Membership | None, patience: float = PATIENCE) -> Iterator[None]:
    """Has this process meet the others, before any computation, and tells them if it fails.

    After a failure the process ends without JAX's own end, which would wait for those that do not come.

    Raises:
      InputError: they cannot meet.
      PeerLostError: another process was lost while this one waited for it.
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
    """Joins JAX's distributed service; ends the process with a message where not all come in time."""
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
    """When a sign of life of each process was last heard."""

    def __init__(self, count: int, now: float):
        self.heard = {str(index): ("", now) for index in range(count)}

    def silent(self, beats: Mapping[str, str], now: float) -> list[str]:
        """Takes the last sign of each process, and returns those that gave no other for too long."""
        for index, beat in beats.items():
            if self.heard[index][0] != beat:
                self.heard[index] = beat, now
        return [index for index, (_, when) in self.heard.items() if now - when > SILENCE]


class Watch:
    """A thread that says that this process is alive, and ends it when another is lost."""

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
        """Tells the others of an error; returns which process is lost, where that is what it comes from."""
        self.stop()
        if not _is_of_a_reduction(error):
            reason = f"error: {str(error) or type(error).__name__}"
            with suppress(JaxRuntimeError):
                self.client.key_value_set(f"{LOST}/{self.index}", reason, allow_overwrite=True)
            return ""
        for _ in range(4):  # one that has an error to tell does so about now
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
        """Gives a sign of life, and returns which processes are lost and why; "" for none."""
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
    """Returns whether XLA says that processes cannot reach each other; it has no class of errors for that."""
    status = re.match("([A-Z_]+): ", str(error))
    usual = isinstance(error, ValueError | RuntimeError) and not isinstance(error, InputError)
    return usual and status is not None and status[1] != "RESOURCE_EXHAUSTED"


def _say_and_end(message: str) -> None:
    """Ends this process from any thread; one that waits for others cannot be asked to."""
    os.write(2, f"{message}\n".encode())
    end_alone()


def end_alone() -> None:
    """Ends this process with exit code 1, and does not wait for the others as JAX would."""
    if global_state.process_id == 0 and global_state.client:
        time.sleep(2 * BEAT)  # the others read here why
    sys.stdout.flush()
    os._exit(1)
