"""The decision over time: load traces, look by look."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuyard.autoscaling.decision import ScalingDecision, asleep, decide, done
from gpuyard.autoscaling.limits import ScalingHistory
from gpuyard.autoscaling.load import ServiceLoad
from gpuyard.autoscaling.metrics import NO_PROXY, Measured
from gpuyard.autoscaling.replicas import ScaledPod
from gpuyard.autoscaling.spec import AutoscalerSpec, ScalingPolicy, ScalingRules, TargetMetric
from gpuyard.kube.wellknown import METRIC_GPU_UTILIZATION, METRIC_IN_FLIGHT

SPEC = AutoscalerSpec(1, 8, (TargetMetric(METRIC_IN_FLIGHT, 4000),))
LOOK_S = 5.0


def ready(count: int) -> list[ScaledPod]:
    return [ScaledPod(f"web-{number}") for number in range(count)]


class Service:
    """One whose replicas are ready at once."""

    def __init__(self, spec: AutoscalerSpec, replicas: int = 1, *, slept: bool = False) -> None:
        self.spec, self.replicas, self.slept = spec, replicas, slept
        self.history, self.now_s = ScalingHistory(), 0.0

    def look(self, load: ServiceLoad | int | None) -> ScalingDecision:
        if isinstance(load, int):
            load = ServiceLoad(in_flight=load)
        seen = Measured(self.replicas, ready(self.replicas), load)
        decision = decide(self.spec, seen, self.history, self.now_s, slept=self.slept)
        self.history = done(decision, self.spec, self.replicas, self.now_s)
        if decision.replicas != self.replicas:
            self.slept = asleep(decision, self.replicas).true
        self.replicas, self.now_s = decision.replicas, self.now_s + LOOK_S
        return decision

    def looks(self, loads: Iterable[ServiceLoad | int | None]) -> list[int]:
        return [self.look(load).replicas for load in loads]


def said(decision: ScalingDecision) -> dict[str, tuple[bool, str]]:
    return {one.type: (one.true, one.reason) for one in decision.said}


def test_a_step_of_the_load_is_followed_within_three_looks() -> None:
    service = Service(SPEC)
    assert service.looks([3, 3, 30, 30, 30]) == [1, 1, 4, 8, 8]


def test_why_it_wants_more() -> None:
    decision = Service(SPEC, 3).look(19)
    assert decision.reason.sentence == "wants 5: 19 in flight, target 4 each"
    assert decision.why == "pods metric gpuyard_service_requests_in_flight above target"
    assert said(decision) == {
        "ScalingActive": (True, "ValidMetricFound"),
        "AbleToScale": (True, "ReadyForNewScale"),
        "ScalingLimited": (False, "DesiredWithinRange"),
    }


def test_why_it_gets_fewer_than_it_wants() -> None:
    decision = Service(SPEC, 6).look(100)
    assert decision.reason.sentence == (
        "wants 25: 100 in flight, target 4 each; 8 for now, since at most 8 are allowed"
    )
    assert said(decision)["ScalingLimited"] == (True, "TooManyReplicas")
    assert Service(SPEC, 1).look(100).reason.limit == "it changes no faster than its policies allow"


def test_why_it_keeps_more_than_it_wants() -> None:
    service = Service(SPEC, 6)
    service.look(100)
    kept = "wants 1: 4 in flight, target 4 each; 8 for now, since more were wanted within the last 300 s"
    assert service.look(4).reason.sentence == kept


def test_fewer_are_wanted_once_five_minutes_asked_for_fewer() -> None:
    service = Service(SPEC, 1)
    service.looks([12] * 3)
    counts = service.looks([4] * 70)
    assert (counts[0], counts[-1]) == (3, 1)
    # As long as the last look at which three were wanted is in the window of 300 s.
    assert counts.count(3) == 60


def test_a_restart_begins_the_window_anew() -> None:
    service = Service(SPEC, 5)
    assert service.looks([1] * 61) == [5] * 61
    assert service.look(1).replicas == 1


def test_nothing_is_done_on_what_is_not_known() -> None:
    service = Service(SPEC, 3)
    service.looks([12] * 100)
    decision = service.look(None)
    assert (decision.replicas, decision.failure) == (3, NO_PROXY)
    assert said(decision) == {"ScalingActive": (False, "FailedGetPodsMetric")}
    assert decision.reason.sentence == f"stays at 3: {NO_PROXY}"


def test_of_two_metrics_one_unknown_nothing_goes_down_but_up_it_goes() -> None:
    both = replace(SPEC, metrics=(TargetMetric(METRIC_GPU_UTILIZATION, 70_000), *SPEC.metrics))
    assert Service(both, 3).look(2).failure
    more = Service(both, 3).look(19)
    assert (more.replicas, more.reason.metric) == (5, METRIC_IN_FLIGHT)


def test_bounds_hold_whatever_the_load() -> None:
    assert Service(SPEC, 12).look(None).replicas == 8
    assert Service(replace(SPEC, minimum=2), 1).look(None).replicas == 2


SLEEPY = replace(SPEC, minimum=0, scale_to_zero_s=60.0)


def quiet(seconds: float) -> ServiceLoad:
    return ServiceLoad(in_flight=0, idle_s=seconds)


def test_it_sleeps_after_the_time_that_its_owner_said() -> None:
    service = Service(SLEEPY, 1)
    assert service.looks([quiet(0), quiet(59.0), quiet(60.0)]) == [1, 1, 0]
    assert service.slept


@pytest.mark.parametrize("pending", [True, False])
@pytest.mark.parametrize("zero_s", [60.0, None])
def test_what_still_starts_does_not_fall_asleep(pending: bool, zero_s: float | None) -> None:
    """Whoever asked for it has left meanwhile."""
    spec, history = replace(SLEEPY, scale_to_zero_s=zero_s), ScalingHistory()
    starting = ScaledPod("web-0", pending=pending, ready=False)
    for now_s in range(0, 1000, 5):
        seen = Measured(1, [starting, ScaledPod("web-1", leaving=True, ready=False)], quiet(now_s))
        decision = decide(spec, seen, history, now_s, slept=False)
        history = done(decision, spec, 1, now_s)
        assert decision.replicas == 1
    assert decision.reason.sentence == (
        "wants 0: 0 in flight, target 4 each; 1 for now, since no replica is ready yet"
    )
    # Once it is ready, it may.
    assert decide(spec, Measured(1, ready(1), quiet(1000)), history, 1000.0, slept=False).replicas == 0


def test_of_several_that_start_one_stays() -> None:
    spec = replace(SLEEPY, behavior=True, down=replace(SLEEPY.down, window_s=0.0))
    starting = [replace(one, ready=False) for one in ready(3)]
    assert decide(spec, Measured(3, starting, quiet(900)), ScalingHistory(), 0.0, slept=False).replicas == 1


def test_a_connection_that_is_open_keeps_it_awake() -> None:
    service = Service(SLEEPY, 1)
    assert service.look(ServiceLoad(in_flight=1, idle_s=900.0)).replicas == 1


def test_it_wakes_for_a_request_that_waits_and_only_then() -> None:
    service = Service(SLEEPY, 0, slept=True)
    assert service.look(quiet(0.0)).replicas == 0
    assert service.look(None).replicas == 0
    decision = service.look(ServiceLoad(in_flight=1, held=1))
    assert (decision.replicas, decision.why) == (
        1,
        "pods metric gpuyard_service_requests_in_flight above target",
    )
    many = Service(SLEEPY, 0, slept=True).look(ServiceLoad(in_flight=30, held=30))
    assert (many.replicas, many.reason.wanted) == (4, 8)


def test_it_wakes_whatever_it_is_scaled_by() -> None:
    by_use = replace(SLEEPY, metrics=(TargetMetric(METRIC_GPU_UTILIZATION, 70_000),))
    decision = Service(by_use, 0, slept=True).look(ServiceLoad(in_flight=1, held=1))
    assert (decision.replicas, decision.why) == (1, "a request waits")


def test_it_wakes_when_its_owner_wants_one_in_any_case() -> None:
    decision = Service(replace(SPEC, minimum=2), 0, slept=True).look(0)
    assert (decision.replicas, decision.why) == (2, "Current number of replicas below Spec.MinReplicas")


def test_what_somebody_else_has_put_to_sleep_stays_so() -> None:
    decision = Service(SLEEPY, 0).look(ServiceLoad(in_flight=1, held=1))
    assert decision.replicas == 0
    assert said(decision) == {"ScalingActive": (False, "ScalingDisabled")}


def test_without_a_time_it_sleeps_after_the_window() -> None:
    counts = Service(replace(SPEC, minimum=0), 1).looks([0] * 62)
    assert counts == [1] * 61 + [0]


def test_more_are_asked_for_while_the_first_one_starts() -> None:
    seen = Measured(1, [ScaledPod("web-0", pending=True, ready=False)], ServiceLoad(in_flight=19, held=19))
    assert decide(SPEC, seen, ScalingHistory(), 0.0, slept=False).replicas == 4


RULES = st.builds(
    ScalingRules,
    window_s=st.sampled_from([0.0, 15.0, 60.0]),
    select=st.sampled_from(["Max", "Min", "Disabled"]),
    policies=st.lists(
        st.builds(
            ScalingPolicy,
            st.sampled_from(["Pods", "Percent"]),
            st.integers(1, 200),
            st.sampled_from([5.0, 15.0, 60.0]),
        ),
        min_size=1,
        max_size=3,
    ).map(tuple),
)


@given(st.booleans(), RULES, RULES, st.integers(0, 3), st.lists(st.none() | st.integers(0, 60), max_size=40))
def test_it_stays_within_its_bounds_and_keeps_still_when_the_load_does(
    behavior: bool, up: ScalingRules, down: ScalingRules, minimum: int, loads: list[int | None]
) -> None:
    spec = replace(SPEC, minimum=minimum, behavior=behavior, up=up, down=down)
    service = Service(spec, max(minimum, 1))
    assert all(minimum <= count <= 8 for count in service.looks(loads))
    # After the longest window an even load has an even count.
    settled = service.looks([10] * 90)
    assert len(set(settled[-10:])) == 1
    assert settled[-1] >= 3 or (behavior and up.select == "Disabled")
