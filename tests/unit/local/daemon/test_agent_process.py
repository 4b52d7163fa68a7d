"""The daemon's agent, as the real child process that it is."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gpuyard.local.daemon.agent_process import AgentProcess
from gpuyard.local.paths import YardPaths
from gpuyard.local.settings import Settings
from tests.waiting import until_async

TIMEOUT_S = 60


@pytest.fixture
def paths() -> Iterator[YardPaths]:
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    paths = YardPaths(folder / "data", folder / "run")
    paths.make_folders()
    yield paths
    shutil.rmtree(folder)


@asynccontextmanager
async def running(paths: YardPaths, simulate: str = "H100:2") -> AsyncIterator[asyncio.Queue[int]]:
    """The agent's pids as the daemon is told of them: each start's, and 0 at each end."""
    pids: asyncio.Queue[int] = asyncio.Queue()
    agent = AgentProcess.plugin(
        paths, "node", Settings(simulate), yard="ours", locks=paths.locks_dir, on_pid=pids.put_nowait
    )
    task = asyncio.create_task(agent.run(), name="agent")
    try:
        yield pids
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def after(pids: asyncio.Queue[int]) -> int:
    return await asyncio.wait_for(pids.get(), TIMEOUT_S)


def is_child(pid: int) -> bool:
    """False once it has ended and was reaped."""
    return Path(f"/proc/{pid}").exists()


def arguments(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/cmdline").read_text().split("\0")[1:-1]


async def test_it_is_told_whose_agent_it_is(paths: YardPaths) -> None:
    async with running(paths) as pids:
        said = arguments(await after(pids))
    assert said == [
        *("-m", "gpuyard.agent"),
        *("--plugins-dir", str(paths.device_plugins_dir)),
        *("--cdi-dir", str(paths.cdi_dir), "--cdi-driver"),
        *("--marks-file", str(paths.marks_file)),
        *("--node", "node"),
        *("--mig-strategy", "none", "--no-split-gpus"),
        *("--yard", "ours", "--locks", str(paths.locks_dir)),
        *("--simulate", "H100:2", "--simulated-health", str(paths.simulated_health)),
        "--exit-with-stdin",
    ]


async def test_one_that_was_killed_is_started_again(paths: YardPaths) -> None:
    async with running(paths) as pids:
        first = await after(pids)
        os.kill(first, signal.SIGKILL)
        assert await after(pids) == 0
        assert not is_child(first)
        second = await after(pids)
        assert is_child(second) and second != first


async def test_one_that_ends_by_itself_is_started_again(
    paths: YardPaths, caplog: pytest.LogCaptureFixture
) -> None:
    """It refuses what it is to simulate, each time; the wait between two starts grows."""
    async with running(paths, "no such GPU") as pids:
        starts = [await after(pids) for _ in range(5)]
    assert starts[1::2] == [0, 0] and len(set(starts)) == 4
    messages = [record.getMessage() for record in caplog.records if "agent" in record.getMessage()]
    assert [message.partition("code ")[2] for message in messages[:2]] == [
        "2; starting it again in 0.5 s",
        "2; starting it again in 1.0 s",
    ]


async def test_cancelling_ends_the_agent(paths: YardPaths) -> None:
    async with running(paths) as pids:
        pid = await after(pids)
    assert not is_child(pid)
    assert pids.get_nowait() == 0 and pids.empty()


async def test_one_that_does_not_hear_is_killed(paths: YardPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpuyard.local.daemon.agent_process._STOP_S", 0.1)
    async with running(paths) as pids:
        pid = await after(pids)
        os.kill(pid, signal.SIGSTOP)
    assert not is_child(pid)


async def test_a_host_without_a_process_to_spare_costs_a_retry(
    paths: YardPaths, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real, refusals = asyncio.create_subprocess_exec, [OSError(errno.EAGAIN, "no process")]

    async def start(*arguments: Any, **options: Any) -> asyncio.subprocess.Process:
        if refusals:
            raise refusals.pop()
        return await real(*arguments, **options)

    monkeypatch.setattr(asyncio, "create_subprocess_exec", start)
    async with running(paths) as pids:
        assert is_child(await after(pids))
    assert "can't be started: [Errno 11] no process" in caplog.text


async def test_a_child_ends_also_where_nobody_could_be_told_of_it(paths: YardPaths) -> None:
    pids: list[int] = []

    def refuse(pid: int) -> None:
        pids.append(pid)
        raise OSError(errno.ENOSPC, "no space")

    agent = AgentProcess.plugin(paths, "node", Settings("H100:2"), yard="ours", locks=None, on_pid=refuse)
    task = asyncio.create_task(agent.run(), name="agent")
    await until_async(lambda: len(pids), "a second child is started", lambda count: count >= 2)
    assert not is_child(pids[0])
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_the_exporter_is_told_each_once(paths: YardPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []

    async def refuse(*command: str, **options: Any) -> asyncio.subprocess.Process:
        told.extend(command)
        raise asyncio.CancelledError

    monkeypatch.setattr(asyncio, "create_subprocess_exec", refuse)
    with contextlib.suppress(asyncio.CancelledError):
        await AgentProcess.exporter(paths, "node", Settings("H100:2")).run()
    options = [word for word in told if word.startswith("--")]
    assert "--use-file" in options and len(options) == len(set(options))
