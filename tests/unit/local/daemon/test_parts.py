from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

import pytest

from gpuyard import errors
from gpuyard.local.daemon.parts import Parts


async def test_parts_end_in_the_reverse_order_of_their_start() -> None:
    ended: list[str] = []

    @contextlib.contextmanager
    def folder() -> Iterator[None]:
        yield
        ended.append("folder")

    async def end(name: str) -> None:
        ended.append(name)

    async def loop() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("loop")

    async with Parts() as parts:
        parts.at_end(end, "store")
        parts.enter(folder())
        parts.run(loop(), "loop")
        await asyncio.sleep(0)
        parts.at_end(end, "devices")
    assert ended == ["devices", "loop", "folder", "store"]


async def test_a_loop_that_fails_ends_the_wait_with_its_error() -> None:
    async def fails() -> None:
        raise ValueError("broken")

    async with Parts() as parts:
        parts.run(fails(), "loop")
        with pytest.raises(ValueError, match="broken"):
            await parts.wait(parts.task(asyncio.Event().wait(), "stop"))


async def test_a_loop_that_ends_by_itself_is_named() -> None:
    async def ends() -> None:
        pass

    async with Parts() as parts:
        parts.run(ends(), "scheduler")
        with pytest.raises(errors.YardError, match="'scheduler' has ended by itself"):
            await parts.wait(parts.task(asyncio.Event().wait(), "stop"))
