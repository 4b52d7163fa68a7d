from __future__ import annotations

import asyncio
from asyncio.subprocess import PIPE

import pytest

from gpuyard.images import subprocesses
from gpuyard.images.subprocesses import outputs
from tests.waiting import until_async


async def _ask_and_leave(process: asyncio.subprocess.Process) -> None:
    asking = asyncio.create_task(outputs(process))
    await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking


async def test_what_a_program_says() -> None:
    process = await asyncio.create_subprocess_exec(
        "sh", "-c", "cat; echo oops >&2", stdin=PIPE, stdout=PIPE, stderr=PIPE
    )
    assert await outputs(process, b"hello") == (b"hello", b"oops\n")
    assert process.returncode == 0


async def test_it_does_not_outlive_who_asks() -> None:
    process = await asyncio.create_subprocess_exec("sh", "-c", "echo ready; exec sleep 600", stdout=PIPE)
    assert process.stdout is not None
    await process.stdout.readline()
    await _ask_and_leave(process)
    assert process.returncode == -9


async def test_what_it_started_goes_with_it() -> None:
    process = await asyncio.create_subprocess_exec(
        "sh", "-c", "sleep 600 & echo $!; wait", stdout=PIPE, start_new_session=True
    )
    assert process.stdout is not None
    child = int(await process.stdout.readline())
    await _ask_and_leave(process)
    # Who holds the other end of the pipe is gone when it ends.
    assert await process.stdout.read() == b""
    assert child


async def test_one_that_never_stops_writing_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocesses, "_MOST_BYTES", 1 << 20)
    process = await asyncio.create_subprocess_exec(
        "sh", "-c", "cat /dev/zero", stdout=PIPE, start_new_session=True
    )
    out, _ = await outputs(process)
    assert len(out) <= 1 << 20
    assert process.returncode == -9


async def test_one_that_wrote_more_than_was_read_is_ended() -> None:
    process = await asyncio.create_subprocess_exec(
        "sh", "-c", "cat /dev/zero", stdout=PIPE, start_new_session=True
    )
    await until_async(lambda: _is_paused(process), "the reader pauses")
    await _ask_and_leave(process)
    assert process.returncode == -9


def _is_paused(process: asyncio.subprocess.Process) -> bool:
    pipe = process._transport.get_pipe_transport(1)  # type: ignore[attr-defined]
    return not pipe.is_reading()


async def test_one_that_does_not_read_is_no_failure() -> None:
    process = await asyncio.create_subprocess_exec("sh", "-c", "exec <&-; echo done", stdin=PIPE, stdout=PIPE)
    assert await outputs(process, b"x" * 1_000_000) == (b"done\n", b"")
