"""Callers that wait for a loop on another thread: interrupted, closed meanwhile, called back."""

from __future__ import annotations

import asyncio
import gc
import signal
import threading
from collections.abc import AsyncGenerator, Iterator

import pytest

from gpuyard import errors
from gpuyard.python_api.blocking import LoopThread


@pytest.fixture
def loop() -> Iterator[LoopThread]:
    thread = LoopThread()
    yield thread
    thread.close()


@pytest.mark.parametrize("attempt", range(20))
def test_an_interrupt_waits_until_the_work_has_ended(loop: LoopThread, attempt: int) -> None:
    """The generator may be closed only when its clean-up is over."""
    over = []

    async def numbers() -> AsyncGenerator[int, None]:
        try:
            yield 1
            main = threading.main_thread().ident
            assert main
            signal.pthread_kill(main, signal.SIGINT)
            await asyncio.Event().wait()
        finally:
            for _ in range(5):
                await asyncio.sleep(0.001)
            over.append(True)

    def follow() -> None:
        for _ in loop.iterate(numbers()):
            pass

    with pytest.raises(KeyboardInterrupt):
        follow()
    assert over == [True]


def test_who_waits_when_the_connection_is_closed_is_told() -> None:
    loop = LoopThread()
    waiting = threading.Event()
    told: list[BaseException] = []

    async def forever() -> None:
        waiting.set()
        await asyncio.Event().wait()

    def wait() -> None:
        try:
            loop.wait_for(forever())
        except errors.UsageError as error:
            told.append(error)

    other = threading.Thread(target=wait)
    other.start()
    assert waiting.wait(60)
    loop.close()
    loop.close()
    other.join(60)
    assert [str(error) for error in told] == ["this connection was closed"]
    with pytest.raises(errors.UsageError, match="was closed"):
        loop.wait_for(forever())


def test_a_callback_that_would_wait_for_itself_is_refused(loop: LoopThread) -> None:
    async def nothing() -> None: ...

    async def callback() -> str:
        with pytest.raises(errors.UsageError, match="callback") as caught:
            loop.wait_for(nothing())
        return caught.value.remedy

    assert "outside" in loop.wait_for(callback())


def test_a_generator_that_outlives_the_connection_ends_quietly() -> None:
    loop = LoopThread()

    async def numbers() -> AsyncGenerator[int, None]:
        while True:
            yield 1

    kept = loop.iterate(numbers())
    assert next(kept) == 1
    loop.close()
    del kept
    gc.collect()


def test_what_the_work_raises_is_raised(loop: LoopThread) -> None:
    async def broken() -> None:
        raise errors.YardStopped("the yard is stopped")

    with pytest.raises(errors.YardStopped):
        loop.wait_for(broken())
