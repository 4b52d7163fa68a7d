"""How many requests a service gets and how long they take, as a yard's proxies tell.

On a cluster nothing of gpuyard's is in the path of requests, so that nothing is known of them here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from gpuyard import errors
from gpuyard.metrics_text import MetricSample, parse_metrics
from gpuyard.runs.target import Target

_PREFIX = "gpuyard_service_"
_MOST_BYTES = 8 << 20
_ANSWER_S = 5.0


@dataclass(frozen=True)
class Traffic:
    """Of one service, over the last minute where nothing else is said.

    Attributes:
        in_flight: requests that have no whole answer yet, those held included.
        held: requests that wait for a replica.
        p50_s, p99_s: seconds until the end of an answer; None without one.
        replicas: requests in flight by replica.
    """

    requests_per_second: float = 0.0
    in_flight: int = 0
    held: int = 0
    p50_s: float | None = None
    p99_s: float | None = None
    replicas: dict[str, int] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """All of it."""
        return {
            "requests_per_second": self.requests_per_second,
            "in_flight": self.in_flight,
            "held": self.held,
            "p50_s": self.p50_s,
            "p99_s": self.p99_s,
            "in_flight_by_replica": dict(self.replicas),
        }


async def read_traffic(target: Target) -> dict[tuple[str, str], Traffic]:
    """By namespace and name of the services; empty where nobody tells."""
    if not target.is_yard:
        return {}
    try:
        text = await target.api.get_text("/metrics", silence_timeout_s=_ANSWER_S, most_bytes=_MOST_BYTES)
    except errors.GpuyardError:
        return {}
    return traffic_of(parse_metrics(text))


def traffic_of(samples: Iterable[MetricSample]) -> dict[tuple[str, str], Traffic]:
    """What the samples say, by namespace and name of the services."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for sample in samples:
        if not sample.name.startswith(_PREFIX):
            continue
        labels, name = sample.labels, sample.name.removeprefix(_PREFIX)
        one = found.setdefault((labels.get("namespace", ""), labels.get("service", "")), {"replicas": {}})
        match name, labels.get("quantile"):
            case "requests_per_second", _:
                one["requests_per_second"] = sample.value
            case "requests_in_flight", _:
                one["in_flight"] = int(sample.value)
            case "requests_held", _:
                one["held"] = int(sample.value)
            case "request_seconds", "0.5":
                one["p50_s"] = sample.value
            case "request_seconds", "0.99":
                one["p99_s"] = sample.value
            case "replica_requests_in_flight", _:
                one["replicas"][labels.get("replica", "")] = int(sample.value)
    return {key: Traffic(**values) for key, values in found.items()}
