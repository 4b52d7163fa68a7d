"""Plans of changes that would let a pod run, found by trying them: each fits before it is told."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import takewhile
from typing import Any

from gpuyard.explain.changes import (
    AskFor,
    Change,
    DropAffinity,
    DropSelector,
    Mend,
    Release,
    Tolerate,
    UseLabel,
    UseModel,
    UseResource,
    joined,
    names_model,
)
from gpuyard.explain.holders import smallest_release, title_of
from gpuyard.explain.node_resources import meant_by, nowhere
from gpuyard.gpus.resources import is_gpu
from gpuyard.kube.selectors import Requirement
from gpuyard.scheduling.amounts import affordable
from gpuyard.scheduling.decide import decide
from gpuyard.scheduling.fit import Insufficient, LabelMismatch, Untolerated, WrongModel, fit
from gpuyard.scheduling.requests import PodRequest
from gpuyard.scheduling.snapshot import PASSING_TAINTS, NodeState, Snapshot

_MOST_FIXES = 20
_MOST_TRIED = 20
#: How alike two words are when one is the other mistyped; `node-a` and `node-b` aren't.
_LIKENESS = 0.85


@dataclass(frozen=True)
class ChangeSet:
    """Changes that together let the pod run on a node."""

    node: str
    changes: tuple[Change, ...]

    def apply(self, request: PodRequest, snapshot: Snapshot) -> tuple[PodRequest, Snapshot]:
        """What would be asked, and of what, once the changes are made."""
        for change in self.changes:
            request = change.apply(request)
            if isinstance(change, Release | Mend):
                snapshot = change.alter(snapshot)
        return request, snapshot

    def works(self, request: PodRequest, snapshot: Snapshot) -> bool:
        """Whether the pod then fits on the node."""
        request, snapshot = self.apply(request, snapshot)
        return not fit(request, snapshot.nodes[self.node])

    def overtakers(self, request: PodRequest, snapshot: Snapshot, queue: Sequence[PodRequest]) -> list[str]:
        """Titles of those that would go there before it once the changes are made, so that it still waits.

        Args:
            request: the pod.
            snapshot: the nodes before the changes.
            queue: the pods that wait, in the scheduler's order.
        """
        asked, after = self.apply(request, snapshot)
        # Who waits fits nowhere as it is; only what the changes touch is new to it.
        touched = {n: s for n, s in after.nodes.items() if n == self.node or s != snapshot.nodes[n]}
        after = Snapshot(touched)
        taken: list[PodRequest] = []
        for pod in _ahead(asked, queue, submitted_again=asked != request):
            if chosen := decide(pod, after).node:
                after = after.assume(pod, chosen)
                taken += [pod] if chosen == self.node else []
        if not fit(asked, after.nodes[self.node]):
            return []
        return list(dict.fromkeys(title_of(pod, request.key.namespace) for pod in taken))

    def __str__(self) -> str:
        return f"{joined([str(change) for change in self.changes])} (node {self.node})"

    def to_json(self) -> dict[str, Any]:
        """`{"node": …, "changes": […], "text": …}`."""
        return {"node": self.node, "changes": [c.to_json() for c in self.changes], "text": str(self)}


def find_plans(
    request: PodRequest, snapshot: Snapshot, queue: Sequence[PodRequest] = ()
) -> tuple[ChangeSet, ...]:
    """The best plan of each sort, the smallest first: ask otherwise, ask for less, take from others, mend.

    Nothing is found where every node is away, cordoned, or too small for what can't be asked otherwise; and
    nothing that would let others go before it.

    Args:
        request: the pod.
        snapshot: the nodes.
        queue: the pods that wait, in the scheduler's order.
    """
    otherwise: list[ChangeSet] = []
    smaller: list[ChangeSet] = []
    taking: list[ChangeSet] = []
    mending: list[ChangeSet] = []
    unknown = nowhere(request, snapshot)
    for node in snapshot.nodes.values():
        fixed = _suited(request, node, unknown)
        if fixed is None:
            continue
        changes, suited = fixed
        short = [m for m in fit(suited, node) if isinstance(m, Insufficient)]
        if not short:
            otherwise.append(ChangeSet(node.name, changes))
            continue
        if all(affordable(m.resource, m.free) > 0 for m in short):
            less = tuple(AskFor(m.resource, affordable(m.resource, m.free), m.needs) for m in short)
            smaller.append(ChangeSet(node.name, changes + less))
        missing = {m.resource: m.needs - m.free for m in short}
        # Nobody stops some of a gang for the others of it.
        pods = [pod for pod in node.pods if not pod.belongs_with(request)]
        if holders := smallest_release(pods, missing, request.key.namespace):
            taking.append(ChangeSet(node.name, (*changes, Release(holders))))
        if mend := _find_mend(node, missing):
            mended = {
                m.resource: m.needs - m.free
                for m in fit(suited, mend.mended(node))
                if isinstance(m, Insufficient)
            }
            freed = smallest_release(pods, mended, request.key.namespace) if mended else ()
            # Both together only where neither alone would do.
            if freed is not None and not (freed and holders):
                stopping = (Release(freed),) if freed else ()
                mending.append(ChangeSet(node.name, (*changes, *stopping, mend)))

    def works(plan: ChangeSet) -> bool:
        fits = bool(plan.changes) and plan.works(request, snapshot)
        return fits and not plan.overtakers(request, snapshot, queue)

    # A plan is tried on all nodes; where many would let others go first, so would the rest.
    best = (sorted(plans, key=_size)[:_MOST_TRIED] for plans in (otherwise, smaller, taking, mending))
    found = (next(filter(works, plans), None) for plans in best)
    return tuple(sorted(filter(None, found), key=lambda plan: len(plan.changes)))


def _ahead(
    request: PodRequest, queue: Sequence[PodRequest], *, submitted_again: bool
) -> Iterable[PodRequest]:
    """Who of the queue is asked before it: who asks otherwise submits again, and is the youngest then."""
    others = queue if submitted_again else takewhile(lambda pod: pod.key != request.key, queue)
    own = (request.key.namespace, request.holder)
    return (
        pod for pod in others if pod.priority >= request.priority and (pod.key.namespace, pod.holder) != own
    )


def _find_mend(node: NodeState, missing: Mapping[str, int]) -> Mend | None:
    """The GPUs to mend or to wait for there; None where nothing that is missing is one of them."""
    for resource, count in missing.items():
        unhealthy = node.capacity.get(resource, 0) - node.allocatable.get(resource, 0)
        if is_gpu(resource) and unhealthy > 0 and node.lacking:
            faults = node.lacking[: min(count, unhealthy)]
            # A GPU may have several devices; all of them are healthy once all GPUs are.
            amount = unhealthy if len(faults) == len(node.lacking) else len(faults)
            return Mend(node.name, faults, resource, amount)
    return None


def _suited(
    request: PodRequest, node: NodeState, unknown: Sequence[str]
) -> tuple[tuple[Change, ...], PodRequest] | None:
    """The request changed until only resources are in its way there, and by which changes.

    Args:
        request: the pod.
        node: where it is to go.
        unknown: devices of the request that no node has.
    """
    changes: list[Change] = [
        UseResource(m[0], name, request.resources[name]) for name in unknown if (m := meant_by(name, node))
    ]
    for change in changes:
        request = change.apply(request)
    for _ in range(_MOST_FIXES):
        misfit = next(iter(fit(request, node)), None)
        match misfit:
            case None | Insufficient():
                return tuple(changes), request
            case Untolerated() if not misfit.key.startswith(PASSING_TAINTS):
                change = Tolerate(misfit.taint)
            case WrongModel():
                change = UseModel(misfit.actual, misfit.wanted)
            case LabelMismatch():
                change = _other_labels(misfit, node)
            case _:
                return None
        changes.append(change)
        request = change.apply(request)
    return None


def _other_labels(misfit: LabelMismatch, node: NodeState) -> Change:
    others = tuple(r for r in misfit.selector if not names_model(r))
    for requirement in others:
        if meant := _meant(requirement, node):
            return UseLabel(meant, requirement)
    return DropSelector(others) if others else DropAffinity()


def _meant(requirement: Requirement, node: NodeState) -> Requirement | None:
    """The node's label of which this is a misspelling, if there is one."""
    value = requirement.values[0]
    key = next(iter(get_close_matches(requirement.key, node.labels, n=1, cutoff=_LIKENESS)), "")
    if key and get_close_matches(value, [node.labels[key]], n=1, cutoff=_LIKENESS):
        return Requirement(key, "In", (node.labels[key],))
    return None


def _size(plan: ChangeSet) -> tuple[int, int, int, float, str]:
    """Fewer changes; taking from the less important and from fewer; giving up less."""
    taken = [h for c in plan.changes if isinstance(c, Release) for h in c.holders if not h.ending]
    given_up = sum(1 - c.amount / c.instead_of for c in plan.changes if isinstance(c, AskFor))
    importance = max((h.priority for h in taken), default=0) if taken else -(2**31)
    return len(plan.changes), importance, len(taken), given_up, plan.node
