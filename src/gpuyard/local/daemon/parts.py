"""What a yard is made of, in the order in which it was started."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractContextManager, AsyncExitStack
from types import TracebackType
from typing import Any, Self

from gpuyard import errors


class Parts:
    """Holds the parts of a yard and ends them, the last one first, when its block ends.

    Nothing else ends a part. So each part ends before those that it stands on, and nobody talks to a part
    that is gone.
    """

    def __init__(self) -> None:
        self._stack = AsyncExitStack()
        self._loops: list[asyncio.Task[Any]] = []

    async def __aenter__(self) -> Self:
        await self._stack.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        return await self._stack.__aexit__(kind, error, traceback)

    def enter(self, part: AbstractContextManager[Any]) -> None:
        """Enters a context that is left at the end."""
        self._stack.enter_context(part)

    def at_end(self, end: Callable[..., Awaitable[Any]], *arguments: object) -> None:
        """Notes how a part ends that was just started."""
        self._stack.push_async_callback(end, *arguments)

    def run(self, loop: Coroutine[Any, Any, Any], name: str) -> None:
        """Starts a loop that lives as long as the yard; at the end it is cancelled and awaited."""
        self._loops.append(self.task(loop, name))

    def task(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """Starts work that may end by itself before the yard does."""
        task = asyncio.create_task(work, name=name)

        async def end() -> None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        self._stack.push_async_callback(end)
        return task

    async def wait(self, *tasks: asyncio.Task[Any]) -> None:
        """Waits until one of the tasks has ended; raises what it raised, or what ended a loop before.

        Raises:
            YardError: a loop has ended without an error, though the yard goes on.
        """
        done, _ = await asyncio.wait([*tasks, *self._loops], return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
        for loop in self._loops:
            if loop in done:
                raise errors.YardError(
                    f"the yard's part {loop.get_name()!r} has ended by itself",
                    remedy="start the yard again with `gpuyard up`, and report this as a fault of gpuyard",
                )
