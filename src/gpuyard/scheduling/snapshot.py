"""The nodes and what their pods hold, at one moment. Nothing here changes: every change makes a new one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from gpuyard.gpus.faults import GpuFault, no_gpus_text, node_faults, unoffered_text
from gpuyard.gpus.occupants import Occupant, node_occupants, withheld
from gpuyard.kube.conditions import condition_is_true
from gpuyard.kube.nodes import not_ready_text
from gpuyard.kube.objects import Manifest, labels_of
from gpuyard.kube.pods import is_terminal
from gpuyard.kube.requests import parse_resources
from gpuyard.scheduling.requests import PodRequest

#: Taints that the control plane sets and takes away by itself.
PASSING_TAINTS = "node.kubernetes.io/"


@dataclass(frozen=True)
class NodeState:
    """One node. Amounts: cpu in millicores, all others in whole base units.

    Attributes:
        allocatable: what pods may take; devices that are unhealthy are not in it.
        capacity: what is there, unhealthy devices included.
        ready: its kubelet says so.
        faults: its unhealthy GPUs, as far as its agent tells.
        occupants: who else is on its GPUs, as far as its agent tells.
        not_ready: `not ready`, since when and why; empty when it is ready.
        no_gpus: why it has none to give, as its agent says; empty where it doesn't.
        unoffered: which of its GPUs aren't offered, and why, as its agent says.
        unschedulable: cordoned.
        pods: the pods bound to it that have not finished, terminating ones included.
        allotted: the sum of their requests.
    """

    name: str
    allocatable: Mapping[str, int] = field(default_factory=dict)
    capacity: Mapping[str, int] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[Mapping[str, Any], ...] = ()
    ready: bool = True
    unschedulable: bool = False
    pods: tuple[PodRequest, ...] = ()
    allotted: Mapping[str, int] = field(default_factory=dict)
    not_ready: str = ""
    faults: tuple[GpuFault, ...] = ()
    occupants: tuple[Occupant, ...] = ()
    no_gpus: str = ""
    unoffered: str = ""

    @classmethod
    def of(cls, manifest: Manifest) -> NodeState:
        """From a Node, without pods."""
        spec, status = manifest.get("spec") or {}, manifest.get("status") or {}
        ready = condition_is_true(manifest, "Ready")
        return cls(
            name=manifest["metadata"]["name"],
            allocatable=parse_resources(status.get("allocatable") or {}),
            capacity=parse_resources(status.get("capacity") or {}),
            labels=labels_of(manifest),
            taints=tuple(spec.get("taints") or ()),
            ready=ready,
            unschedulable=bool(spec.get("unschedulable")),
            not_ready=not_ready_text(manifest),
            faults=node_faults(manifest),
            occupants=node_occupants(manifest),
            no_gpus=no_gpus_text(manifest),
            unoffered=unoffered_text(manifest),
        )

    @property
    def lacking(self) -> tuple[GpuFault | Occupant, ...]:
        """Why GPUs of it can't be had: those that are unhealthy, then those that others have."""
        return (*self.faults, *withheld(self.occupants))

    def free(self, resource: str) -> int:
        """What is left; negative when devices that pods hold became unhealthy."""
        return self.allocatable.get(resource, 0) - self.allotted.get(resource, 0)

    def with_pods(self, pods: Iterable[PodRequest]) -> NodeState:
        """This node with further pods on it."""
        pods = tuple(pods)
        allotted = dict(self.allotted)
        for pod in pods:
            for resource, count in pod.resources.items():
                allotted[resource] = allotted.get(resource, 0) + count
        return replace(self, pods=self.pods + pods, allotted=allotted)

    def without_pods(self, gone: Callable[[PodRequest], bool] = lambda pod: True) -> NodeState:
        """This node without the pods of which `gone` says so."""
        return replace(self, pods=(), allotted={}).with_pods(p for p in self.pods if not gone(p))

    def at_its_best(self) -> NodeState:
        """This node empty, ready and with all its devices healthy."""
        devices = {resource: count for resource, count in self.capacity.items() if "/" in resource}
        return replace(
            self.without_pods(),
            allocatable={
                r: max(devices.get(r, 0), self.allocatable.get(r, 0)) for r in {**self.allocatable, **devices}
            },
            taints=tuple(t for t in self.taints if not str(t.get("key", "")).startswith(PASSING_TAINTS)),
            ready=True,
            unschedulable=False,
            faults=(),
            occupants=(),
        )


@dataclass(frozen=True)
class Snapshot:
    """All nodes by name, in the order of their names."""

    nodes: Mapping[str, NodeState] = field(default_factory=dict)

    @classmethod
    def of(cls, nodes: Iterable[Manifest], pods: Iterable[Manifest]) -> Snapshot:
        """From Nodes and Pods as the API serves them; pods that hold nothing may be among them."""
        return cls.build(map(NodeState.of, nodes), (PodRequest.of(pod) for pod in pods if holds(pod)))

    @classmethod
    def build(cls, nodes: Iterable[NodeState], pods: Iterable[PodRequest]) -> Snapshot:
        """From empty nodes and the pods that are bound to them."""
        bound: dict[str, list[PodRequest]] = {}
        for pod in pods:
            bound.setdefault(pod.node_name, []).append(pod)
        by_name = sorted(nodes, key=lambda node: node.name)
        return cls({node.name: node.with_pods(bound.get(node.name, ())) for node in by_name})

    def assume(self, pod: PodRequest, node: str) -> Snapshot:
        """As if the pod were bound to the node."""
        return Snapshot({**self.nodes, node: self.nodes[node].with_pods((replace(pod, node_name=node),))})

    def without_pods(self, gone: Callable[[PodRequest], bool]) -> Snapshot:
        """As if the pods of which `gone` says so had ended."""
        return Snapshot({name: node.without_pods(gone) for name, node in self.nodes.items()})

    def at_its_best(self) -> Snapshot:
        """Every node empty, ready and healthy: what doesn't fit here never will."""
        return Snapshot({name: node.at_its_best() for name, node in self.nodes.items()})


def waits(pod: Manifest) -> bool:
    """Whether a scheduler looks for a node for it."""
    spec = pod["spec"]
    return (
        not spec.get("nodeName")
        and not spec.get("schedulingGates")
        and not pod["metadata"].get("deletionTimestamp")
        and (pod.get("status") or {}).get("phase", "Pending") == "Pending"
    )


def holds(pod: Manifest) -> bool:
    """Whether the pod takes something from a node: bound, and not finished."""
    return bool((pod.get("spec") or {}).get("nodeName")) and not is_terminal(pod)
