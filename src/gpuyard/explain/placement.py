"""Why no node takes a pod: what is in its way, the arithmetic per node, and what would let it run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from gpuyard.explain.device_plugins import about_health, about_plugins, without_plugin
from gpuyard.explain.holders import Holder, holders_of
from gpuyard.explain.node_labels import about_labels, few
from gpuyard.explain.node_resources import about_offers, about_resources, nowhere, what_is_there
from gpuyard.explain.plans import ChangeSet, find_plans
from gpuyard.gpus.catalogue import in_words as models_in_words
from gpuyard.gpus.faults import GpuFault, in_one_line
from gpuyard.gpus.occupants import Occupant, withheld
from gpuyard.gpus.resources import gpus_in, is_gpu
from gpuyard.kube.requests import PODS
from gpuyard.kube.wellknown import LABEL_GPU_MODEL
from gpuyard.scheduling.amounts import by_importance, in_words, number, quantity
from gpuyard.scheduling.decide import decide
from gpuyard.scheduling.fit import Filter, Insufficient, Misfit, fit, wanted_models
from gpuyard.scheduling.requests import PodRequest
from gpuyard.scheduling.snapshot import NodeState, Snapshot


class Blocker(StrEnum):
    """What keeps a pod off the nodes."""

    NO_NODES = "no_nodes"
    NO_GPUS = "no_gpus"
    NO_RESOURCE = "no_resource"
    NODE = "node"
    TAINTS = "taints"
    SELECTOR = "selector"
    MODEL = "model"
    TOO_LARGE = "too_large"
    BUSY = "busy"
    UNHEALTHY = "unhealthy"
    VOLUMES = "volumes"


#: On equally near nodes the filter that tells most: what others hold, then what passes by itself.
_TELLING = (Filter.RESOURCES, Filter.NODE, Filter.MODEL, Filter.SELECTOR, Filter.TAINTS, Filter.VOLUMES)


@dataclass(frozen=True)
class Arithmetic:
    """One resource of one node. Amounts: cpu in millicores, all others in whole base units.

    Attributes:
        total: what is there for pods, with unhealthy devices.
        others: GPUs that other yards and foreign processes have.
        free: what a pod can have; never below 0.
    """

    resource: str
    total: int
    unhealthy: int
    allotted: int
    free: int
    needs: int
    others: int = 0

    @classmethod
    def of(cls, resource: str, node: NodeState, needs: int) -> Arithmetic:
        """From a node."""
        allocatable = node.allocatable.get(resource, 0)
        # A node keeps some CPU and memory for itself; a device that pods can't have is a sick one.
        lost = max(node.capacity.get(resource, 0) - allocatable, 0) if "/" in resource else 0
        others = min(lost, len(withheld(node.occupants))) if is_gpu(resource) else 0
        allotted, free = node.allotted.get(resource, 0), max(node.free(resource), 0)
        return cls(resource, allocatable + lost, lost - others, allotted, free, needs, others)

    def __str__(self) -> str:
        parts = [in_words(self.resource, self.total)]
        if self.unhealthy:
            parts.append(f"{number(self.resource, self.unhealthy)} unhealthy")
        if self.others:
            parts.append(f"{number(self.resource, self.others)} held by others")
        if self.free < self.total:
            parts.append(f"{number(self.resource, self.allotted)} allotted")
            parts.append(f"{number(self.resource, self.free)} free")
        return ", ".join([*parts, f"needs {number(self.resource, self.needs)}"])

    def to_json(self) -> dict[str, Any]:
        """All amounts as Kubernetes quantities."""
        names = ("total", "unhealthy", "others", "allotted", "free", "needs")
        return {"resource": self.resource, **{n: quantity(self.resource, getattr(self, n)) for n in names}}


@dataclass(frozen=True)
class NodeReport:
    """One node: why not, the arithmetic of everything asked for, who else holds what is short, sick GPUs, who
    is on its GPUs besides, which GPUs it doesn't offer, and what of it the pod's own gang, or the
    other replicas of its service, have."""

    name: str
    misfits: tuple[Misfit, ...]
    arithmetic: tuple[Arithmetic, ...]
    holders: tuple[Holder, ...]
    faults: tuple[GpuFault, ...] = ()
    occupants: tuple[Occupant, ...] = ()
    unoffered: str = ""
    own: str = ""

    @classmethod
    def of(cls, request: PodRequest, node: NodeState) -> NodeReport:
        """From the request and the node."""
        misfits = tuple(fit(request, node))
        short = {m.resource for m in misfits if isinstance(m, Insufficient)}
        asked = sorted((r for r in request.resources if r != PODS or PODS in short), key=by_importance)
        arithmetic = tuple(Arithmetic.of(r, node, request.resources[r]) for r in asked)
        home = request.key.namespace
        holders = holders_of((pod for pod in node.pods if not pod.belongs_with(request)), short, home)
        gang = holders_of(filter(request.belongs_with, node.pods), short, home)
        whose = "the run's other pods" if request.gang else "other replicas of it"
        own = f"{gang[0].amounts_text(short)} are for {whose}" if gang else ""
        report = cls(node.name, misfits, arithmetic, holders, own=own)
        if not gpus_in(request.resources):
            return report
        return replace(report, faults=node.faults, occupants=node.occupants, unoffered=node.unoffered)

    def lines(self) -> list[str]:
        """`node a: 8 GPUs, 6 allotted, 2 free, needs 4`, and what else there is to say, below it."""
        short = {m.resource for m in self.misfits if isinstance(m, Insufficient)}
        said = [str(m) for m in self.misfits if not isinstance(m, Insufficient)]
        # Where something else is in the way, the rest of the sums would only hide it.
        shown = self.arithmetic if short or not said else self.arithmetic[:1]
        said += [str(arithmetic) for arithmetic in shown]
        said = said or ["takes it: nothing is asked for"]
        if self.faults:
            said.append(in_one_line(self.faults))
        if self.occupants:
            said.append(in_one_line(self.occupants))
        if self.unoffered:
            said.append(self.unoffered)
        if self.own:
            said.append(f"of these, {self.own}")
        if self.holders:
            said.append("held by " + ", ".join(h.describe(short) for h in self.holders))
        indent = " " * len(f"node {self.name}: ")
        return [f"node {self.name}: {said[0]}"] + [indent + text for text in said[1:]]

    def to_json(self) -> dict[str, Any]:
        """Misfits as {step, text}, amounts as Kubernetes quantities."""
        return {
            "name": self.name,
            "misfits": [{"step": m.filter.name.lower(), "text": str(m)} for m in self.misfits],
            "resources": [a.to_json() for a in self.arithmetic],
            "holders": [h.to_json() for h in self.holders],
            "faults": [f.to_json() for f in self.faults],
            "occupants": [o.to_json() for o in self.occupants],
            "unoffered": self.unoffered,
        }


@dataclass(frozen=True)
class Explanation:
    """The whole answer.

    Attributes:
        blocker: what keeps the pod off the nodes; None when it fits now.
        headline: one clause that says so, with numbers.
        never: as the nodes are, not even all of them empty and healthy would do.
        nodes: the nearest to fitting first; on `never` as they are when empty, ready and healthy.
        plans: changes that would let it run, the smallest first: now, or on `never` on such a node.
        hints: what else is odd about the request or the nodes.
        incomplete: pods of other namespaces couldn't be read, so more is held than is counted.
    """

    blocker: Blocker | None
    headline: str
    never: bool
    nodes: tuple[NodeReport, ...]
    plans: tuple[ChangeSet, ...]
    hints: tuple[str, ...] = ()
    incomplete: bool = False

    def short(self) -> str:
        """For a status line: `needs 4 GPUs, 2 free on a` where something is short, else the headline."""
        if self.blocker is Blocker.BUSY:
            sums = [(a, node.name) for node in self.nodes for a in node.arithmetic if a.free < a.needs]
            for resource in dict.fromkeys(a.resource for a, _ in sums):
                most, name = max((s for s in sums if s[0].resource == resource), key=lambda s: s[0].free)
                needs, free = in_words(resource, most.needs), number(resource, most.free)
                return f"needs {needs}, {free} free on {name}"
        return self.headline

    def node_lines(self, limit: int = 12) -> list[str]:
        """Hints, and the nearest nodes, in about so many lines."""
        said = list(self.hints)
        for number_, node in enumerate(self.nodes):
            more = node.lines()
            if number_ and len(said) + len(more) > limit:
                said.append(f"… and {_summary(self.nodes[number_:])}")
                break
            said += more
        return said

    def lines(self) -> list[str]:
        """For people: headline, nodes, and what would help."""
        said = [self.headline, *self.node_lines()]
        for number_, plan in enumerate(self.plans):
            lead = "or" if number_ else ("what could run" if self.never else "what would run now")
            said.append(f"{lead}: {plan}")
        if self.blocker and not self.plans:
            said.append("no change of this request alone would let it run" + ("" if self.never else " now"))
        return said

    def to_json(self) -> dict[str, Any]:
        """Stable keys: blocker, headline, never, nodes, plans, hints, incomplete."""
        return {
            "blocker": self.blocker.value if self.blocker else None,
            "headline": self.headline,
            "never": self.never,
            "nodes": [node.to_json() for node in self.nodes],
            "plans": [plan.to_json() for plan in self.plans],
            "hints": list(self.hints),
            "incomplete": self.incomplete,
        }


def explain(request: PodRequest, snapshot: Snapshot, queue: Sequence[PodRequest] = ()) -> Explanation:
    """Why the pod isn't placed now.

    Args:
        request: the pod, which must not be among the snapshot's own.
        snapshot: the nodes.
        queue: all pods that wait, in the scheduler's order.
    """
    return could_ever_fit(request, snapshot) or _explain(request, snapshot, queue, never=False)


def could_ever_fit(request: PodRequest, snapshot: Snapshot) -> Explanation | None:
    """None when the pod fits some node that is empty, ready and healthy; else why none would do."""
    if decide(request, snapshot.at_its_best()).node is not None:
        return None
    return _explain(request, snapshot, (), never=True)


def _explain(
    request: PodRequest, snapshot: Snapshot, queue: Sequence[PodRequest], *, never: bool
) -> Explanation:
    # What is held or sick now has no part in what could never run.
    judged = snapshot.at_its_best() if never else snapshot
    reports = [NodeReport.of(request, node) for node in judged.nodes.values()]
    reports.sort(key=lambda report: (_distance(report), report.name))
    blocker = _blocker(reports, request, judged, never)
    if blocker is Blocker.BUSY and without_plugin(request, snapshot):
        blocker = Blocker.UNHEALTHY
    headline = _headline(blocker, request, judged, reports)
    if never:
        headline = f"no node could ever run this: {headline}"
    plans = find_plans(request, judged, queue) if blocker else ()
    hints: tuple[str, ...] = ()
    if blocker is Blocker.NO_GPUS:
        hints = about_plugins(snapshot) + about_offers(request, snapshot)
    elif blocker is Blocker.NO_RESOURCE:
        hints = about_resources(request, judged)
    elif blocker is Blocker.SELECTOR:
        hints = about_labels(request, snapshot)
    if blocker and queue:
        hints += _about_queue(request, judged, queue)
    return Explanation(blocker, headline, never, tuple(reports), plans, hints)


def _about_queue(request: PodRequest, snapshot: Snapshot, queue: Sequence[PodRequest]) -> tuple[str, ...]:
    """Who would take what a change would free for it."""
    plans = find_plans(request, snapshot)
    ahead = dict.fromkeys(name for plan in plans for name in plan.overtakers(request, snapshot, queue))
    if not ahead:
        return ()
    verb = "is" if len(ahead) == 1 else "are"
    return (f"{few(list(ahead))} {verb} ahead of it, and would get what becomes free",)


def _distance(report: NodeReport) -> tuple[int, int]:
    failed = {m.filter for m in report.misfits}
    return len(failed), min((_TELLING.index(each) for each in failed), default=0)


def _blocker(
    reports: list[NodeReport], request: PodRequest, snapshot: Snapshot, never: bool
) -> Blocker | None:
    if not reports:
        return Blocker.NO_NODES
    nearest = min(reports, key=_distance)
    if not nearest.misfits:
        return None
    if missing := nowhere(request, snapshot):
        gpus = is_gpu(missing[0]) and not what_is_there(missing[0], snapshot)
        return Blocker.NO_GPUS if gpus else Blocker.NO_RESOURCE
    first = nearest.misfits[0].filter
    if first is Filter.RESOURCES:
        return Blocker.TOO_LARGE if never else Blocker.BUSY
    return Blocker[first.name]


def _headline(
    blocker: Blocker | None, request: PodRequest, snapshot: Snapshot, reports: list[NodeReport]
) -> str:
    match blocker:
        case None:
            return f"fits on node {decide(request, snapshot).node} now"
        case Blocker.NO_NODES:
            return "there are no nodes"
        case Blocker.NO_GPUS:
            asked = ", ".join(in_words(r, n) for r, n in request.resources.items() if is_gpu(r))
            return f"needs {asked}, and no node has any"
        case Blocker.NO_RESOURCE:
            return f"no node offers {' or '.join(nowhere(request, snapshot))}"
        case Blocker.MODEL:
            return _about_models(request, snapshot)
        case Blocker.TOO_LARGE:
            return _about_size(request, snapshot)
        case Blocker.BUSY:
            return _about_free(request, snapshot)
        case Blocker.UNHEALTHY:
            return about_health(request, snapshot)
    nearest = min(reports, key=_distance)
    more = ", and it fits on no other" if len(reports) > 1 else ""
    why = " and ".join(str(m) for m in nearest.misfits if m.filter.name == blocker.name)
    return f"node {nearest.name} {why}{more}"


def _about_models(request: PodRequest, snapshot: Snapshot) -> str:
    models: dict[str, list[str]] = {}
    for node in snapshot.nodes.values():
        if model := node.labels.get(LABEL_GPU_MODEL):
            models.setdefault(model, []).append(node.name)
    there = ", ".join(f"{model} (node {few(names)})" for model, names in sorted(models.items()))
    wanted = models_in_words(wanted_models(request))
    return f"the GPU model it needs is {wanted}; there is {there or 'no known model'}"


def _about_size(request: PodRequest, snapshot: Snapshot) -> str:
    def has(node: NodeState, resource: str) -> int:
        return node.allocatable.get(resource, 0)

    return _shortage(request, snapshot, has, "the largest node {name} has {has}")


def _about_free(request: PodRequest, snapshot: Snapshot) -> str:
    def has(node: NodeState, resource: str) -> int:
        return max(node.free(resource), 0)

    return _shortage(request, snapshot, has, "the most that is free on one node is {has} (node {name})")


def _shortage(
    request: PodRequest, snapshot: Snapshot, has: Callable[[NodeState, str], int], most: str
) -> str:
    """Each resource of which no suitable node has enough, beside the node that has the most."""
    suitable = [
        node
        for node in snapshot.nodes.values()
        if all(isinstance(misfit, Insufficient) for misfit in fit(request, node))
    ]
    clauses = []
    for resource in sorted(request.resources, key=by_importance):
        amount, needs = max(has(node, resource) for node in suitable), request.resources[resource]
        if needs > amount:
            name = next(node.name for node in suitable if has(node, resource) == amount)
            told = most.format(name=name, has=number(resource, amount))
            clauses.append(f"needs {in_words(resource, needs)}, {told}")
    return "; ".join(clauses) or f"no single node has {_all(request)} together"


def _all(request: PodRequest) -> str:
    asked = [r for r in sorted(request.resources, key=by_importance) if r != PODS]
    return ", ".join(in_words(r, request.resources[r]) for r in asked)


def _summary(reports: Sequence[NodeReport]) -> str:
    """`190 more nodes (150 resources, 40 taints)`: by the first filter that fails there."""
    filters = Counter(r.misfits[0].filter.name.lower() if r.misfits else "fit" for r in reports)
    return (
        f"{len(reports)} more nodes ({', '.join(f'{count} {name}' for name, count in filters.most_common())})"
    )
