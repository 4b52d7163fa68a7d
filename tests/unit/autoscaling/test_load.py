"""What a proxy's figures say of a service."""

from __future__ import annotations

import pytest

from gpuyard.autoscaling.load import LoadSample, LoadWindow, ServiceLoad, service_load
from gpuyard.metrics_text import parse_metrics

TEXT = """\
# TYPE gpuyard_service_requests_total counter
gpuyard_service_requests_total{namespace="default",service="web",replica="web-1",code="2xx"} 90
gpuyard_service_requests_total{namespace="default",service="web",replica="web-2",code="5xx"} 10
gpuyard_service_requests_in_flight{namespace="default",service="web"} 7
gpuyard_service_requests_held{namespace="default",service="web"} 2
gpuyard_service_replica_requests_in_flight{namespace="default",service="web",replica="web-1"} 5
gpuyard_service_requests_per_second{namespace="default",service="web"} 1.5
gpuyard_service_request_seconds{namespace="default",service="web",quantile="0.5"} 0.2
gpuyard_service_request_seconds{namespace="default",service="web",quantile="0.99"} NaN
gpuyard_service_seconds_since_last_request{namespace="default",service="web"} 3
gpuyard_service_requests_in_flight{namespace="other",service="web"} 70
"""


def test_it_reads_one_service() -> None:
    found = service_load(parse_metrics(TEXT), "default", "web")
    assert found == ServiceLoad(
        in_flight=7, held=2, idle_s=3.0, answered=100.0, p50_s=0.2, p99_s=None, by_replica={"web-1": 5}
    )
    assert service_load(parse_metrics(TEXT), "default", "api") is None


def window(*looks: tuple[float, float, int]) -> LoadWindow:
    """Of looks at so many seconds, with so many answered and in flight."""
    found = LoadWindow()
    for at_s, answered, in_flight in looks:
        found = found.with_sample(LoadSample(at_s, ServiceLoad(in_flight, answered=answered), 1))
    return found


@pytest.mark.parametrize(
    ("found", "rate"),
    [
        (window(), None),
        (window((0, 0, 0), (10, 100, 0)), None),
        (window((0, 0, 0), (15, 300, 0)), 20.0),
        # Of the last quarter of a minute where that has a hundred, of up to a minute where it has fewer.
        (window((0, 0, 0), (45, 0, 0), (60, 300, 0)), 20.0),
        (window((0, 0, 0), (45, 0, 0), (60, 30, 0)), 0.5),
        # What piles up has come, too.
        (window((0, 0, 0), (20, 100, 100)), 10.0),
    ],
)
def test_a_rate(found: LoadWindow, rate: float | None) -> None:
    assert found.rate() == rate


def test_the_busiest_minute() -> None:
    found = window((0, 0, 0), (60, 60, 0), (120, 1260, 0), (180, 1320, 0))
    assert found.busiest() == 20.0
    assert window((0, 0, 0)).busiest() == 0.0


def test_it_forgets_what_is_old_and_what_another_proxy_counted() -> None:
    assert [one.at_s for one in window((0, 0, 0), (200, 1, 0), (301, 2, 0)).samples] == [200, 301]
    assert [one.at_s for one in window((0, 50, 0), (5, 3, 0)).samples] == [5]
