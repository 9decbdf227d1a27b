"""Requests that come together are one batch; each gets its own answers, whatever happens to others."""

import asyncio
import threading
import time

import pytest

from rnn_jax.serving.batcher import Batcher
from rnn_jax.serving.limits import Refused


class Work:
    """Answers texts in upper case, and remembers what came together and in which threads."""

    def __init__(self, seconds=0.0):
        self.batches, self.threads, self.seconds = [], set(), seconds

    def __call__(self, texts):
        self.batches.append(len(texts))
        self.threads.add(threading.get_ident())
        time.sleep(self.seconds)
        if "fail" in texts:
            raise ValueError("failed")
        return [text.upper() for text in texts]


def run(work, ask, **options):
    async def whole():
        async with Batcher(work, **{"most": 8, "waiting": 100} | options) as batcher:
            return await ask(batcher)

    return asyncio.run(whole())


def test_each_request_gets_its_own_answers():
    async def ask(batcher):
        wanted = [[f"{number}-{place}" for place in range(number % 4)] for number in range(30)]
        return wanted, await asyncio.gather(*map(batcher.submit, wanted))

    work = Work()
    wanted, found = run(work, ask)
    assert found == [[text.upper() for text in texts] for texts in wanted]
    assert len(work.batches) < 15
    assert max(work.batches) < 8 + 4
    assert len(work.threads) == 1


def test_requests_within_the_wait_are_one_batch_and_later_ones_another():
    async def ask(batcher):
        await asyncio.gather(batcher.submit(["a"]), batcher.submit(["b"]))
        await batcher.submit(["c"])

    work = Work()
    run(work, ask)
    assert work.batches == [2, 1]


def test_what_comes_while_the_thread_works_is_the_next_batch():
    async def ask(batcher):
        first = asyncio.create_task(batcher.submit(["a"]))
        await asyncio.sleep(0.05)
        others = []
        for _ in range(5):
            others.append(asyncio.create_task(batcher.submit(["b"])))
            await asyncio.sleep(0.01)
        await asyncio.gather(first, *others)

    work = Work(seconds=0.3)
    run(work, ask)
    assert work.batches == [1, 5]


def test_a_failure_is_that_of_its_batch_alone():
    async def ask(batcher):
        with pytest.raises(ValueError, match="failed"):
            await batcher.submit(["fail"])
        return await batcher.submit(["fine"])

    assert run(Work(), ask) == ["FINE"]


def test_a_request_whose_client_has_gone_is_not_worked_on_and_frees_its_place():
    async def ask(batcher):
        first = asyncio.create_task(batcher.submit(["a"]))
        await asyncio.sleep(0.05)
        gone = asyncio.create_task(batcher.submit(["b", "c"]))
        await asyncio.sleep(0)
        gone.cancel()
        await first
        await batcher.submit(["d"])
        return batcher.waiting

    work = Work(seconds=0.2)
    assert run(work, ask) == 0
    assert work.batches == [1, 1]


def test_more_than_may_wait_is_refused_and_the_rest_is_answered():
    async def ask(batcher):
        first = asyncio.create_task(batcher.submit(["a"] * 3))
        await asyncio.sleep(0)
        with pytest.raises(Refused, match="3 texts are waiting already") as refused:
            await batcher.submit(["b"] * 2)
        return refused.value.status, await first

    assert run(Work(), ask, waiting=4) == (503, ["A"] * 3)


def test_a_request_larger_than_what_may_wait_is_answered_where_none_waits():
    """It was told to ask again in a second, for ever."""
    assert run(Work(), lambda batcher: batcher.submit(["a"] * 9), waiting=4) == ["A"] * 9


def test_the_end_waits_for_what_was_submitted():
    async def ask(batcher):
        return asyncio.create_task(batcher.submit(["a"])), await asyncio.sleep(0)

    work = Work(seconds=0.1)
    task, _ = run(work, ask)
    assert task.result() == ["A"]
