"""Processes that train, and what is done to them: signals, a full or read-only disk, a clock that jumps."""

import ctypes
import os
import resource
import socket
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rnn_jax.checkpoints.orbax_store import Store
from rnn_jax.distributed.preemption import Interrupted
from rnn_jax.distributed.processes import Membership, end_alone, joined
from rnn_jax.training.logger import Meter
from rnn_jax.training.loop import train_and_evaluate
from tests.helpers.devices import flags_for

Act = Callable[[], None]


class Child:
    """A training process, forked from this one, which has imported everything and started nothing.

    `member` says which of several processes it is; None, and it trains alone.
    """

    def __init__(self, settings: Any, workdir: Path, fault: Act, member: Membership | None = None):
        self.member = member
        self.output, log = os.pipe()  # no file: what fills the disk would cut it short
        self.pid = os.fork()
        if not self.pid:
            self._run(settings, workdir, fault, log)
        os.close(log)

    def _run(self, settings: Any, workdir: Path, fault: Act, log: int) -> None:
        code = 1
        try:
            os.dup2(log, 1)
            os.dup2(log, 2)
            fault()
            with joined(self.member):
                train_and_evaluate(settings, workdir)
            code = 0
        except Interrupted as interrupted:
            print(interrupted, flush=True)
            code = 128 + interrupted.signal
        except Exception as error:
            print(f"{type(error).__name__}: {error}", flush=True)
            if self.member:
                end_alone()
        finally:
            os._exit(code)

    def wait(self) -> int:
        """Returns the exit code; of a signal that killed it, minus its number."""
        with open(self.output) as output:  # until it ends: a full pipe would have it wait for ever
            self.said = output.read()
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        self.ended = time.monotonic()
        return code


def together(
    settings: Any, workdir: Path, count: int, devices: int = 1, faults: Mapping[int, Act] | None = None
) -> list[Child]:
    """Starts processes that train together, each on so many CPU devices, with a fault in some of them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = f"127.0.0.1:{free.getsockname()[1]}"

    def start(index: int) -> Child:
        def prepare() -> None:
            os.environ["XLA_FLAGS"] = flags_for(devices)
            (faults or {}).get(index, lambda: None)()

        return Child(settings, workdir, prepare, Membership(place, count, index) if count > 1 else None)

    return [start(index) for index in range(count)]


def later(seconds: float, act: Act) -> Act:
    """Returns a fault: `act` after so much time."""
    return lambda: threading.Timer(seconds, act).start()


def at_step(step: int, act: Act) -> Act:
    """Returns a fault: `act` once the step has been handed to the device."""

    def arm():
        push = Meter.push

        def pushed(self, number, *others):
            if number == step:
                act()
            push(self, number, *others)

        Meter.push = pushed

    return arm


def at_save(count: int, delay: float, act: Act) -> Act:
    """Returns a fault: `act` a while after the save of that number began."""
    left = [count]

    def arm():
        write = Store.write

        def written(self, *arguments):
            left[0] -= 1
            if left[0] == 0:
                threading.Timer(delay, act).start() if delay else act()
            write(self, *arguments)

        Store.write = written

    return arm


def send(number: int) -> Act:
    """Returns a function that sends this process a signal."""
    return lambda: os.kill(os.getpid(), number)


def fill_disk(size: int) -> Act:
    """Returns a function after which no file of this process can grow beyond `size` bytes."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def obey_modes() -> None:
    """From now on this thread, and those it starts, may write where the modes of files say so, as root too.

    Linux alone: capset(2) takes CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH and CAP_FOWNER away.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    header, sets = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    libc.capget(header, sets)
    sets[0] &= ~0b1110  # of the effective set
    if libc.capset(header, sets):
        raise OSError(ctypes.get_errno(), "capset failed")


def lock_folder(folder: Path, locked: bool) -> None:
    """Makes all that is in a folder, and the folder, read-only, or writable again."""
    for path in (folder, *folder.rglob("*")):
        path.chmod((0o555 if path.is_dir() else 0o444) if locked else (0o755 if path.is_dir() else 0o644))


def jump(seconds: float) -> Act:
    """Returns a fault: the clock is wrong by so much."""

    def arm():
        now, now_ns = time.time, time.time_ns
        time.time = lambda: now() + seconds
        time.time_ns = lambda: now_ns() + int(seconds * 1e9)

    return arm
