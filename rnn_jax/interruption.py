"""SIGTERM and Ctrl-C: asked to end, a run ends its step, saves, and only then ends."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

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
    """Notes that a signal came: `with Interruption() as interruption: ... if interruption.signal: ...`.

    The second one acts as if there were no first. Outside the main thread signals do not arrive, as Python
    has it, and nothing is noted.
    """

    def __init__(self) -> None:
        self.signal = 0  # the number of the one that came
        self.before: dict[int, Any] = {}

    def __enter__(self) -> "Interruption":
        if threading.current_thread() is threading.main_thread():
            self.before = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._give_back()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.signal = number
        self._give_back()

    def _give_back(self) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)
        self.before = {}
