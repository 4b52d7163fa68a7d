"""How many replicas each metric of an autoscaler asks for, from what was measured (pure)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from gpuyard.autoscaling.latency import TOO_EARLY, LatencyPlan, plan_for_p99
from gpuyard.autoscaling.load import LoadWindow, ServiceLoad
from gpuyard.autoscaling.replicas import (
    Proposal,
    ScaledPod,
    Tolerance,
    Unmeasured,
    replicas_for_average,
    replicas_for_total,
)
from gpuyard.autoscaling.spec import TargetMetric
from gpuyard.kube.wellknown import (
    METRIC_GPU_UTILIZATION,
    METRIC_IN_FLIGHT,
    METRIC_P99,
    METRIC_REQUESTS_PER_SECOND,
)

#: What an autoscaler of a yard may name.
MEASURED = (METRIC_IN_FLIGHT, METRIC_REQUESTS_PER_SECOND, METRIC_GPU_UTILIZATION, METRIC_P99)
NO_PROXY = "the service's proxy doesn't say how many requests there are"


@dataclass(frozen=True)
class Measured:
    """What is known of a service at one moment.

    Attributes:
        current: replicas that its target asks for.
        replicas: its pods.
        load: None while its proxy doesn't answer.
        utilization: percent of the time that a pod's GPUs are busy, by pod.
    """

    current: int
    replicas: Sequence[ScaledPod]
    load: ServiceLoad | None
    window: LoadWindow = field(default_factory=LoadWindow)
    utilization: Mapping[str, float] = field(default_factory=dict)

    @property
    def is_starting(self) -> bool:
        """Whether there are replicas, of which none gets requests yet."""
        staying = [one for one in self.replicas if not one.leaving]
        return bool(staying) and not any(one.ready for one in staying)


@dataclass(frozen=True)
class MetricProposal:
    """What one metric asks for, with the numbers that it stands on."""

    metric: TargetMetric
    result: Proposal | Unmeasured
    numbers: str


def propose(metric: TargetMetric, seen: Measured, tolerance: Tolerance) -> MetricProposal:
    """How many replicas it asks for, or why that isn't known."""
    target = f"{metric.target_milli / 1000:g}"
    if metric.name == METRIC_GPU_UTILIZATION:
        values = {name: round(1000 * percent) for name, percent in seen.utilization.items()}
        found = replicas_for_average(metric.target_milli, values, seen.replicas, seen.current, tolerance)
        busy = f"GPUs {_rounded(found.average_milli)} % busy" if isinstance(found, Proposal) else found.why
        return MetricProposal(metric, found, f"{busy}, target {target} %")
    if seen.load is None:
        return MetricProposal(metric, Unmeasured(NO_PROXY), NO_PROXY)
    if metric.name == METRIC_P99:
        return _for_p99(metric, seen)
    if metric.name == METRIC_REQUESTS_PER_SECOND:
        rate = seen.window.rate()
        if rate is None:
            return MetricProposal(metric, Unmeasured(TOO_EARLY), TOO_EARLY)
        shared = _shared(metric, round(1000 * rate), seen, tolerance)
        return MetricProposal(metric, shared, f"{rate:.1f} requests/s, target {target} each")
    shared = _shared(metric, 1000 * seen.load.in_flight, seen, tolerance)
    return MetricProposal(metric, shared, f"{seen.load.in_flight} in flight, target {target} each")


def _shared(
    metric: TargetMetric, total_milli: int, seen: Measured, tolerance: Tolerance
) -> Proposal | Unmeasured:
    """Of what a service has altogether, each replica that gets requests has its part.

    While none does, they wait for the service as a whole, and count so: else a service that begins with one
    replica would first load that one before it asked for the others.
    """
    ready = [one.name for one in seen.replicas if one.ready]
    if not ready:
        existing = sum(not one.leaving for one in seen.replicas)
        return replicas_for_total(metric.target_milli, total_milli, existing, seen.current, tolerance)
    values = dict.fromkeys(ready, total_milli // len(ready))
    return replicas_for_average(metric.target_milli, values, seen.replicas, seen.current, tolerance)


def _for_p99(metric: TargetMetric, seen: Measured) -> MetricProposal:
    assert seen.load is not None
    target_s = metric.target_milli / 1000
    plan = plan_for_p99(seen.window, target_s)
    if isinstance(plan, Unmeasured):
        return MetricProposal(metric, plan, plan.why)
    p99 = f"p99 {seen.load.p99_s:.2f} s, " if seen.load.p99_s else ""
    found = Proposal(plan.replicas, round(1000 * (seen.load.p99_s or 0.0)))
    return MetricProposal(metric, found, f"{_told(plan)}; {p99}target {target_s:g} s")


def _told(plan: LatencyPlan) -> str:
    if plan.service is None:
        return f"{plan.replicas} at the same time in the last five minutes, too few to measure"
    told = f"{plan.rate:.1f} requests/s of {plan.service.mean_s:.2f} s each"
    if plan.reachable:
        return told
    alone = f"one in a hundred takes {plan.service.p99_s:.2f} s by itself"
    return f"{told}, of which {alone}, however many replicas there are"


def _rounded(milli: int) -> str:
    return f"{milli / 1000:.0f}"
