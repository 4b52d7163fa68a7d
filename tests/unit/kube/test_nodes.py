from __future__ import annotations

from typing import Any

import pytest

from gpuyard.kube.nodes import allocatable_gpus, capacity_gpus, has_simulated_gpus


@pytest.mark.parametrize(
    ("status", "found"),
    [
        (None, (0, 0)),
        ({"capacity": None}, (0, 0)),
        ({"capacity": {"cpu": "8"}, "allocatable": {"cpu": "8"}}, (0, 0)),
        ({"capacity": {"nvidia.com/gpu": "8"}, "allocatable": {"nvidia.com/gpu": "6"}}, (8, 6)),
    ],
)
def test_gpus_of_a_node(status: dict[str, Any] | None, found: tuple[int, int]) -> None:
    node = {"metadata": {"name": "a"}, "status": status}
    assert (capacity_gpus(node), allocatable_gpus(node)) == found


@pytest.mark.parametrize(("value", "simulated"), [("true", True), ("false", False), (None, False)])
def test_simulated_gpus(value: str | None, simulated: bool) -> None:
    labels = {"gpuyard.io/simulated": value} if value else None
    assert has_simulated_gpus({"metadata": {"name": "a", "labels": labels}}) is simulated
