from __future__ import annotations

from typing import Any

import pytest

from gpuyard.gpus.resources import (
    allocatable_gpus,
    capacity_gpus,
    gpu_quota_key,
    has_simulated_gpus,
    is_gpu,
    pod_gpus,
    quota_counts_gpus,
    quota_counts_nothing,
    vendors_of,
    wants_nvidia,
)
from gpuyard.kube.wellknown import AMD, NVIDIA


@pytest.mark.parametrize(
    ("status", "found"),
    [
        (None, (0, 0)),
        ({"capacity": None}, (0, 0)),
        ({"capacity": {"cpu": "8"}, "allocatable": {"cpu": "8"}}, (0, 0)),
        ({"capacity": {"nvidia.com/gpu": "8"}, "allocatable": {"nvidia.com/gpu": "6"}}, (8, 6)),
        ({"capacity": {"amd.com/gpu": "4", "nvidia.com/mig-1g.10gb": "7", "nvidia.com/mps": "1"}}, (11, 0)),
        ({"capacity": {"nvidia.com/gpu": "2", "nvidia.com/gpu.shared": "8"}}, (10, 0)),
        ({"capacity": {"nvidia.com/gpu": "8", "nvidia.com/h100": "8"}}, (8, 0)),
        ({"capacity": {"nvidia.com/gpu": "0", "nvidia.com/h100": "8"}}, (8, 0)),
    ],
)
def test_gpus_of_a_node(status: dict[str, Any] | None, found: tuple[int, int]) -> None:
    node = {"metadata": {"name": "a"}, "status": status}
    assert (capacity_gpus(node), allocatable_gpus(node)) == found


@pytest.mark.parametrize(("value", "simulated"), [("true", True), ("false", False), (None, False)])
def test_simulated_gpus(value: str | None, simulated: bool) -> None:
    labels = {"gpuyard.io/simulated": value} if value else None
    assert has_simulated_gpus({"metadata": {"name": "a", "labels": labels}}) is simulated


@pytest.mark.parametrize(
    ("resource", "answer"),
    [
        ("nvidia.com/gpu", True),
        ("amd.com/gpu", True),
        ("nvidia.com/mig-1g.10gb.me", True),
        ("nvidia.com/gpu.count", False),
        ("cpu", False),
        ("example.com/gpu", False),
    ],
)
def test_which_resources_are_gpus(resource: str, answer: bool) -> None:
    assert is_gpu(resource) is answer


def container(gpus: int, resource: str = "nvidia.com/gpu", **fields: str) -> dict[str, Any]:
    return {"resources": {"limits": {resource: str(gpus), "cpu": "2"}}, **fields}


@pytest.mark.parametrize(
    ("spec", "gpus"),
    [
        ({"containers": [{}]}, 0),
        ({"containers": [container(1), container(2)]}, 3),
        ({"containers": [container(1)], "initContainers": [container(4), container(2)]}, 4),
        ({"containers": [container(1)], "initContainers": [container(2, restartPolicy="Always")]}, 3),
        ({"containers": [container(2, "nvidia.com/mig-1g.10gb"), container(1, "amd.com/gpu")]}, 3),
    ],
)
def test_gpus_of_a_pod_count_as_kubernetes_counts_them(spec: dict[str, Any], gpus: int) -> None:
    assert pod_gpus(spec) == gpus


@pytest.mark.parametrize(
    ("key", "nothing"),
    [
        ("requests.nvidia.com/gpu", False),
        ("nvidia.com/gpu", True),
        ("limits.nvidia.com/gpu", True),
        ("limits.nvidia.com/mig-1g.10gb", True),
        ("limits.cpu", False),
    ],
)
def test_quota_keys_that_nothing_is_counted_for(key: str, nothing: bool) -> None:
    assert quota_counts_nothing(key) is nothing


def test_whose_gpus_nodes_have() -> None:
    nodes = [
        {"status": {"capacity": capacity}}
        for capacity in ({"cpu": "4", "amd.com/gpu": "8"}, {"nvidia.com/mig-1g.10gb": "7"}, {"cpu": "4"})
    ]
    assert vendors_of(nodes) == {AMD, NVIDIA}
    assert vendors_of([{"status": {"capacity": {"amd.com/gpu": "0"}}}, {}]) == set()


@pytest.mark.parametrize(
    ("key", "right"),
    [
        ("limits.amd.com/gpu", "requests.amd.com/gpu"),
        ("nvidia.com/mig-1g.10gb", "requests.nvidia.com/mig-1g.10gb"),
    ],
)
def test_the_quota_key_that_was_meant(key: str, right: str) -> None:
    assert gpu_quota_key(key) == right and quota_counts_gpus(right) and not quota_counts_gpus(key)


@pytest.mark.parametrize(("resource", "answer"), [("amd.com/gpu", False), ("nvidia.com/gpu.shared", True)])
def test_what_is_checked_against_cuda(resource: str, answer: bool) -> None:
    assert wants_nvidia({"containers": [{"resources": {"limits": {resource: "1"}}}]}) is answer
