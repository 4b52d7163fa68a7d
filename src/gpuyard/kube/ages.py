"""How old stored times are, whatever becomes of the wall clock."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import TypeAlias

#: Seconds since a stored time.
Age: TypeAlias = Callable[[datetime], float]


class Ages:
    """Seconds since stored times; a call gives those since one.

    A stored time has to be compared with the wall clock, since no steady clock goes on across boots. That
    happens once, when it is first asked for; from then on steady seconds count. So a wall clock that is set
    to another day, or was wrong when the time was written, brings nothing forward and holds nothing up.

    Args:
        clock: aware UTC now.
        seconds: a steady clock.
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
