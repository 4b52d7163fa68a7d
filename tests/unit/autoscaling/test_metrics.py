"""What each metric asks for, and the numbers that it says it by."""

from __future__ import annotations

from typing import Any

import pytest

from gpuyard.autoscaling.latency import TOO_EARLY
from gpuyard.autoscaling.load import LoadSample, LoadWindow, ServiceLoad
from gpuyard.autoscaling.metrics import NO_PROXY, Measured, MetricProposal, propose
from gpuyard.autoscaling.replicas import NO_METRICS, Proposal, ScaledPod, Tolerance, Unmeasured
from gpuyard.autoscaling.spec import TargetMetric
from gpuyard.kube.wellknown import (
    METRIC_GPU_UTILIZATION,
    METRIC_IN_FLIGHT,
    METRIC_P99,
    METRIC_REQUESTS_PER_SECOND,
)

TOLERANCE = Tolerance(0.1, 0.1)
STARTING = ScaledPod("web-9", pending=True, ready=False)


def ready(count: int) -> list[ScaledPod]:
    return [ScaledPod(f"web-{number}") for number in range(count)]


def watched(rate: float, *, in_flight: int, p99_s: float, replicas: int) -> LoadWindow:
    """Five even minutes."""
    window = LoadWindow()
    for at_s in range(0, 300, 5):
        load = ServiceLoad(in_flight, answered=rate * at_s, p50_s=p99_s / 2, p99_s=p99_s)
        window = window.with_sample(LoadSample(float(at_s), load, replicas))
    return window


def asked(name: str, target: int, pods: list[ScaledPod], **seen: Any) -> MetricProposal:
    window = seen.pop("window", LoadWindow())
    load = seen.pop("load", window.samples[-1].load if window.samples else None)
    measured = Measured(len(pods), pods, load, window, **seen)
    return propose(TargetMetric(name, target), measured, TOLERANCE)


@pytest.mark.parametrize(
    ("found", "result", "numbers"),
    [
        (
            asked(METRIC_IN_FLIGHT, 4000, ready(3), load=ServiceLoad(19, held=2)),
            Proposal(5, 6333),
            "19 in flight, target 4 each",
        ),
        # While none is ready, all that wait count.
        (
            asked(METRIC_IN_FLIGHT, 4000, [STARTING], load=ServiceLoad(19, held=19)),
            Proposal(5, 19_000),
            "19 in flight, target 4 each",
        ),
        (asked(METRIC_IN_FLIGHT, 4000, ready(3)), Unmeasured(NO_PROXY), NO_PROXY),
        (
            asked(
                METRIC_REQUESTS_PER_SECOND,
                2500,
                ready(2),
                window=watched(20.0, in_flight=2, p99_s=0.2, replicas=2),
            ),
            Proposal(8, 10_000),
            "20.0 requests/s, target 2.5 each",
        ),
        (
            asked(METRIC_REQUESTS_PER_SECOND, 2500, ready(2), load=ServiceLoad(2)),
            Unmeasured(TOO_EARLY),
            TOO_EARLY,
        ),
        (
            asked(METRIC_GPU_UTILIZATION, 70_000, ready(2), utilization={"web-0": 100.0, "web-1": 90.0}),
            Proposal(3, 95_000),
            "GPUs 95 % busy, target 70 %",
        ),
        (
            asked(METRIC_GPU_UTILIZATION, 70_000, ready(2)),
            Unmeasured(NO_METRICS),
            f"{NO_METRICS}, target 70 %",
        ),
        (asked(METRIC_P99, 800, ready(2), load=ServiceLoad(2)), Unmeasured(TOO_EARLY), TOO_EARLY),
    ],
)
def test_what_a_metric_asks_for(found: MetricProposal, result: Proposal | Unmeasured, numbers: str) -> None:
    assert (found.result, found.numbers) == (result, numbers)


def test_a_promised_time_says_what_it_stands_on() -> None:
    window = watched(10.0, in_flight=5, p99_s=0.6, replicas=10)
    found = asked(METRIC_P99, 800, ready(10), window=window)
    assert isinstance(found.result, Proposal)
    assert 6 <= found.result.replicas <= 12
    assert found.numbers == "10.0 requests/s of 0.50 s each; p99 0.60 s, target 0.8 s"


def test_a_time_that_no_number_of_replicas_keeps_is_told() -> None:
    window = watched(10.0, in_flight=5, p99_s=1.6, replicas=10)
    assert asked(METRIC_P99, 800, ready(10), window=window).numbers == (
        "10.0 requests/s of 0.50 s each, of which one in a hundred takes 1.60 s by itself, "
        "however many replicas there are; p99 1.60 s, target 0.8 s"
    )


def test_a_promised_time_without_requests_needs_nobody() -> None:
    window = watched(0.0, in_flight=0, p99_s=0.6, replicas=1)
    assert asked(METRIC_P99, 800, ready(1), window=window).result == Proposal(0, 600)
