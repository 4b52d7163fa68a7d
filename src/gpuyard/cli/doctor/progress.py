"""Says what is being looked at, to who has been waiting for more than a moment."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable
from typing import TypeVar

from gpuyard.cli.output import StatusLine

Result = TypeVar("Result")

_QUIET_S = 1.0
_EVERY_S = 0.5


class Looking:
    """Knows what hasn't been answered yet."""

    def __init__(self) -> None:
        self._open: list[str] = []
        self._line = StatusLine()

    async def at(self, what: str, answer: Awaitable[Result]) -> Result:
        """Awaits an answer, known as `what` meanwhile."""
        self._open.append(what)
        try:
            return await answer
        finally:
            self._open.remove(what)

    @contextlib.asynccontextmanager
    async def told(self) -> AsyncIterator[None]:
        """Inside the block a terminal is told, after a second, what is waited for."""
        task = asyncio.create_task(self._tell(), name="progress")
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            self._line.clear()

    async def _tell(self) -> None:
        await asyncio.sleep(_QUIET_S)
        while self._line.live:
            if self._open:
                self._line.show(f"Looking at {', '.join(dict.fromkeys(self._open))} …")
            await asyncio.sleep(_EVERY_S)
