"""The time in which this process could watch others."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

_STEP_S = 1.0


class WatchedTime:
    """Seconds that this process has been awake; a call gives them.

    Who judges others by their silence must not count the time in which it couldn't listen. So a pause of this
    process itself (SIGSTOP, a suspended laptop, a debugger) counts as two seconds at most, and the wall clock
    doesn't matter at all.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._looked_at = monotonic()
        self._seconds = 0.0

    def __call__(self) -> float:
        """The seconds until now."""
        now = self._monotonic()
        self._seconds += min(now - self._looked_at, 2 * _STEP_S)
        self._looked_at = now
        return self._seconds

    async def run(self) -> None:
        """Looks at the clock every second, until cancelled: what nobody looks at is taken for a pause."""
        while True:
            self()
            await asyncio.sleep(_STEP_S)
