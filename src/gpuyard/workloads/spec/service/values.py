"""A service as its user wants it: replicas of one program behind one address."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from enum import StrEnum

#: How long a replica may take to finish what it has, where nobody says.
DEFAULT_DRAIN = timedelta(seconds=30)


class Measure(StrEnum):
    """What a service's replicas are counted by; the values are keys of `service.target`."""

    INFLIGHT = "inflight"
    REQUESTS_PER_SECOND = "requests_per_second"
    GPU_UTILIZATION = "gpu_utilization"
    P99 = "p99"
    QUERY = "query"


@dataclass(frozen=True)
class LoadTarget:
    """How much load there may be before more replicas are wanted.

    Attributes:
        measure: of what.
        amount: of one replica: requests, requests per second, percent, or the query's own unit; of P99
            seconds, which hold for the service.
        query: PromQL, of QUERY.
    """

    measure: Measure
    amount: Decimal
    query: str = ""


@dataclass(frozen=True)
class Probe:
    """How it is found out whether a replica is well.

    Attributes:
        path: that HTTP is asked for; empty for none.
        command: that has to end with 0; empty for none. Without both, the port has to take connections.
    """

    path: str = ""
    command: tuple[str, ...] = ()


@dataclass(frozen=True)
class ServiceSpec:
    """A checked service.

    Attributes:
        port: where clients find it, and where its program listens.
        least, most: between which numbers of replicas the load decides; equal where they are fixed.
        readiness: before it is passed a replica gets no requests; None for a connection to the port.
        liveness: a replica that doesn't pass it any more is started again; None for no such look.
        drain: how long a replica may take to finish what it has; None for DEFAULT_DRAIN.
        target: of a range.
        scale_to_zero: after so long without a request it has no replica; None for always `least`.
        max_surge: how many replicas more there may be during an update, as Kubernetes writes it: a number or
            a percentage; None for what fits.
        max_unavailable: how many fewer may be ready; the same.
    """

    port: int
    least: int = 1
    most: int = 1
    readiness: Probe | None = None
    liveness: Probe | None = None
    drain: timedelta | None = None
    target: LoadTarget | None = None
    scale_to_zero: timedelta | None = None
    max_surge: int | str | None = None
    max_unavailable: int | str | None = None

    @property
    def is_scaled(self) -> bool:
        """Whether its load decides how many replicas it has."""
        return self.least < self.most or self.scale_to_zero is not None
