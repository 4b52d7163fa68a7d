"""One decision: the node for a pod, or why there is none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

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


@dataclass(frozen=True)
class GangDecision:
    """The outcome for the pods of a gang that have no node yet.

    Attributes:
        nodes: where each goes; empty unless the gang is whole with them.
        message: why the others wait; empty while some of them aren't there yet.
    """

    nodes: Mapping[ObjectKey, str] = field(default_factory=dict)
    message: str = ""


def decide_gang(requests: Sequence[PodRequest], placed: int, snapshot: Snapshot) -> GangDecision:
    """Places all pods of a gang, or none; those above its size each by itself, once the gang is whole.

    Args:
        requests: those of one gang that wait, in their order.
        placed: how many of its pods have a node, and aren't over.
        snapshot: what there is; nothing of `requests` is in it.
    """
    gang = requests[0].gang
    assert gang is not None
    if len(requests) + placed < gang.size:
        return GangDecision()
    nodes: dict[ObjectKey, str] = {}
    message = ""
    for request in requests:
        decision = decide(request, snapshot)
        if decision.node is None and placed + len(nodes) >= gang.size:
            message = decision.message
            continue
        if decision.node is None:
            have = f"{placed + len(nodes)} of the {gang.size} pods of its gang have a place"
            return GangDecision(message=f"{have}, and none starts without the others: {decision.message}")
        nodes[request.key] = decision.node
        snapshot = snapshot.assume(request, decision.node)
    return GangDecision(nodes, message)


def beside_its_gang(request: PodRequest, waiting: Iterable[PodRequest], snapshot: Snapshot) -> Snapshot:
    """As if the others of a pod's gang that wait, too, had places, as far as there are any: none of them
    starts without it."""
    for other in waiting:
        is_beside = other.is_of_gang_of(request) and other.key != request.key
        if is_beside and (node := decide(other, snapshot).node):
            snapshot = snapshot.assume(other, node)
    return snapshot


def place_copies(request: PodRequest, count: int, snapshot: Snapshot) -> list[str]:
    """The nodes of as many equal pods as fit beside one another, `count` at most."""
    places: list[str] = []
    while len(places) < count and (node := decide(request, snapshot).node) is not None:
        places.append(node)
        snapshot = snapshot.assume(request, node)
    return places


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
