"""What is odd about a request or about the nodes: labels that nobody has, GPUs that nobody serves."""

from __future__ import annotations

from dataclasses import replace
from difflib import get_close_matches

from gpuyard.kube.selectors import Requirement
from gpuyard.scheduling.amounts import in_words
from gpuyard.scheduling.fit import fit
from gpuyard.scheduling.requests import PodRequest
from gpuyard.scheduling.snapshot import NodeState, Snapshot

#: What discovery labels a node with, and leaves there while nothing serves its GPUs.
_LABEL_COUNT = "nvidia.com/gpu.count"
_MOST_VALUES = 5


def without_plugin(request: PodRequest, snapshot: Snapshot) -> list[NodeState]:
    """The nodes that would take it if the devices, of which none can be had now, were there to be had."""
    devices = [resource for resource in request.resources if "/" in resource]
    return [
        node
        for node in snapshot.nodes.values()
        if any(node.capacity.get(r) and not node.allocatable.get(r) for r in devices)
        and not fit(request, replace(node, allocatable={**node.allocatable, **node.capacity}))
    ]


def about_health(request: PodRequest, snapshot: Snapshot) -> str:
    """Of the first of those nodes, of which there must be one."""
    node = without_plugin(request, snapshot)[0]
    resource = next(r for r in request.resources if node.capacity.get(r) and not node.allocatable.get(r))
    needs, there = in_words(resource, request.resources[resource]), node.capacity[resource]
    return (
        f"needs {needs}, and none of the {in_words(resource, there)} of node {node.name} can be had: "
        "its device plugin is gone, or says that all are unhealthy"
    )


def about_plugins(snapshot: Snapshot) -> tuple[str, ...]:
    """Nodes that are labelled for GPUs and offer none."""
    return tuple(
        f"node {node.name} is labelled for {node.labels[_LABEL_COUNT]} GPUs and offers none: "
        "no device plugin serves them"
        for node in snapshot.nodes.values()
        if node.labels.get(_LABEL_COUNT, "0") != "0"
    )


def about_labels(request: PodRequest, snapshot: Snapshot) -> tuple[str, ...]:
    """For each label that is asked for and that no node has: what the nodes have instead."""
    terms = (requirement for term in request.affinity or () for requirement in term.labels)
    return tuple(
        _about_label(requirement, snapshot)
        for requirement in (*request.selector, *terms)
        if not any(requirement.matches(node.labels) for node in snapshot.nodes.values())
    )


def _about_label(requirement: Requirement, snapshot: Snapshot) -> str:
    values: dict[str, list[str]] = {}
    for node in snapshot.nodes.values():
        if requirement.key in node.labels:
            values.setdefault(node.labels[requirement.key], []).append(node.name)
    if values:
        shown = sorted(values.items())[:_MOST_VALUES]
        there = ", ".join(f"{value} (node {few(names)})" for value, names in shown)
        more = f" and {len(values) - len(shown)} more" if len(values) > len(shown) else ""
        return f"the label {requirement.key} is {there}{more}"
    keys = sorted({key for node in snapshot.nodes.values() for key in node.labels})
    near = get_close_matches(requirement.key, keys, n=1)
    return f"no node has a label {requirement.key}" + (f"; there is {near[0]}" if near else "")


def few(names: list[str]) -> str:
    """The first three, and how many more."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
