"""Ages of stored times under a wall clock that is set."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from gpuyard.kube.ages import Ages

NOW = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)


class Clocks:
    """A wall clock that can be set, and a steady one."""

    def __init__(self) -> None:
        self.wall, self.steady_s = NOW, 1000.0

    def advance(self, seconds: float) -> None:
        self.wall += timedelta(seconds=seconds)
        self.steady_s += seconds

    def ages(self) -> Ages:
        return Ages(lambda: self.wall, lambda: self.steady_s)


@pytest.mark.parametrize("set_by", [timedelta(days=1), timedelta(days=-1), timedelta()])
def test_an_age_grows_with_the_steady_clock_alone(set_by: timedelta) -> None:
    clocks = Clocks()
    age = clocks.ages()
    assert age(NOW - timedelta(seconds=5)) == 5
    clocks.wall += set_by
    clocks.advance(2)
    assert age(NOW - timedelta(seconds=5)) == 7


def test_a_time_ahead_of_the_clock_is_now() -> None:
    clocks = Clocks()
    age = clocks.ages()
    ahead = NOW + timedelta(days=1)
    assert age(ahead) == 0
    clocks.advance(3)
    assert age(ahead) == 3


def test_what_is_not_kept_is_looked_at_anew() -> None:
    clocks = Clocks()
    age = clocks.ages()
    first, second = NOW - timedelta(seconds=1), NOW - timedelta(seconds=2)
    assert (age(first), age(second)) == (1, 2)
    clocks.wall += timedelta(seconds=10)
    age.keep([first, NOW])
    assert (age(first), age(second)) == (1, 12)
