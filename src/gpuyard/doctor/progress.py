"""Says what is being looked at, to who has been waiting for more than a moment."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TypeAlias, TypeVar

Result = TypeVar("Result")
#: Takes the names of all that isn't answered yet.
OnWait: TypeAlias = Callable[[Sequence[str]], None]

_QUIET_S = 1.0
_EVERY_S = 0.5


class Progress:
    """Knows what hasn't been answered yet."""

    def __init__(self) -> None:
        self._open: list[str] = []

    async def at(self, what: str, answer: Awaitable[Result]) -> Result:
        """Awaits an answer, known as `what` meanwhile."""
        self._open.append(what)
        try:
            return await answer
        finally:
            self._open.remove(what)

    @contextlib.asynccontextmanager
    async def reported(self, on_wait: OnWait) -> AsyncIterator[None]:
        """Inside the block `on_wait` is called, after the first second, with what is waited for."""
        task = asyncio.create_task(self._report(on_wait), name="progress")
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _report(self, on_wait: OnWait) -> None:
        await asyncio.sleep(_QUIET_S)
        while True:
            if self._open:
                on_wait(tuple(dict.fromkeys(self._open)))
            await asyncio.sleep(_EVERY_S)
