from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import strategies as st

from gpuyard.gpus.resources import GPU_RESOURCE
from gpuyard.kube.objects import ObjectKey
from gpuyard.kube.selectors import Requirement
from gpuyard.kube.wellknown import LABEL_GPU_MODEL
from gpuyard.scheduling.requests import NodeTerm, PodRequest
from gpuyard.scheduling.snapshot import NodeState, Snapshot

_TAINTS = ({"key": "dedicated", "value": "ml", "effect": "NoSchedule"},)
_TOLERATIONS = ({"key": "dedicated", "operator": "Exists"},)


def _amounts(gpus: int, cpu: int, memory: int, pods: int) -> dict[str, int]:
    amounts = {GPU_RESOURCE: gpus, "cpu": cpu * 500, "memory": memory * 2**30, "pods": pods}
    return {resource: count for resource, count in amounts.items() if count}


def _affinity(model: str, zone: str) -> tuple[NodeTerm, ...] | None:
    wanted = {LABEL_GPU_MODEL: model, "zone": zone}
    labels = tuple(Requirement(key, "In", (value,)) for key, value in wanted.items() if value)
    return (NodeTerm(labels),) if labels else None


def _nodes() -> st.SearchStrategy[list[NodeState]]:
    capacity = st.builds(
        _amounts, st.sampled_from([0, 1, 4, 8]), st.integers(2, 16), st.integers(2, 16), st.integers(1, 6)
    )
    models, zones = st.sampled_from(["", "H100", "A100"]), st.sampled_from(["a", "b"])
    labels = st.builds(lambda model, zone: {LABEL_GPU_MODEL: model, "zone": zone}, models, zones)
    states = st.builds(
        NodeState,
        name=st.sampled_from(["n1", "n2", "n3", "n4"]),
        allocatable=capacity,
        labels=labels.map(lambda found: {key: value for key, value in found.items() if value}),
        taints=st.sampled_from([(), (), _TAINTS]),
        ready=st.sampled_from([True, True, True, False]),
        unschedulable=st.sampled_from([True, False, False, False]),
    )
    return st.lists(states, max_size=4, unique_by=lambda state: state.name)


def _pods() -> st.SearchStrategy[PodRequest]:
    asked = st.builds(
        _amounts, st.sampled_from([0, 0, 1, 2, 4, 8]), st.integers(0, 6), st.integers(0, 6), st.just(1)
    )
    selector = st.sampled_from(["", "", "a", "b"]).map(
        lambda zone: (Requirement("zone", "In", (zone,)),) if zone else ()
    )
    return st.builds(
        PodRequest,
        key=st.integers(0, 10**6).map(lambda number: ObjectKey("d", f"p{number}")),
        resources=asked,
        node_name=st.sampled_from(["", "", "", "n1"]),
        selector=selector,
        affinity=st.builds(
            _affinity, st.sampled_from(["", "", "H100", "A100"]), st.sampled_from(["", "", "a"])
        ),
        tolerations=st.sampled_from([(), _TOLERATIONS]),
        priority=st.sampled_from([0, 0, 10]),
        since=st.integers(10, 59).map(lambda minute: f"2026-01-31T12:{minute}:00Z"),
        run=st.sampled_from(["", "", "r1", "r2"]),
        ending=st.booleans(),
    )


@pytest.fixture(scope="session")
def yards() -> st.SearchStrategy[tuple[Snapshot, list[PodRequest]]]:
    """Nodes without pods, and pods that want to go there."""
    pods = st.lists(_pods(), min_size=1, max_size=12, unique_by=lambda pod: pod.key)
    return st.tuples(_nodes().map(lambda nodes: Snapshot.build(nodes, ())), pods)


@pytest.fixture(scope="session")
def snapshot_of() -> Callable[..., Snapshot]:
    """A snapshot of nodes as they are."""
    return lambda *nodes: Snapshot({node.name: node for node in sorted(nodes, key=lambda node: node.name)})
