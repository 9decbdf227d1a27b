"""SIGTERM and Ctrl-C: a run that gets one finishes its step, saves, and then ends."""

import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any

import jax
from jax.experimental import multihost_utils

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Interrupted(Exception):
    """A run ended because of a signal, and all its work is saved.

    Attributes:
      step: the last step that was done, which is saved.
      signal: the number of the signal.

    >>> from rnn_jax.distributed import Interrupted
    >>> str(Interrupted(7, 15))
    'SIGTERM: ended after step 7, which is saved'
    """

    def __init__(self, step: int, number: int):
        super().__init__(f"{signal.Signals(number).name}: ended after step {step}, which is saved")
        self.step, self.signal = step, number


class Interruption:
    """Notes a SIGTERM or Ctrl-C, so that a loop can ask between two steps whether it has to end.

    A second signal acts as usual: it ends the process at once. Python delivers signals to the main thread
    alone, so in other threads nothing is noted. If there are several processes, a signal to one is for all:
    JAX notes SIGTERM, tells the other processes, and all agree on a step. Ctrl-C is passed on as SIGTERM.

    Attributes:
      signal: the number of the signal that came, 0 for none.

    >>> import signal
    >>> from rnn_jax.distributed import Interruption
    >>> with Interruption() as interruption:
    ...     for step in range(5):
    ...         if interruption.due(step):
    ...             break
    ...         if step == 2:  # a signal comes within this step
    ...             signal.raise_signal(signal.SIGTERM)
    >>> step, interruption.signal == signal.SIGTERM
    (3, True)
    """

    def __init__(self) -> None:
        self.signal = 0
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
        """Returns whether to end before step `step`, the same on all processes; steps have to increase."""
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
