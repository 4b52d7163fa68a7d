from __future__ import annotations

import asyncio
from asyncio.subprocess import PIPE

import pytest

from gpuyard.images.subprocesses import outputs


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
    asking = asyncio.create_task(outputs(process))
    await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert process.returncode == -9
