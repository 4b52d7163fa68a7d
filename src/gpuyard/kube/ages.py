"""How old stored times are, whatever becomes of the wall clock."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import TypeAlias

#: Seconds since a stored time.
Age: TypeAlias = Callable[[datetime], float]


def seconds_since_boot() -> float:
    """The steady clock for whatever is stored or waited for. It goes on while the machine is suspended, as
    the wall clock does, so that a restart of this process counts a time no longer than before. Timers of a
    loop don't: see `controllers.watched_time` for what wakes those who wait."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Ages:
    """Seconds since stored times; a call gives those since one.

    A stored time has to be compared with the wall clock, since no steady clock goes on across boots. That
    happens once, when it is first asked for; from then on steady seconds count. So a wall clock that is set
    to another day, or was wrong when the time was written, brings nothing forward and holds nothing up.

    Args:
        clock: aware UTC now.
        seconds: a steady clock that goes on in a suspend, such as `seconds_since_boot`.
    """

    def __init__(self, clock: Callable[[], datetime], seconds: Callable[[], float]) -> None:
        self._clock = clock
        self._seconds = seconds
        self._began_s: dict[datetime, float] = {}

    def __call__(self, moment: datetime) -> float:
        """Never less than 0: a time ahead of the wall clock counts as now."""
        now_s = self._seconds()
        if moment not in self._began_s:
            self._began_s[moment] = now_s - max(0.0, (self._clock() - moment).total_seconds())
        return now_s - self._began_s[moment]

    def keep(self, moments: Iterable[datetime]) -> None:
        """Forgets all others."""
        self._began_s = {moment: self._began_s[moment] for moment in moments if moment in self._began_s}
