from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from gpuyard import errors
from gpuyard.client.supervision import ObjectReference, Supervisor
from gpuyard.client.workqueue import WorkQueue
from gpuyard.kube.objects import CONFIG_MAPS, ObjectKey


class Desk:
    """What a queue hands out, and what is made of it."""

    def __init__(self) -> None:
        self.handled: list[str] = []
        self.outcomes: dict[str, list[float | Exception | None]] = {}
        self.most_at_once: Counter[str] = Counter()
        self.busy: Counter[str] = Counter()
        self.gate = asyncio.Event()
        self.gate.set()
        self._news = asyncio.Condition()
        self.queue = WorkQueue(
            "test",
            self.reconcile,
            Supervisor(),
            lambda key: ObjectReference(CONFIG_MAPS, ObjectKey("default", key)),
        )

    async def reconcile(self, key: str) -> float | None:
        for counted in (key, "all"):
            self.busy[counted] += 1
            self.most_at_once[counted] = max(self.most_at_once[counted], self.busy[counted])
        try:
            self.handled.append(key)
            async with self._news:
                self._news.notify_all()
            await self.gate.wait()
            outcome = self.outcomes[key].pop(0) if self.outcomes.get(key) else None
            if isinstance(outcome, Exception):
                raise outcome
            return outcome
        finally:
            self.busy.subtract((key, "all"))

    async def until(self, *handled: str) -> None:
        """Waits until exactly these have been handed out, in this order."""
        async with asyncio.timeout(60), self._news:
            await self._news.wait_for(lambda: len(self.handled) >= len(handled))
        assert tuple(self.handled) == handled


@pytest.fixture
async def desk() -> Desk:
    return Desk()


@contextlib.asynccontextmanager
async def running(desk: Desk, workers: int = 1) -> AsyncIterator[None]:
    task = asyncio.create_task(desk.queue.run(workers), name="queue")
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_a_key_that_waits_is_handed_out_once(desk: Desk) -> None:
    for key in ("a", "b", "a", "a"):
        desk.queue.add(key)
    async with running(desk):
        await desk.until("a", "b")
        desk.queue.add("c")
        await desk.until("a", "b", "c")


async def test_a_key_added_while_it_is_handled_comes_once_more(desk: Desk) -> None:
    desk.gate.clear()
    desk.queue.add("a")
    async with running(desk, workers=3):
        await desk.until("a")
        desk.queue.add("a")
        desk.queue.add("a")
        desk.queue.add("b")
        await desk.until("a", "b")
        desk.gate.set()
        await desk.until("a", "b", "a")
        desk.queue.add("c")
        await desk.until("a", "b", "a", "c")
    assert desk.most_at_once["a"] == 1
    assert desk.most_at_once["all"] == 2


async def test_comes_back_after_the_delay_it_asked_for(desk: Desk) -> None:
    desk.outcomes = {"a": [0.01, 0.0]}
    desk.queue.add("a")
    async with running(desk):
        await desk.until("a", "a", "a")


async def test_the_earlier_of_two_delays_wins(desk: Desk) -> None:
    async with running(desk):
        desk.queue.add_after("a", 3600)
        desk.queue.add_after("a", 0.01)
        desk.queue.add_after("a", 3600)
        await desk.until("a")


async def test_adding_at_once_replaces_the_delay(desk: Desk) -> None:
    async with running(desk):
        desk.queue.add_after("a", 0.01)
        desk.queue.add("a")
        await desk.until("a")
        desk.queue.add_after("z", 0.05)
        await desk.until("a", "z")


async def test_comes_back_after_an_error_until_it_works(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    desk.outcomes = {"a": [errors.NotFound("gone"), errors.StorageFull("the disk is full"), None]}
    desk.queue.add("a")
    with caplog.at_level(logging.WARNING, logger="gpuyard.client.workqueue"):
        async with running(desk):
            await desk.until("a", "a", "a")
    assert [record.getMessage() for record in caplog.records] == [
        "test a: gone; again in 0.05 s",
        "test a: the disk is full; again in 0.10 s",
    ]


async def test_an_error_long_after_success_starts_small_again(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    desk.outcomes = {"a": [errors.NotFound("gone"), 0.0, errors.NotFound("gone")]}
    desk.queue.add("a")
    with caplog.at_level(logging.WARNING, logger="gpuyard.client.workqueue"):
        async with running(desk):
            await desk.until("a", "a", "a", "a")
    assert [record.getMessage() for record in caplog.records] == ["test a: gone; again in 0.05 s"] * 2


async def test_a_conflict_is_no_news(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    desk.outcomes = {"a": [errors.Conflict("stale"), errors.Conflict("stale")]}
    desk.queue.add("a")
    async with running(desk):
        await desk.until("a", "a", "a")
    assert not caplog.records


async def test_a_failing_key_holds_up_no_other(desk: Desk) -> None:
    desk.outcomes = {"a": [errors.NotFound("gone")]}
    for key in ("a", "b"):
        desk.queue.add(key)
    async with running(desk):
        await desk.until("a", "b", "a")


async def test_a_bug_with_one_key_is_logged_and_holds_up_no_other(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    desk.outcomes = {"a": [KeyError("oops")]}
    desk.queue.add("a")
    desk.queue.add("b")
    async with running(desk):
        await desk.until("a", "b", "a")
    (record,) = caplog.records
    assert (
        record.getMessage() == "test: configmaps default/a: set aside, since it failed in an unforeseen way"
    )
    assert record.exc_info is not None
    assert record.exc_info[0] is KeyError


async def test_nothing_is_handed_out_after_the_end(desk: Desk) -> None:
    async with running(desk):
        desk.queue.add_after("a", 0.0)
    await asyncio.sleep(0.01)
    assert desk.handled == []
