"""Changes that would let a pod run, found by trying them: each plan is applied and fits before it is told."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any, TypeAlias

from gpuyard.explain.holders import Holder, smallest_release
from gpuyard.gpus.catalogue import in_words as models_in_words
from gpuyard.kube.nodes import format_taint
from gpuyard.kube.selectors import Requirement
from gpuyard.kube.wellknown import LABEL_GPU_MODEL
from gpuyard.scheduling.amounts import affordable, in_words, number, quantity
from gpuyard.scheduling.fit import (
    Insufficient,
    LabelMismatch,
    Untolerated,
    WrongModel,
    fit,
    wanted_models,
)
from gpuyard.scheduling.requests import NodeTerm, PodRequest
from gpuyard.scheduling.snapshot import PASSING_TAINTS, NodeState, Snapshot

_MOST_FIXES = 20
#: How alike two words are when one is the other mistyped; `node-a` and `node-b` aren't.
_LIKENESS = 0.85


@dataclass(frozen=True)
class AskFor:
    """Ask for less of a resource (cpu in millicores, all others in whole base units)."""

    resource: str
    amount: int
    instead_of: int

    def apply(self, request: PodRequest) -> PodRequest:
        """The request with the smaller amount."""
        return replace(request, resources={**request.resources, self.resource: self.amount})

    def __str__(self) -> str:
        instead_of = number(self.resource, self.instead_of)
        return f"ask for {in_words(self.resource, self.amount)} instead of {instead_of}"

    def to_json(self) -> dict[str, Any]:
        """`{"kind": "ask_for", "resource": …, "amount": …}` with a Kubernetes quantity."""
        return {"kind": "ask_for", "resource": self.resource, "amount": quantity(self.resource, self.amount)}


@dataclass(frozen=True)
class UseModel:
    """Ask for another GPU model, or for any (empty) where the node's isn't known."""

    model: str
    instead_of: tuple[str, ...]

    def apply(self, request: PodRequest) -> PodRequest:
        """The request with this model wherever it named one."""
        terms = request.affinity
        if terms is not None:
            terms = tuple(replace(term, labels=self._renamed(term.labels)) for term in terms)
            if any(not term.labels and not term.fields for term in terms):
                terms = None
        return replace(request, selector=self._renamed(request.selector), affinity=terms)

    def _renamed(self, requirements: tuple[Requirement, ...]) -> tuple[Requirement, ...]:
        new = (Requirement(LABEL_GPU_MODEL, "In", (self.model,)),) if self.model else ()
        found = any(_names_model(r) for r in requirements)
        return tuple(r for r in requirements if not _names_model(r)) + (new if found else ())

    def __str__(self) -> str:
        return f"use {self.model or 'any GPU model'} instead of {models_in_words(self.instead_of)}"

    def to_json(self) -> dict[str, Any]:
        """`{"kind": "use_model", "model": …}`; an empty model means any."""
        return {"kind": "use_model", "model": self.model}


@dataclass(frozen=True)
class Tolerate:
    """Tolerate a taint."""

    taint: Mapping[str, str]

    def apply(self, request: PodRequest) -> PodRequest:
        """The request with a toleration of just this taint."""
        toleration = {**self.taint, "operator": "Equal"}
        if not self.taint["key"]:
            toleration = {"operator": "Exists", "effect": self.taint["effect"]}
        return replace(request, tolerations=(*request.tolerations, toleration))

    def __str__(self) -> str:
        option = f" with --toleration {self.taint['key']}" if self.taint["key"] else ""
        return f"tolerate the taint {format_taint(self.taint)}{option}"

    def to_json(self) -> dict[str, Any]:
        """`{"kind": "tolerate", "taint": …}`."""
        return {"kind": "tolerate", "taint": dict(self.taint)}


@dataclass(frozen=True)
class UseLabel:
    """Spell a label of the node selector as the node does."""

    label: Requirement
    instead_of: Requirement

    def apply(self, request: PodRequest) -> PodRequest:
        """The request with the label as the node has it."""
        selector = tuple(self.label if r == self.instead_of else r for r in request.selector)
        return replace(request, selector=selector)

    def __str__(self) -> str:
        return f"select {_pair(self.label)} instead of {_pair(self.instead_of)}"

    def to_json(self) -> dict[str, Any]:
        """`{"kind": "use_label", "labels": {…}, "instead_of": {…}}`."""
        return {
            "kind": "use_label",
            "labels": {self.label.key: self.label.values[0]},
            "instead_of": {self.instead_of.key: self.instead_of.values[0]},
        }


@dataclass(frozen=True)
class DropSelector:
    """Drop labels from the node selector."""

    labels: tuple[Requirement, ...]

    def apply(self, request: PodRequest) -> PodRequest:
        """The request without these labels."""
        return replace(request, selector=tuple(r for r in request.selector if r not in self.labels))

    def __str__(self) -> str:
        return "drop the node selector " + ", ".join(map(_pair, self.labels))

    def to_json(self) -> dict[str, Any]:
        """`{"kind": "drop_selector", "labels": {…}}`."""
        return {"kind": "drop_selector", "labels": {r.key: r.values[0] for r in self.labels}}


@dataclass(frozen=True)
class DropAffinity:
    """Drop required node affinity, all but the GPU model."""

    def apply(self, request: PodRequest) -> PodRequest:
        """The request with no more required affinity than its GPU models."""
        models = wanted_models(replace(request, selector=()))
        kept = (NodeTerm((Requirement(LABEL_GPU_MODEL, "In", models),)),) if models else None
        return replace(request, affinity=kept)

    def __str__(self) -> str:
        return "drop the required node affinity"

    def to_json(self) -> dict[str, Any]:
        """`{"kind": "drop_affinity"}`."""
        return {"kind": "drop_affinity"}


@dataclass(frozen=True)
class Release:
    """End these holders, or wait for those that are ending."""

    holders: tuple[Holder, ...]

    def apply(self, request: PodRequest) -> PodRequest:
        """The request as it is: the nodes change."""
        return request

    def release(self, snapshot: Snapshot) -> Snapshot:
        """The nodes without what these hold."""
        return snapshot.without_pods(lambda pod: any(holder.owns(pod) for holder in self.holders))

    def __str__(self) -> str:
        stop = [h.title for h in self.holders if not h.ending]
        wait = [h.title for h in self.holders if h.ending]
        parts = [f"stop {_and(stop)}"] if stop else []
        if wait:
            parts.append(f"wait for {_and(wait)} to end")
        return " and ".join(parts)

    def to_json(self) -> dict[str, Any]:
        """`{"kind": "release", "holders": […]}`."""
        return {"kind": "release", "holders": [h.to_json() for h in self.holders]}


Change: TypeAlias = AskFor | UseModel | Tolerate | UseLabel | DropSelector | DropAffinity | Release


@dataclass(frozen=True)
class ChangeSet:
    """Changes that together let the pod run on a node."""

    node: str
    changes: tuple[Change, ...]

    def apply(self, request: PodRequest, snapshot: Snapshot) -> tuple[PodRequest, Snapshot]:
        """What would be asked, and of what, once the changes are made."""
        for change in self.changes:
            request = change.apply(request)
            if isinstance(change, Release):
                snapshot = change.release(snapshot)
        return request, snapshot

    def works(self, request: PodRequest, snapshot: Snapshot) -> bool:
        """Whether the pod then fits on the node."""
        request, snapshot = self.apply(request, snapshot)
        return not fit(request, snapshot.nodes[self.node])

    def __str__(self) -> str:
        return f"{_and([str(change) for change in self.changes])} (node {self.node})"

    def to_json(self) -> dict[str, Any]:
        """`{"node": …, "changes": […], "text": …}`."""
        return {"node": self.node, "changes": [c.to_json() for c in self.changes], "text": str(self)}


def find_plans(request: PodRequest, snapshot: Snapshot) -> tuple[ChangeSet, ...]:
    """The best plan of each sort, the smallest first: ask otherwise, ask for less, take from others.

    Nothing is found where every node is away, cordoned, or too small for what can't be asked otherwise.
    """
    otherwise: list[ChangeSet] = []
    smaller: list[ChangeSet] = []
    taking: list[ChangeSet] = []
    for node in snapshot.nodes.values():
        fixed = _suited(request, node)
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
        if holders := smallest_release(node.pods, missing, request.key.namespace):
            taking.append(ChangeSet(node.name, (*changes, Release(holders))))
    best = (_best(otherwise), _best(smaller), _best(taking))
    found = (plan for plan in best if plan and plan.changes and plan.works(request, snapshot))
    return tuple(sorted(found, key=lambda plan: len(plan.changes)))


def _suited(request: PodRequest, node: NodeState) -> tuple[tuple[Change, ...], PodRequest] | None:
    """The request changed until only resources are in its way there, and by which changes."""
    changes: list[Change] = []
    for _ in range(_MOST_FIXES):
        misfit = next(iter(fit(request, node)), None)
        match misfit:
            case None | Insufficient():
                return tuple(changes), request
            case Untolerated() if not misfit.key.startswith(PASSING_TAINTS):
                change: Change = Tolerate(misfit.taint)
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
    others = tuple(r for r in misfit.selector if not _names_model(r))
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


def _best(plans: Iterable[ChangeSet]) -> ChangeSet | None:
    return min(plans, key=_size, default=None)


def _size(plan: ChangeSet) -> tuple[int, int, int, float, str]:
    """Fewer changes; taking from the less important and from fewer; giving up less."""
    taken = [h for c in plan.changes if isinstance(c, Release) for h in c.holders if not h.ending]
    given_up = sum(1 - c.amount / c.instead_of for c in plan.changes if isinstance(c, AskFor))
    importance = max((h.priority for h in taken), default=0) if taken else -(2**31)
    return len(plan.changes), importance, len(taken), given_up, plan.node


def _names_model(requirement: Requirement) -> bool:
    return requirement.key == LABEL_GPU_MODEL and requirement.operator == "In"


def _pair(requirement: Requirement) -> str:
    return f"{requirement.key}={requirement.values[0]}"


def _and(words: list[str]) -> str:
    return " and ".join((", ".join(words[:-1]), words[-1])) if len(words) > 1 else "".join(words)
