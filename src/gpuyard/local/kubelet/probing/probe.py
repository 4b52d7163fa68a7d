"""The probes of a container, as its manifest has them (pure).

Source: kubernetes `pkg/apis/core/types.go` (Probe); what isn't given was filled in by the API.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class ProbeKind(StrEnum):
    """What a probe is for; the word that events begin with."""

    STARTUP = "Startup"
    READINESS = "Readiness"
    LIVENESS = "Liveness"

    @property
    def field(self) -> str:
        """Of the container's manifest."""
        return f"{self.lower()}Probe"


@dataclass(frozen=True)
class ContainerProbe:
    """One probe.

    Attributes:
        handler: what is asked: `httpGet`, `exec`, `tcpSocket` or `grpc`, as the manifest has it.
        successes: so many in a row change a verdict for the better.
        failures: the same for the worse.
        grace_s: what a container gets that has failed it; None for its pod's grace period.
    """

    kind: ProbeKind
    handler: Mapping[str, Any]
    initial_delay_s: float = 0.0
    period_s: float = 10.0
    timeout_s: float = 1.0
    successes: int = 1
    failures: int = 3
    grace_s: float | None = None

    @property
    def first_turn_s(self) -> float:
        """How long after the start its answers begin to count. Kubernetes makes the first at any moment of
        the first period."""
        return max(self.initial_delay_s, self.period_s)

    @classmethod
    def parse(cls, kind: ProbeKind, raw: Mapping[str, Any]) -> ContainerProbe:
        """Reads `startupProbe`, `readinessProbe` or `livenessProbe`."""
        return cls(
            kind,
            {name: raw[name] for name in ("exec", "httpGet", "tcpSocket", "grpc") if name in raw},
            initial_delay_s=raw.get("initialDelaySeconds", 0),
            period_s=raw.get("periodSeconds", 10),
            timeout_s=raw.get("timeoutSeconds", 1),
            successes=raw.get("successThreshold", 1),
            failures=raw.get("failureThreshold", 3),
            grace_s=raw.get("terminationGracePeriodSeconds"),
        )


def probes_of(container: Mapping[str, Any]) -> dict[ProbeKind, ContainerProbe]:
    """Those that a container has."""
    return {
        kind: ContainerProbe.parse(kind, container[kind.field])
        for kind in ProbeKind
        if container.get(kind.field)
    }
