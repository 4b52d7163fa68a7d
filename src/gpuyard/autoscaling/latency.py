"""How many replicas keep 99 of 100 requests below a time (pure).

The model. Requests come at random at the rate that is measured (those answered, and those that have piled
up). A replica answers one after the other; whoever comes goes to the replica with the fewest. Then:

- The *service time* is the busy time of the replicas by what they answered in it (the utilisation law),
  over five minutes. Where they had too little to do, it is the mean of the lognormal distribution that
  has the p50 and the p99 that were measured. A replica that answers several at a time is by the same law
  as fast as it has been seen to be: there are too many of it until the load has shown what one can do.
- The *p99 alone* is what was measured while nobody can have waited (no more in flight than replicas).
- A request *waits* with the probability C of Erlang's formula for c replicas. Of those that wait, the
  part exp(-(1 - u) · w / r) waits longer than w, with the use u of a replica and r = s (1 + v²) / 2, what
  is left on average of a request that is being answered (s: mean, v²: squared coefficient of variation of
  the service time): so does the queue of one replica empty, an M/G/1 queue. All queues are about as long,
  since each goes to the shortest, and so they empty together, too: exp(-(1 - u) · c · (w - 2 r) / r). The
  smaller one holds.

The fewest replicas are wanted with which at most five of a thousand wait longer than the target leaves
above the p99 alone, and never fewer than the busiest minute of the last five keeps busy for 95 %. Where a
request takes too long by itself, no number of replicas helps: then as many are wanted as let one of a
hundred wait. Where fewer than twenty were answered in five minutes, there is a replica for each of those
that were there together.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import median

from gpuyard.autoscaling.load import LoadSample, LoadWindow
from gpuyard.autoscaling.replicas import Unmeasured

_LATE, _WAITING = 0.005, 0.01
_MAX_UTILISATION = 0.95
#: Standard deviations from the median to the p99 of a normal distribution.
_P99_DEVIATIONS = 2.3263
_MIN_REQUESTS, _MIN_BUSY_S = 20, 5.0
_MAX_VARIATION = 25.0
_MAX_REPLICAS = 10_000

TOO_EARLY = "requests have been counted for less than 15 s"


@dataclass(frozen=True)
class ServiceTime:
    """How long a replica takes for a request: the mean, its squared coefficient of variation, and the p99."""

    mean_s: float
    variation: float
    p99_s: float


@dataclass(frozen=True)
class LatencyPlan:
    """So many replicas.

    Attributes:
        rate: requests a second.
        service: None where too few were answered to tell.
        reachable: whether a request by itself is quick enough.
    """

    replicas: int
    rate: float
    service: ServiceTime | None
    reachable: bool


def plan_for_p99(window: LoadWindow, target_s: float) -> LatencyPlan | Unmeasured:
    """How many are wanted for what has been measured."""
    rate = window.rate()
    if rate is None:
        return Unmeasured(TOO_EARLY)
    service = measure_service_time(window)
    if service is None:
        together = max(one.load.in_flight for one in window.samples)
        return LatencyPlan(together, rate, None, True)
    wanted = replicas_for(rate, service, target_s)
    drain = math.ceil(window.busiest() * service.mean_s / _MAX_UTILISATION)
    return LatencyPlan(max(wanted, drain), rate, service, service.p99_s < target_s)


def replicas_for(rate: float, service: ServiceTime, target_s: float) -> int:
    """The fewest with which waiting leaves the p99 below the target; see the module."""
    spare_s = target_s - service.p99_s
    allowed = _LATE if spare_s > 0 else _WAITING
    offered = rate * service.mean_s
    blocked = 1.0
    for count in range(1, _MAX_REPLICAS):
        blocked = offered * blocked / (count + offered * blocked)
        if count <= offered:
            continue
        use = offered / count
        waits = blocked / (1 - use + use * blocked)
        if waits * _longer(max(spare_s, 0.0), count, use, service) <= allowed:
            return count
    return _MAX_REPLICAS


def _longer(spare_s: float, count: int, use: float, service: ServiceTime) -> float:
    """The part of those that wait who wait longer than this."""
    residual_s = service.mean_s * (1 + service.variation) / 2
    alone, together = spare_s, count * (spare_s - 2 * residual_s)
    return math.exp(-(1 - use) * max(alone, together) / residual_s)


def measure_service_time(window: LoadWindow) -> ServiceTime | None:
    """What the looks tell of it; None when there were too few requests."""
    timed = [one for one in window.samples if one.load.p50_s and one.load.p99_s]
    if not timed or window.samples[-1].load.answered - window.samples[0].load.answered < _MIN_REQUESTS:
        return None
    alone = [one for one in timed if one.load.in_flight <= one.ready]
    # Without a look at which nobody waited, the quickest is the nearest to it.
    chosen = alone or [min(timed, key=lambda one: one.load.p99_s or 0.0)]
    p50_s = median(one.load.p50_s or 0.0 for one in chosen)
    p99_s = max(p50_s, median(one.load.p99_s or 0.0 for one in chosen))
    deviation = math.log(p99_s / p50_s) / _P99_DEVIATIONS
    variation = min(math.exp(deviation**2) - 1, _MAX_VARIATION)
    mean_s = _busy_time_each(window) or p50_s * math.exp(deviation**2 / 2)
    return ServiceTime(mean_s, variation, p99_s)


def _busy_time_each(window: LoadWindow) -> float | None:
    """Seconds of a replica for each answer; None where there was little to do."""
    answered = window.samples[-1].load.answered - window.samples[0].load.answered
    busy_s = sum((_busy(first) + _busy(last)) / 2 * (last.at_s - first.at_s) for first, last in window.steps)
    return busy_s / answered if answered >= _MIN_REQUESTS and busy_s >= _MIN_BUSY_S else None


def _busy(sample: LoadSample) -> int:
    return min(sample.load.in_flight - sample.load.held, sample.ready)
