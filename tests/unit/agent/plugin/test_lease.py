"""Which agent serves a node: of one install all that want, of two the one that came first."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gpuyard import errors
from gpuyard.agent.plugin.lease import Lease
from tests.waiting import until_async

OURS, OTHERS = "gpuyard-system/gpuyard-agent", "elsewhere/gpuyard-agent"


@pytest.fixture(autouse=True)
def looks_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpuyard.agent.plugin.lease._LOOK_S", 0.005)


def lease(folder: Path, owner: str = OURS) -> Lease:
    return Lease(folder, owner, lambda: datetime(2026, 11, 29, tzinfo=UTC))


@asynccontextmanager
async def waiting(one: Lease, on_wait: Callable[[], None] = lambda: None) -> AsyncIterator[asyncio.Event]:
    """It wants to serve; the event is set once it does."""
    serves = asyncio.Event()

    async def serve() -> None:
        async with one.held(on_wait):
            serves.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(serve(), name="agent")
    try:
        yield serves
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_the_second_says_who_the_first_is_and_serves_when_that_has_ended(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with AsyncExitStack() as first:
        await first.enter_async_context(lease(tmp_path).held())
        async with waiting(lease(tmp_path, OTHERS)) as others:
            await until_async(lambda: OURS in caplog.text, "it says who serves")
            assert "since 2026-11-29T00:00:00Z" in caplog.text and not others.is_set()
            await first.aclose()
            await asyncio.wait_for(others.wait(), 60)


async def test_the_next_one_of_a_rollout_serves_at_once_and_others_wait_for_it_too(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with AsyncExitStack() as first, AsyncExitStack() as second:
        await first.enter_async_context(lease(tmp_path).held())
        waits: list[str] = []
        async with waiting(lease(tmp_path, OTHERS), lambda: waits.append("")) as others:
            await until_async(lambda: OURS in caplog.text, "it waits")
            assert len(waits) == 1
            async with asyncio.timeout(60):
                await second.enter_async_context(lease(tmp_path).held())
            await first.aclose()
            tries = lease(tmp_path, OTHERS)
            assert OURS in tries._try() and not others.is_set()
            await second.aclose()
            await asyncio.wait_for(others.wait(), 60)


async def test_agents_without_an_owner_serve_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with lease(tmp_path, "").held(), waiting(lease(tmp_path, "")) as serves:
        await until_async(lambda: "waits until that has ended" in caplog.text, "the second waits")
        assert not serves.is_set()


@pytest.mark.parametrize("content", [b"", b"\xff{", b'{"owner": "elsewhere/gpuyard-agent", "pid": 1}', b"[]"])
async def test_a_left_over_is_in_nobodys_way(tmp_path: Path, content: bytes) -> None:
    file = lease(tmp_path).path
    file.parent.mkdir()
    file.write_bytes(content)
    async with waiting(lease(tmp_path)) as serves:
        await asyncio.wait_for(serves.wait(), 60)


async def test_a_folder_that_is_emptied_lets_no_second_one_in(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = lease(tmp_path)
    async with first.held():
        shutil.rmtree(first.path.parent)
        await until_async(first.path.exists, "the lock is there again")
        async with waiting(lease(tmp_path, OTHERS)) as serves:
            await until_async(lambda: OURS in caplog.text, "the second waits")
            assert not serves.is_set()


async def test_of_two_that_a_removal_let_in_one_ends(tmp_path: Path) -> None:
    first = lease(tmp_path)
    with pytest.raises(ExceptionGroup) as ended:
        async with first.held():
            first.path.unlink()
            async with lease(tmp_path, OTHERS).held():
                await asyncio.wait_for(asyncio.Event().wait(), 60)
    (why,) = ended.value.exceptions
    assert isinstance(why, errors.DeviceError) and OTHERS in why.message


async def test_where_nothing_can_be_locked_the_agent_serves(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "gpuyard").touch()
    async with lease(tmp_path).held():
        assert "can't see whether another agent" in caplog.text
