"""Nodes whose devices nobody can have: no device plugin serves them, or it says that all are unhealthy."""

from __future__ import annotations

from dataclasses import replace

from gpuyard.gpus.faults import why_none
from gpuyard.kube.wellknown import LABEL_GPU_COUNT
from gpuyard.scheduling.amounts import in_words
from gpuyard.scheduling.fit import fit
from gpuyard.scheduling.requests import PodRequest
from gpuyard.scheduling.snapshot import NodeState, Snapshot


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
    why = node.no_gpus or why_none(node.lacking, node.labels, there)
    return f"needs {needs}, and none of the {in_words(resource, there)} of node {node.name} can be had: {why}"


def about_plugins(snapshot: Snapshot) -> tuple[str, ...]:
    """Nodes that offer no GPUs, as their agent says or though they are labelled for some."""
    lines = []
    for node in snapshot.nodes.values():
        if node.no_gpus:
            lines.append(f"node {node.name} has no GPUs to give, says its agent: {node.no_gpus}")
        elif node.labels.get(LABEL_GPU_COUNT, "0") != "0":
            labelled = f"node {node.name} is labelled for {node.labels[LABEL_GPU_COUNT]} GPUs"
            lines.append(f"{labelled} and offers none: no device plugin serves them")
    return tuple(lines)
