"""The time in which this process could watch others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from gpuyard.kube.ages import seconds_since_boot

_STEP_S = 1.0


class WatchedTime:
    """Seconds that this process has been awake; a call gives them.

    Who judges others by their silence must not count the time in which it couldn't listen. So a pause of this
    process itself (SIGSTOP, a suspended laptop, a debugger) counts as two seconds at most, and the wall clock
    doesn't matter at all.

    Args:
        boot_time: seconds that go on while the machine is suspended, unlike those of a loop's timers.
    """

    def __init__(self, boot_time: Callable[[], float] = seconds_since_boot) -> None:
        self._boot_time = boot_time
        self._looked_at = boot_time()
        self._seconds = 0.0
        self._at_pause: list[Callable[[], None]] = []

    def on_pause(self, callback: Callable[[], None]) -> None:
        """Has this called whenever a pause is over: what was due meanwhile is due at once."""
        self._at_pause.append(callback)

    def __call__(self) -> float:
        """The seconds until now."""
        now = self._boot_time()
        since_s = now - self._looked_at
        self._seconds += min(since_s, 2 * _STEP_S)
        self._looked_at = now
        if since_s > 2 * _STEP_S:
            for callback in self._at_pause:
                callback()
        return self._seconds

    async def run(self) -> None:
        """Looks at the clock every second, until cancelled: what nobody looks at is taken for a pause."""
        while True:
            self()
            await asyncio.sleep(_STEP_S)
