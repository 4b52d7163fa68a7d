"""Whether a pod fits on a node, and each reason why not.

Source: kube-scheduler's filters NodeName, NodeUnschedulable, TaintToleration, NodeAffinity, NodeResourcesFit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, ClassVar, TypeAlias

from gpuyard.gpus.catalogue import in_words as models_in_words
from gpuyard.kube.nodes import format_taint, tolerates
from gpuyard.kube.requests import PODS
from gpuyard.kube.selectors import Requirement
from gpuyard.kube.wellknown import (
    LABEL_GPU_MODEL,
    TAINT_NOT_READY,
    TAINT_UNREACHABLE,
    TAINT_UNSCHEDULABLE,
)
from gpuyard.scheduling.amounts import in_words, number
from gpuyard.scheduling.requests import NodeTerm, PodRequest
from gpuyard.scheduling.snapshot import NodeState


class Filter(IntEnum):
    """What a node is asked of, in this order; kube-scheduler calls such a test a filter."""

    NODE = 1
    TAINTS = 2
    SELECTOR = 3
    MODEL = 4
    RESOURCES = 5
    VOLUMES = 6


@dataclass(frozen=True)
class NotReady:
    """The node's kubelet isn't ready; the text says since when and why."""

    text: str = "not ready"
    filter: ClassVar[Filter] = Filter.NODE
    short: ClassVar[str] = "node(s) were not ready"

    def __str__(self) -> str:
        return f"is {self.text}"


@dataclass(frozen=True)
class Cordoned:
    """The node takes no new pods (`kubectl cordon`)."""

    filter: ClassVar[Filter] = Filter.NODE
    short: ClassVar[str] = "node(s) were unschedulable"

    def __str__(self) -> str:
        return "is cordoned"


@dataclass(frozen=True)
class OtherNode:
    """The pod names another node."""

    wanted: str
    filter: ClassVar[Filter] = Filter.NODE
    short: ClassVar[str] = "node(s) didn't match the requested node name"

    def __str__(self) -> str:
        return f"is not {self.wanted}, the node asked for by name"


@dataclass(frozen=True)
class Untolerated:
    """The node has a taint that the pod doesn't tolerate."""

    key: str
    value: str
    effect: str
    filter: ClassVar[Filter] = Filter.TAINTS

    @property
    def short(self) -> str:
        """kube-scheduler's words."""
        return f"node(s) had untolerated taint {{{self.key}: {self.value}}}"

    @property
    def taint(self) -> dict[str, str]:
        """The taint as an object."""
        return {"key": self.key, "value": self.value, "effect": self.effect}

    def __str__(self) -> str:
        return f"has the taint {format_taint(self.taint)}, which isn't tolerated"


@dataclass(frozen=True)
class LabelMismatch:
    """The node's labels don't satisfy `nodeSelector` or the required node affinity.

    Attributes:
        selector: the labels of `nodeSelector` that the node hasn't.
        affinity: whether required node affinity is (also) at fault.
    """

    selector: tuple[Requirement, ...]
    affinity: bool
    filter: ClassVar[Filter] = Filter.SELECTOR
    short: ClassVar[str] = "node(s) didn't match Pod's node affinity/selector"

    def __str__(self) -> str:
        wanted = [f"{r.key}={r.values[0]}" for r in self.selector]
        parts = [f"hasn't the label {', '.join(wanted)}"] if wanted else []
        if self.affinity:
            parts.append("doesn't match the required node affinity")
        return " and ".join(parts)


@dataclass(frozen=True)
class WrongModel:
    """The node has another GPU model, or none; but for that its labels would do."""

    wanted: tuple[str, ...]
    actual: str
    filter: ClassVar[Filter] = Filter.MODEL
    short: ClassVar[str] = LabelMismatch.short

    def __str__(self) -> str:
        wanted = models_in_words(self.wanted) or "another model"
        return f"has {self.actual or 'no known GPU model'}, needs {wanted}"


@dataclass(frozen=True)
class Insufficient:
    """Too little of a resource. Amounts: cpu in millicores, all others in whole base units."""

    resource: str
    capacity: int
    allotted: int
    free: int
    needs: int
    filter: ClassVar[Filter] = Filter.RESOURCES

    @property
    def short(self) -> str:
        """kube-scheduler's words."""
        return "Too many pods" if self.resource == PODS else f"Insufficient {self.resource}"

    def __str__(self) -> str:
        free = in_words(self.resource, max(self.free, 0))
        return f"has {free} free, needs {number(self.resource, self.needs)}"


@dataclass(frozen=True)
class VolumeElsewhere:
    """A volume that the pod uses can't be mounted there."""

    volume: str
    filter: ClassVar[Filter] = Filter.VOLUMES
    short: ClassVar[str] = "node(s) didn't match PersistentVolume's node affinity"

    def __str__(self) -> str:
        return f"can't mount volume {self.volume}, which is tied to other nodes"


Misfit: TypeAlias = (
    NotReady
    | Cordoned
    | OtherNode
    | Untolerated
    | LabelMismatch
    | WrongModel
    | Insufficient
    | VolumeElsewhere
)


def fit(request: PodRequest, node: NodeState) -> list[Misfit]:
    """Every reason why the pod can't go there, in the order of the filters; empty when it fits."""
    misfits: list[Misfit] = []
    if not node.ready:
        misfits.append(NotReady(node.not_ready or "not ready"))
    if node.unschedulable:
        misfits.append(Cordoned())
    if request.node_name and request.node_name != node.name:
        misfits.append(OtherNode(request.node_name))
    misfits += _taints(request, node)
    misfits += _labels(request, node)
    for resource, needs in request.resources.items():
        free = node.free(resource)
        if needs > free:
            capacity, allotted = node.allocatable.get(resource, 0), node.allotted.get(resource, 0)
            misfits.append(Insufficient(resource, capacity, allotted, free, needs))
    misfits += [VolumeElsewhere(name) for name, terms in request.volumes if not _any_term(terms, node)]
    return misfits


def _taints(request: PodRequest, node: NodeState) -> list[Misfit]:
    # The control plane writes those two states as taints, too.
    said = {TAINT_UNSCHEDULABLE} if node.unschedulable else set()
    if not node.ready:
        said |= {TAINT_NOT_READY, TAINT_UNREACHABLE}
    return [
        Untolerated(taint.get("key", ""), taint.get("value") or "", taint["effect"])
        for taint in node.taints
        if taint.get("effect") in ("NoSchedule", "NoExecute")
        and taint.get("key") not in said
        and not tolerated(taint, request)
    ]


def tolerated(taint: Mapping[str, Any], request: PodRequest) -> bool:
    """Whether one of the pod's tolerations covers the taint."""
    return any(tolerates(toleration, taint) for toleration in request.tolerations)


def _labels(request: PodRequest, node: NodeState) -> list[Misfit]:
    selector = tuple(r for r in request.selector if not r.matches(node.labels))
    affinity = request.affinity is not None and not _any_term(request.affinity, node)
    if not selector and not affinity:
        return []
    # Would the node do if it had one of the models that the pod wishes for?
    wanted = wanted_models(request)
    for model in wanted:
        supposed = {**node.labels, LABEL_GPU_MODEL: model}
        others = all(r.matches(supposed) for r in request.selector)
        if others and (request.affinity is None or _any_term(request.affinity, node, supposed)):
            return [WrongModel(wanted, node.labels.get(LABEL_GPU_MODEL, ""))]
    return [LabelMismatch(selector, affinity)]


def wanted_models(request: PodRequest) -> tuple[str, ...]:
    """The GPU models that the pod names, in its selector or its required affinity."""
    terms = [r for term in request.affinity or () for r in term.labels]
    named = [r for r in (*request.selector, *terms) if r.key == LABEL_GPU_MODEL and r.operator == "In"]
    return tuple(dict.fromkeys(value for r in named for value in r.values))


def _any_term(terms: tuple[NodeTerm, ...], node: NodeState, labels: Mapping[str, str] | None = None) -> bool:
    return any(term.matches(node.name, node.labels if labels is None else labels) for term in terms)
