"""What the probes of one start of a container have found so far, and what follows from it (pure).

Source: kubernetes `pkg/kubelet/prober/worker.go` (doProbe) and `prober_manager.go` (UpdatePodStatus).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from gpuyard.local.kubelet.probing.probe import ContainerProbe, ProbeKind


@dataclass(frozen=True)
class ProbeFinding:
    """What one probe has found.

    Attributes:
        holds: its verdict: enough successes in a row since the last that was for the worse, or the reverse.
        last: its last answer, None before the first.
        in_a_row: how many answers in a row were like the last.
    """

    holds: bool
    last: bool | None = None
    in_a_row: int = 0

    def after(self, probe: ContainerProbe, succeeded: bool) -> ProbeFinding:
        """With one more answer."""
        in_a_row = self.in_a_row + 1 if succeeded == self.last else 1
        enough = in_a_row >= (probe.successes if succeeded else probe.failures)
        return ProbeFinding(succeeded if enough else self.holds, succeeded, in_a_row)


@dataclass(frozen=True)
class ContainerHealth:
    """Changes by `after` and `ending`, which return the next.

    Attributes:
        probes: that the container has.
        findings: of each of them.
        is_held: its postStart hook goes on: it counts as not started, and nothing is probed.
        is_ending: its pod is to end: whether it lives is no longer asked, whether it serves is.
        failed: the probe that it failed so that it has to be started again.
    """

    probes: Mapping[ProbeKind, ContainerProbe] = field(default_factory=dict)
    findings: Mapping[ProbeKind, ProbeFinding] = field(default_factory=dict)
    is_held: bool = False
    is_ending: bool = False
    failed: ProbeKind | None = None

    @classmethod
    def of(
        cls,
        probes: Mapping[ProbeKind, ContainerProbe],
        *,
        started: bool = False,
        ready: bool = False,
        held: bool = False,
    ) -> ContainerHealth:
        """Of a container before any answer. What was found of it before, by a kubelet that has gone away,
        goes on to hold until answers say otherwise: `started`, `ready`."""
        holds = {ProbeKind.STARTUP: started, ProbeKind.READINESS: ready, ProbeKind.LIVENESS: True}
        return cls(probes, {kind: ProbeFinding(holds[kind]) for kind in probes}, is_held=held)

    @property
    def is_started(self) -> bool:
        """Whether it has started, as far as it says when it has."""
        return not self.is_held and self._holds(ProbeKind.STARTUP)

    @property
    def is_ready(self) -> bool:
        """Whether it serves; without a probe for that it does once it has started."""
        return self.is_started and self._holds(ProbeKind.READINESS)

    def asks(self, kind: ProbeKind) -> bool:
        """Whether this probe is to be made now."""
        if self.is_held or kind not in self.probes:
            return False
        match kind:
            case ProbeKind.READINESS:
                return self.is_started
            case ProbeKind.LIVENESS:
                return self.is_started and not self._is_given_up
            case ProbeKind.STARTUP:
                return not self.is_started and not self._is_given_up

    def after(self, kind: ProbeKind, succeeded: bool) -> ContainerHealth:
        """With one more answer, which is ignored where none was due any more."""
        if not self.asks(kind):
            return self
        found = self.findings[kind].after(self.probes[kind], succeeded)
        lost = kind is not ProbeKind.READINESS and not succeeded and not found.holds
        # A startup that was never found to hold fails when it has failed often enough.
        lost = lost and found.in_a_row >= self.probes[kind].failures
        return replace(self, findings={**self.findings, kind: found}, failed=kind if lost else self.failed)

    def released(self) -> ContainerHealth:
        """Once its postStart hook is through."""
        return replace(self, is_held=False)

    def ending(self) -> ContainerHealth:
        """Once it is to end."""
        return replace(self, is_ending=True)

    @property
    def _is_given_up(self) -> bool:
        return self.is_ending or self.failed is not None

    def _holds(self, kind: ProbeKind) -> bool:
        return kind not in self.findings or self.findings[kind].holds
