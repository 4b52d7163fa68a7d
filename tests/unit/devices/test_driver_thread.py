import asyncio
import threading
from collections.abc import Iterator

import pytest

from gpuyard import errors
from gpuyard.devices.driver_thread import DriverThread
from tests.waiting import until


@pytest.fixture
def release() -> Iterator[threading.Event]:
    """Lets a call that hangs come back; at the end in any case."""
    event = threading.Event()
    yield event
    event.set()


async def test_answers_and_errors_come_back() -> None:
    thread = DriverThread()
    assert await thread.call(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        await thread.call(divmod, 7, 0)
    thread.end()


async def test_a_call_that_hangs_keeps_one_thread_and_nobody_else(release: threading.Event) -> None:
    thread = DriverThread(name="of this test")
    with pytest.raises(errors.DriverHangs, match="in wait"):
        await thread.call(release.wait, limit_s=0.05)
    for _ in range(20):
        with pytest.raises(errors.DriverHangs, match="in wait"):
            await thread.call(divmod, 7, 2)
    assert threads() == 1
    release.set()
    await thread.idle()
    assert await thread.call(divmod, 7, 2) == (3, 1)
    thread.end()
    until(threads, "the thread to end", lambda count: count == 0)


def threads() -> int:
    return [thread.name for thread in threading.enumerate()].count("of this test")


async def test_what_has_to_be_done_is_done_once_the_driver_answers(release: threading.Event) -> None:
    thread = DriverThread(limit_s=0.05)
    done: list[str] = []
    with pytest.raises(errors.DriverHangs):
        await thread.call(release.wait)
    await thread.finish(done.append, "closed")
    assert done == []
    release.set()
    await thread.idle()
    assert done == ["closed"]
    thread.end()


async def test_a_cancelled_call_is_waited_for_by_what_closes(release: threading.Event) -> None:
    thread = DriverThread()
    begun = threading.Event()
    done: list[str] = []

    def call() -> None:
        begun.set()
        release.wait()
        done.append("answered")

    waiting = asyncio.create_task(thread.call(call))
    await asyncio.to_thread(begun.wait)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    asyncio.get_running_loop().call_soon(release.set)
    await thread.finish(done.append, "closed")
    assert done == ["answered", "closed"]
    thread.end()
