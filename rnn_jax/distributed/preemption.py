"""SIGTERM and Ctrl-C: asked to end, a run ends its step, saves, and only then ends."""

import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any

import jax
from jax.experimental import multihost_utils

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Interrupted(Exception):
    """A run was asked to end and did, with all that it had done saved.

    Attributes:
      step: the last one, which is saved.
      signal: the number of the signal that asked.
    """

    def __init__(self, step: int, number: int):
        super().__init__(f"{signal.Signals(number).name}: ended after step {step}, which is saved")
        self.step, self.signal = step, number


class Interruption:
    """Notes that a signal came: `with Interruption() as interruption: ... if interruption.due(step): ...`.

    The second one acts as if there were no first. Outside the main thread signals do not arrive, as Python
    has it, and nothing is noted.

    With several processes a signal to one is for all of them. JAX notes SIGTERM, tells the others and has
    them agree on a step; Ctrl-C becomes a SIGTERM.
    """

    def __init__(self) -> None:
        self.signal = 0  # the number of the one that came
        self.before: dict[int, Any] = {}

    def __enter__(self) -> "Interruption":
        if threading.current_thread() is threading.main_thread():
            several = jax.process_count() > 1
            self.before = {
                number: signal.signal(number, self._pass_on if several else self._note)
                for number in (SIGNALS[1:] if several else SIGNALS)
            }
        return self

    def due(self, step: int) -> bool:
        """Returns whether to end before this step begins, the same on all processes. Steps have to rise."""
        if jax.process_count() > 1 and multihost_utils.reached_preemption_sync_point(step):
            self.signal = int(signal.SIGTERM)
        return bool(self.signal)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._give_back()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.signal = number
        self._give_back()

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        self._give_back()
        os.kill(os.getpid(), signal.SIGTERM)

    def _give_back(self) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)
        self.before = {}
