"""What a proxy counts: answers by replica and kind, and the last minute's rate and times (pure)."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field

WINDOW_S = 60
#: Each class of times is so much longer than the one before: a quantile is told to within 5 %.
_GROWTH = 1.05
_LOG_GROWTH = math.log(_GROWTH)
#: The shortest time that is told from a shorter one.
_SHORTEST_S = 50e-6
_KINDS = tuple(f"{hundred}xx" for hundred in range(10))
#: So many replicas are told apart: each update of a Service brings new ones.
_MAX_REPLICAS = 256


@dataclass(slots=True)
class _Second:
    """What came and went in one second of the clock."""

    at: int
    began: int = 0
    times: Counter[int] = field(default_factory=Counter)


class Figures:
    """Counts requests. Every method takes the time of one clock, in seconds."""

    def __init__(self, now: float) -> None:
        self._since = self._last_request = now
        self._seconds: deque[_Second] = deque()
        self._answers: dict[str, Counter[str]] = {}
        #: Requests that aren't answered yet, and tunnels that are open.
        self.in_flight = 0

    @property
    def answers(self) -> Mapping[str, Mapping[str, int]]:
        """How many answers there were, by replica and then by kind such as `2xx`.

        Those of the proxy itself have no replica, nor have those of replicas of long ago: what all have
        together never falls, which would look like a proxy that began anew.
        """
        return self._answers

    def begin(self, now: float) -> None:
        """A request came."""
        self.in_flight += 1
        self._last_request = now
        self._second(now).began += 1

    def end(self, now: float, replica: str, status: int, took_s: float | None) -> None:
        """It was answered, or is over without an answer.

        Args:
            now: the time.
            replica: whose answer it was; empty for the proxy's own.
            status: of the answer.
            took_s: until its last byte; None for what has no such time, such as a tunnel.
        """
        self.in_flight -= 1
        self._last_request = now
        kind = _KINDS[status // 100]
        counts = self._answers.get(replica)
        if counts is None:
            counts = self._answers[replica] = Counter()
            if len(self._answers) > _MAX_REPLICAS:
                oldest = next(name for name in self._answers if name)
                self._answers.setdefault("", Counter()).update(self._answers.pop(oldest))
        counts[kind] += 1
        if took_s is not None:
            self._second(now).times[_class_of(took_s)] += 1

    def per_second(self, now: float) -> float:
        """Requests a second over the last minute, or for as long as the proxy has counted."""
        self._forget(now)
        counted_s = min(WINDOW_S, max(now - self._since, 1.0))
        return sum(second.began for second in self._seconds) / counted_s

    def quantiles(self, now: float, wanted: tuple[float, ...]) -> list[float]:
        """Times of the last minute's answers in seconds; NaN where there was none."""
        self._forget(now)
        times: Counter[int] = Counter()
        for second in self._seconds:
            times.update(second.times)
        return [_quantile(times, one) for one in wanted]

    def idle_s(self, now: float) -> float:
        """Seconds since the last request ended; 0 while one is under way."""
        return 0.0 if self.in_flight else now - self._last_request

    def _second(self, now: float) -> _Second:
        at = int(now)
        if not self._seconds or self._seconds[-1].at != at:
            self._forget(now)
            self._seconds.append(_Second(at))
        return self._seconds[-1]

    def _forget(self, now: float) -> None:
        while self._seconds and self._seconds[0].at <= int(now) - WINDOW_S:
            self._seconds.popleft()


def _class_of(took_s: float) -> int:
    return max(0, math.ceil(math.log(max(took_s, _SHORTEST_S) / _SHORTEST_S) / _LOG_GROWTH))


def _quantile(times: Counter[int], wanted: float) -> float:
    """The upper end of the class in which the quantile lies."""
    left = math.ceil(times.total() * wanted)
    for one in sorted(times):
        left -= times[one]
        if left <= 0:
            return float(_SHORTEST_S * _GROWTH**one)
    return math.nan
