"""The target of a p99, against a simulation of what happens with as many replicas as it chooses."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuyard.autoscaling.latency import TOO_EARLY, LatencyPlan, ServiceTime, plan_for_p99, replicas_for
from gpuyard.autoscaling.load import LoadSample, LoadWindow, ServiceLoad
from gpuyard.autoscaling.replicas import Unmeasured

from .simulation import ServiceTimes, p99_s, simulate, watched

_WATCHED_S, _EVERY_S = 600.0, 50.0


def chosen(
    rng: random.Random, rate: float, times: ServiceTimes, replicas: int, target_s: float
) -> LatencyPlan:
    """The highest that was wanted in five minutes, which is what an autoscaler takes."""
    looks = watched(list(simulate(rng, rate, times, replicas, _WATCHED_S)), replicas, _WATCHED_S)
    plans = []
    for end_s in range(300, int(_WATCHED_S) + 1, int(_EVERY_S)):
        recent = tuple(one for one in looks if end_s - 300 < one.at_s <= end_s)
        plan = plan_for_p99(LoadWindow(recent), target_s)
        assert isinstance(plan, LatencyPlan)
        plans.append(plan)
    return max(plans, key=lambda plan: plan.replicas)


@pytest.mark.slow
@settings(max_examples=25)
@given(
    seed=st.integers(0, 2**32),
    mean_s=st.sampled_from([0.05, 0.2, 1.0]),
    variation=st.sampled_from([0.2, 0.5, 1.0, 1.5]),
    load=st.floats(0.3, 8.0),
    spare=st.sampled_from([1.2, 1.5, 2.0, 4.0]),
    headroom=st.sampled_from([1.3, 2.5]),
)
def test_the_p99_holds_and_not_many_too_many_are_wanted(
    seed: int, mean_s: float, variation: float, load: float, spare: float, headroom: float
) -> None:
    """Whatever the load, in times of a replica, and however many there are while it is watched."""
    rng, rate, times = random.Random(seed), load / mean_s, ServiceTimes(mean_s, variation)
    target_s = spare * times.p99_s
    plan = chosen(rng, rate, times, math.ceil(load * headroom), target_s)
    long_s = max(500.0, 20_000 / rate)
    assert p99_s(rng, rate, times, plan.replicas, long_s) <= 1.1 * target_s
    enough = next(
        count
        for count in range(math.ceil(load + 0.01), 100)
        if p99_s(rng, rate, times, count, long_s) <= target_s
    )
    assert plan.replicas <= 2 * enough + 2


def test_what_is_overloaded_gets_what_the_load_needs_and_no_more_than_it_can_know() -> None:
    rng, times = random.Random(1), ServiceTimes(0.5, 0.5)
    plan = chosen(rng, 10.0, times, 2, 2.0)
    # Ten a second of half a second each keep five busy; none of the looks has one that didn't wait.
    assert 6 <= plan.replicas <= 14
    assert not plan.reachable


def test_a_request_that_takes_too_long_by_itself() -> None:
    slow = ServiceTime(mean_s=1.0, variation=0.25, p99_s=2.5)
    assert replicas_for(4.0, slow, target_s=1.0) == replicas_for(4.0, slow, target_s=2.4) <= 12


def test_more_are_wanted_for_more_and_for_less_time() -> None:
    service = ServiceTime(mean_s=0.5, variation=1.0, p99_s=2.0)
    by_rate = [replicas_for(rate, service, 3.0) for rate in (1.0, 5.0, 10.0, 20.0)]
    assert by_rate == sorted(by_rate) and by_rate[0] < by_rate[-1]
    by_target = [replicas_for(10.0, service, target_s) for target_s in (2.1, 3.0, 5.0, 20.0)]
    assert by_target == sorted(by_target, reverse=True)
    assert by_target[-1] == 6


def window(*looks: tuple[float, int, int], ready: int = 3) -> LoadWindow:
    found = LoadWindow()
    for at_s, answered, in_flight in looks:
        load = ServiceLoad(in_flight, answered=answered, p50_s=0.1, p99_s=0.2)
        found = found.with_sample(LoadSample(at_s, load, ready))
    return found


def test_before_anything_was_counted_nothing_is_wanted() -> None:
    assert plan_for_p99(LoadWindow(), 1.0) == Unmeasured(TOO_EARLY)
    assert plan_for_p99(window((0, 0, 2), (10, 20, 2)), 1.0) == Unmeasured(TOO_EARLY)


def test_of_too_few_to_measure_none_waits() -> None:
    plan = plan_for_p99(window((0, 0, 4), (20, 2, 3)), 1.0)
    assert isinstance(plan, LatencyPlan)
    assert (plan.replicas, plan.service) == (4, None)


def test_the_busiest_minute_counts_as_long_as_it_is_remembered() -> None:
    busy = [(float(at_s), at_s * 60, 3) for at_s in range(0, 65, 5)]
    calm = [(float(at_s), 60 * 60 + at_s, 1) for at_s in range(65, 200, 5)]
    plan = plan_for_p99(window(*busy, *calm), 10.0)
    assert isinstance(plan, LatencyPlan) and plan.service is not None
    assert plan.replicas * 0.95 >= 60 * plan.service.mean_s
