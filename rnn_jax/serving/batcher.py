"""Requests answered together: texts that come within a few milliseconds of each other are one batch."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Generic, NamedTuple, TypeVar

from rnn_jax.serving.limits import busy

Answer = TypeVar("Answer")
Result = TypeVar("Result")

WAIT = 0.005  # seconds that the first of a batch waits for others


class _Request(NamedTuple):
    texts: list[str]
    answers: "asyncio.Future[list]"
    arrived: float


class Batcher(Generic[Answer]):
    """One thread that works through the texts of all requests, together where they come together.

    While the thread works, requests gather, so that under load batches are full and nobody waits for WAIT.

    >>> async def ask():
    ...     batcher = Batcher(lambda texts: [text.upper() for text in texts], most=256, waiting=1000)
    ...     async with batcher:
    ...         return await asyncio.gather(batcher.submit(["a", "b"]), batcher.submit(["c"]))
    >>> asyncio.run(ask())
    [['A', 'B'], ['C']]
    """

    def __init__(self, work: Callable[[list[str]], list[Answer]], most: int, waiting: int):
        """Takes the work and its bounds.

        Args:
          work: returns an answer for each text; it runs in the thread.
          most: texts at which a batch waits for no others; the last request may go beyond.
          waiting: texts that may wait; a request beyond them is refused, unless none wait.
        """
        self._work, self._most, self._most_waiting = work, most, waiting
        self._requests: asyncio.Queue[_Request] = asyncio.Queue()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="rnn_jax")
        self.waiting = 0

    async def __aenter__(self) -> "Batcher[Answer]":
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        """Ends when all that was submitted is answered."""
        await self._requests.join()
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        self._thread.shutdown()

    async def submit(self, texts: list[str]) -> list[Answer]:
        """Returns an answer for each text. Raises Refused where too many wait, else what `work` raises."""
        if self.waiting and self.waiting + len(texts) > self._most_waiting:
            raise busy(f"{self.waiting:,} texts are waiting already")
        loop = asyncio.get_running_loop()
        request = _Request(texts, loop.create_future(), loop.time())
        self.waiting += len(texts)
        self._requests.put_nowait(request)
        return await request.answers

    async def alone(self, function: Callable[..., Result], *arguments: object) -> Result:
        """Returns what a function returns that runs in the thread between two batches."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)

    async def _run(self) -> None:
        while True:
            requests = await self._gather(await self._requests.get())
            # A client that has gone, or whose time is over, has cancelled its future.
            asked = [request for request in requests if not request.answers.done()]
            if asked:
                await self._answer(asked)
            for request in requests:
                self.waiting -= len(request.texts)
                self._requests.task_done()

    async def _gather(self, first: _Request) -> list[_Request]:
        requests, count = [first], len(first.texts)
        end = first.arrived + WAIT
        while count < self._most:
            left = end - asyncio.get_running_loop().time()
            try:
                waits = left > 0 and self._requests.empty()
                get = asyncio.wait_for(self._requests.get(), left) if waits else None
                request = await get if get else self._requests.get_nowait()
            except (TimeoutError, asyncio.QueueEmpty):
                break
            requests.append(request)
            count += len(request.texts)
        return requests

    async def _answer(self, requests: list[_Request]) -> None:
        texts = [text for request in requests for text in request.texts]
        try:
            answers = await self.alone(self._work, texts)
        except Exception as error:
            for request in requests:
                if not request.answers.done():
                    request.answers.set_exception(error)
            return
        start = 0
        for request in requests:
            part = answers[start : start + len(request.texts)]
            start += len(request.texts)
            if not request.answers.done():
                request.answers.set_result(part)
