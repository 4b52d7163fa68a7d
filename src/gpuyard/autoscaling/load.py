"""What a service has to do, now and over the last five minutes, as its proxy counts it (pure)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise

from gpuyard.kube.wellknown import METRIC_IN_FLIGHT
from gpuyard.metrics_text import MetricSample

_PREFIX = "gpuyard_service_"
KEPT_S = 300.0
#: A rate is of the last quarter of a minute where that has a hundred requests, which makes it exact to a
#: tenth or so; of up to a minute where it has fewer.
_RATE_OVER_S, _RATE_OVER_AT_MOST_S, _RATE_REQUESTS = 15.0, 60.0, 100


@dataclass(frozen=True)
class ServiceLoad:
    """One look at a service.

    Attributes:
        in_flight: requests that have no whole answer yet, those held included.
        held: requests that wait for a replica.
        idle_s: seconds since the last request.
        answered: requests since the proxy began.
        p50_s, p99_s: seconds until the end of an answer, over the last minute; None without one.
        by_replica: requests in flight by pod.
    """

    in_flight: int
    held: int = 0
    idle_s: float = 0.0
    answered: float = 0.0
    p50_s: float | None = None
    p99_s: float | None = None
    by_replica: Mapping[str, int] = field(default_factory=dict)


def service_load(samples: Iterable[MetricSample], namespace: str, service: str) -> ServiceLoad | None:
    """What the samples say of this service; None when they say nothing of it."""
    values: dict[str, float] = {}
    by_replica: dict[str, int] = {}
    answered = 0.0
    for sample in samples:
        labels = sample.labels
        if (labels.get("namespace"), labels.get("service")) != (namespace, service):
            continue
        match sample.name.removeprefix(_PREFIX):
            case "requests_total":
                answered += sample.value
            case "replica_requests_in_flight":
                by_replica[labels.get("replica", "")] = int(sample.value)
            case "request_seconds":
                values[labels.get("quantile", "")] = sample.value
            case _:
                values[sample.name] = sample.value
    if METRIC_IN_FLIGHT not in values:
        return None
    return ServiceLoad(
        in_flight=int(values[METRIC_IN_FLIGHT]),
        held=int(values.get(f"{_PREFIX}requests_held", 0)),
        idle_s=values.get(f"{_PREFIX}seconds_since_last_request", 0.0),
        answered=answered,
        p50_s=values.get("0.5"),
        p99_s=values.get("0.99"),
        by_replica=by_replica,
    )


@dataclass(frozen=True)
class LoadSample:
    """A look, the second it was taken in, and how many replicas were ready then."""

    at_s: float
    load: ServiceLoad
    ready: int


@dataclass(frozen=True)
class LoadWindow:
    """The looks of the last five minutes, the oldest first."""

    samples: tuple[LoadSample, ...] = ()

    def with_sample(self, sample: LoadSample) -> LoadWindow:
        """With one more; a proxy that began anew begins a new window, since its counters do."""
        kept = tuple(one for one in self.samples if one.at_s > sample.at_s - KEPT_S)
        if kept and kept[-1].load.answered > sample.load.answered:
            kept = ()
        return LoadWindow((*kept, sample))

    @property
    def steps(self) -> list[tuple[LoadSample, LoadSample]]:
        """Each look with the next."""
        return list(pairwise(self.samples))

    def rate(self) -> float | None:
        """Requests a second that came lately; None before the first quarter of a minute has been watched."""
        if not self.samples:
            return None
        last = self.samples[-1]
        found: float | None = None
        for one in reversed(self.samples[:-1]):
            over_s = last.at_s - one.at_s
            if over_s < _RATE_OVER_S:
                continue
            if found is not None and over_s > _RATE_OVER_AT_MOST_S:
                break
            came = _arrivals(one, last)
            found = came / over_s
            if came >= _RATE_REQUESTS:
                break
        return found

    def busiest(self) -> float:
        """The highest rate of any minute; 0 before the first."""
        highest, end = 0.0, 0
        for one in self.samples:
            while end < len(self.samples) and self.samples[end].at_s - one.at_s < _RATE_OVER_AT_MOST_S:
                end += 1
            if end == len(self.samples):
                break
            last = self.samples[end]
            highest = max(highest, _arrivals(one, last) / (last.at_s - one.at_s))
        return highest


def _arrivals(first: LoadSample, last: LoadSample) -> float:
    """What was answered, and what has come on top of it: an overloaded service answers less than it gets."""
    answered = last.load.answered - first.load.answered
    return max(0.0, answered + last.load.in_flight - first.load.in_flight)
