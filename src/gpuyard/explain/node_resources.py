"""Resources that a request names and that no node offers, and what the nodes offer instead."""

from __future__ import annotations

from difflib import get_close_matches

from gpuyard.explain.node_labels import few
from gpuyard.gpus.resources import MIG_PREFIX, SHARED_SUFFIX, is_gpu, vendor_of
from gpuyard.scheduling.amounts import by_importance
from gpuyard.scheduling.requests import PodRequest
from gpuyard.scheduling.snapshot import NodeState, Snapshot

#: How alike two names are when one is the other mistyped, and two of one vendor's that may be meant.
_LIKENESS, _OF_ONE_VENDOR = 0.85, 0.7
_MOST_NAMED = 6
_SHARES = (
    "shares of GPUs are offered where `gpuyard up` or `gpuyard install` has a --gpu-config that names them "
    "so: docs/how-to/share-and-split-gpus.md"
)
_PARTS = (
    "parts of GPUs are offered where `gpuyard up` or `gpuyard install` has --mig-strategy mixed, and "
    "`gpuyard node mig apply` has made some: docs/how-to/mig.md"
)


def nowhere(request: PodRequest, snapshot: Snapshot) -> list[str]:
    """The devices of the request that no node has, healthy or not, the most important first."""
    return [
        resource
        for resource in sorted(request.resources, key=by_importance)
        if "/" in resource and not any(node.capacity.get(resource) for node in snapshot.nodes.values())
    ]


def what_is_there(resource: str, snapshot: Snapshot) -> dict[str, list[str]]:
    """Devices that could be meant by one that no node has, with their nodes; for GPUs those of any vendor."""
    there: dict[str, list[str]] = {}
    for node in snapshot.nodes.values():
        for name in meant_by(resource, node) or filter(
            _is_gpus, _offered(node) if _is_gpus(resource) else ()
        ):
            there.setdefault(name, []).append(node.name)
    return there


def meant_by(resource: str, node: NodeState) -> list[str]:
    """Devices of a node that could be meant by one that it hasn't: nearly spelt so, or the vendor's GPUs."""
    offered, vendor = _offered(node), vendor_of(resource)
    ends = {name.partition("/")[2]: name for name in offered if vendor_of(name) == vendor}
    near = get_close_matches(resource.partition("/")[2], ends, cutoff=_OF_ONE_VENDOR)
    gpus = [name for name in ends.values() if _is_gpus(name)] if _is_gpus(resource) else []
    alike = get_close_matches(resource, offered, cutoff=_LIKENESS)
    found = dict.fromkeys([*(ends[end] for end in near), *gpus, *alike])
    # A share or a part is another thing than a whole one, however alike their names are.
    return sorted(found, key=lambda name: _is_divided(name) and not _is_divided(resource))


def _offered(node: NodeState) -> list[str]:
    return sorted(name for name, count in node.capacity.items() if "/" in name and count)


def _is_divided(resource: str) -> bool:
    return resource.endswith(SHARED_SUFFIX) or resource.startswith(MIG_PREFIX)


def _is_gpus(resource: str) -> bool:
    return is_gpu(resource) or "gpu" in resource.partition("/")[2]


def about_resources(request: PodRequest, snapshot: Snapshot) -> tuple[str, ...]:
    """For each device that no node has: what there is that could be meant."""
    lines = []
    for resource in nowhere(request, snapshot):
        there = what_is_there(resource, snapshot)
        named = ", ".join(f"{name} (node {few(nodes)})" for name, nodes in [*there.items()][:_MOST_NAMED])
        lines.append(
            f"instead of {resource} there is {named}"
            if named
            else f"no device plugin that serves {resource} runs anywhere"
        )
    return (*lines, *about_offers(request, snapshot))


def about_offers(request: PodRequest, snapshot: Snapshot) -> tuple[str, ...]:
    """What would make nodes offer the shares and parts of GPUs that none offers."""
    unknown = [resource for resource in nowhere(request, snapshot) if is_gpu(resource)]
    there = [name for node in snapshot.nodes.values() for name, count in node.capacity.items() if count]
    return tuple(
        how
        for how, is_so in (
            (_SHARES, lambda name: name.endswith(SHARED_SUFFIX)),
            (_PARTS, lambda name: name.startswith(MIG_PREFIX)),
        )
        if any(map(is_so, unknown)) and not any(map(is_so, there))
    )
