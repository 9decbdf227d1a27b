"""What a person sees of long work: lines, and a bar on a terminal or in a notebook; or nothing."""

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TextIO

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

LOG = logging.getLogger("rnn_jax")  # gets the lines that `quiet` keeps off the screen
OFTEN = 0.2  # seconds between two pictures of a bar in a notebook, each of which is a message to the browser
_quiet: ContextVar[bool] = ContextVar("quiet", default=False)


@contextmanager
def quiet(wanted: bool = True) -> Iterator[None]:
    """Keeps lines and bars off the screen while it is open; the lines go to the logger "rnn_jax" instead.

    >>> with quiet():
    ...     tell("nobody reads this")
    >>> tell("this is read")
    this is read
    """
    token = _quiet.set(wanted or _quiet.get())
    try:
        yield
    finally:
        _quiet.reset(token)


def tell(message: str) -> None:
    """Prints a line on standard output, or hands it to the logger "rnn_jax" under `quiet`."""
    if _quiet.get():
        LOG.info(message)
    else:
        print(message, flush=True)


class Bar:
    """How much of a long work is done: a line that is drawn again and again, where a person looks at it.

    Use it as a context manager. Off a terminal and a notebook, and under `quiet`, it draws nothing.

    Attributes:
      live: whether there is something to draw on.

    >>> import io
    >>> with Bar(10, file=io.StringIO()) as bar:  # no terminal
    ...     bar.update(5)
    >>> bar.live
    False
    """

    def __init__(
        self,
        total: int | None,
        done: int = 0,
        after: float = 0.0,
        file: TextIO | None = None,
        show: bool = True,
    ):
        """Takes how much there is to do, None if that is not known, and how much is done.

        Args:
          total, done: counts of anything, such as steps or texts.
          after: seconds in which nothing is drawn: short work needs no bar.
          file: the terminal; None is standard output.
          show: False draws nothing.
        """
        self.begins, self.drawn, self.shown = time.monotonic() + after, 0.0, False
        self.picture: Any = None  # the notebook's
        self.notebook = self.live = False
        if not show or _quiet.get():  # and no time is spent on looking for a terminal
            return
        console = Console(file=file or sys.stdout)
        # Rich would need ipywidgets in a notebook; here the notebook shows the same table as HTML.
        self.notebook = Console().is_jupyter
        self.live = self.notebook or console.is_terminal
        self.progress = Progress(
            *_columns(total), console=console, disable=self.notebook or not self.live, transient=after > 0
        )
        self.task = self.progress.add_task("", total=total, completed=done, status="")

    def __enter__(self) -> "Bar":
        self._draw()
        return self

    def __exit__(self, *_: object) -> None:
        if self.live:
            self.progress.stop()
        if self.picture is not None:
            self.picture.update(self._table())

    def update(self, done: int, status: str = "") -> None:
        """Draws that so much is done, with a few words beside it."""
        if self.live:
            self.progress.update(self.task, completed=done, status=status)
            self._draw()

    def advance(self, more: int) -> None:
        """Draws that so much more is done."""
        if self.live:
            self.progress.advance(self.task, more)
            self._draw()

    def say(self, message: str) -> None:
        """Prints a line; on a terminal it stands above the bar."""
        if self.live and not self.notebook:
            self.progress.console.print(message, highlight=False, markup=False)
        else:
            tell(message)

    def _draw(self) -> None:
        now = time.monotonic()
        if not self.live or now < self.begins:
            return
        if not self.notebook and not self.shown:
            self.progress.start()
        elif self.notebook and now >= self.drawn + OFTEN:
            self._draw_in_notebook()
            self.drawn = now
        self.shown = True

    def _draw_in_notebook(self) -> None:
        from IPython.display import display

        if self.picture is None:
            self.picture = display(self._table(), display_id=True)
        else:
            self.picture.update(self._table())

    def _table(self) -> object:
        return self.progress.make_tasks_table(self.progress.tasks)


def _columns(total: int | None) -> list[ProgressColumn]:
    count = "{task.completed:,}" if total is None else "{task.completed}/{task.total}"
    last = TimeElapsedColumn() if total is None else TimeRemainingColumn()
    return [TextColumn(count), BarColumn(bar_width=30), TextColumn("{task.fields[status]}"), last]
