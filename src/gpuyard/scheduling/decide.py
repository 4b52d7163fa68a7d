"""One decision: the node for a pod, or why there is none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from gpuyard.kube.objects import ObjectKey
from gpuyard.scheduling.fit import Misfit, fit
from gpuyard.scheduling.requests import PodRequest
from gpuyard.scheduling.score import score
from gpuyard.scheduling.snapshot import Snapshot


@dataclass(frozen=True)
class Decision:
    """The outcome for one pod.

    Attributes:
        node: where it goes; None when it fits nowhere.
        misfits: for each node on which it doesn't fit, every reason.
    """

    node: str | None
    misfits: Mapping[str, tuple[Misfit, ...]]

    @property
    def message(self) -> str:
        """Why it fits nowhere, as kube-scheduler puts it: on each node the first filter that fails."""
        if not self.misfits:
            return "no nodes available to schedule pods"
        counts = Counter(
            m.short for misfits in self.misfits.values() for m in misfits if m.filter == misfits[0].filter
        )
        reasons = ", ".join(sorted(f"{count} {short}" for short, count in counts.items()))
        return f"0/{len(self.misfits)} nodes are available: {reasons}."


def decide(request: PodRequest, snapshot: Snapshot) -> Decision:
    """The best node that fits; the same question always gets the same answer."""
    misfits = {name: tuple(fit(request, node)) for name, node in snapshot.nodes.items()}
    fitting = [snapshot.nodes[name] for name, found in misfits.items() if not found]
    best = min((score(request, node) for node in fitting), default=None)
    return Decision(best.name if best else None, {name: found for name, found in misfits.items() if found})


def order(
    requests: Iterable[PodRequest], arrivals: Mapping[ObjectKey, int] | None = None
) -> list[PodRequest]:
    """Who is asked first: the higher priority, then the older, then by name.

    Args:
        requests: who asks.
        arrivals: ranks those of one second, which is as fine as Kubernetes' times are.
    """
    ranks = arrivals or {}
    return sorted(requests, key=lambda r: (-r.priority, r.created, ranks.get(r.key, 0), r.key))
