"""What can be changed so that a pod may run: what it asks for, who holds it, which GPUs are healthy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from gpuyard.advice import advice
from gpuyard.explain.holders import Holder
from gpuyard.gpus.catalogue import in_words as models_in_words
from gpuyard.gpus.faults import GpuFault
from gpuyard.gpus.occupants import Occupant
from gpuyard.gpus.resources import WHOLE_GPUS, gpu_request
from gpuyard.kube.nodes import format_taint
from gpuyard.kube.selectors import Requirement
from gpuyard.kube.wellknown import LABEL_GPU_MODEL
from gpuyard.scheduling.amounts import in_words, number, quantity
from gpuyard.scheduling.fit import wanted_models
from gpuyard.scheduling.requests import NodeTerm, PodRequest
from gpuyard.scheduling.snapshot import NodeState, Snapshot

_MOST_NAMED = 4


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
class UseResource:
    """Ask for `amount` of a device by the name that the node has for it."""

    resource: str
    instead_of: str
    amount: int

    def apply(self, request: PodRequest) -> PodRequest:
        """The request with as many of the other one."""
        amounts = dict(request.resources)
        amounts[self.resource] = amounts.pop(self.instead_of) + amounts.get(self.resource, 0)
        return replace(request, resources=amounts)

    def __str__(self) -> str:
        # Everybody knows how to ask for whole ones.
        how = "" if self.resource in WHOLE_GPUS else gpu_request(self.resource, self.amount)
        option = f" with {advice('--gpus')} {how}" if how else ""
        return f"ask for {self.resource} instead of {self.instead_of}{option}"

    def to_json(self) -> dict[str, Any]:
        """`{"kind": "use_resource", "resource": …, "instead_of": …}`."""
        return {"kind": "use_resource", "resource": self.resource, "instead_of": self.instead_of}


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
        found = any(names_model(r) for r in requirements)
        return tuple(r for r in requirements if not names_model(r)) + (new if found else ())

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
        option = f" with {advice('--toleration')} {self.taint['key']}" if self.taint["key"] else ""
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

    def alter(self, snapshot: Snapshot) -> Snapshot:
        """The nodes without what these hold."""
        return snapshot.without_pods(lambda pod: any(holder.owns(pod) for holder in self.holders))

    def __str__(self) -> str:
        stop = [h.title for h in self.holders if not h.ending]
        wait = [h.title for h in self.holders if h.ending]
        parts = [f"stop {joined(stop)}"] if stop else []
        if wait:
            parts.append(f"wait for {joined(wait)} to end")
        return " and ".join(parts)

    def to_json(self) -> dict[str, Any]:
        """`{"kind": "release", "holders": […]}`."""
        return {"kind": "release", "holders": [h.to_json() for h in self.holders]}


@dataclass(frozen=True)
class Mend:
    """Mend unhealthy GPUs of a node, and wait for those that others have, so that `amount` more of the
    resource can be had."""

    node: str
    faults: tuple[GpuFault | Occupant, ...]
    resource: str
    amount: int

    def apply(self, request: PodRequest) -> PodRequest:
        """The request as it is: the node changes."""
        return request

    def alter(self, snapshot: Snapshot) -> Snapshot:
        """The nodes with these GPUs healthy."""
        return Snapshot({**snapshot.nodes, self.node: self.mended(snapshot.nodes[self.node])})

    def mended(self, node: NodeState) -> NodeState:
        """The node with these GPUs healthy."""
        amount = self.amount + node.allocatable.get(self.resource, 0)
        return replace(node, allocatable={**node.allocatable, self.resource: amount})

    def __str__(self) -> str:
        sick = [each.index for each in self.faults if isinstance(each, GpuFault)]
        taken = [each.index for each in self.faults if isinstance(each, Occupant)]
        parts = [f"mend {_numbered(sick)}"] if sick else []
        if taken:
            parts.append(f"wait until others leave {_numbered(taken)}")
        return joined(parts)

    def to_json(self) -> dict[str, Any]:
        """`{"kind": "mend", "gpus": […]}`, those that others have with their `pid` or `home`."""
        return {"kind": "mend", "gpus": [fault.to_json() for fault in self.faults]}


Change: TypeAlias = (
    AskFor | UseResource | UseModel | Tolerate | UseLabel | DropSelector | DropAffinity | Release | Mend
)


def _numbered(gpus: list[int]) -> str:
    """`GPUs 3 and 4`; how many where they are many."""
    gpus = list(dict.fromkeys(gpus))
    if len(gpus) > _MOST_NAMED:
        return f"{len(gpus)} GPUs"
    return f"GPU{'s'[len(gpus) == 1 :]} {joined(list(map(str, gpus)))}"


def names_model(requirement: Requirement) -> bool:
    """Whether it is about the GPU model."""
    return requirement.key == LABEL_GPU_MODEL and requirement.operator == "In"


def _pair(requirement: Requirement) -> str:
    return f"{requirement.key}={requirement.values[0]}"


def joined(words: list[str]) -> str:
    """`a, b and c`, of at least one."""
    *others, last = words
    # What has an "and" of its own ends with a comma.
    between = ", and " if any(" and " in word for word in words) else " and "
    return between.join((", ".join(others), last)) if others else last
