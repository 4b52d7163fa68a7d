from __future__ import annotations

import pytest

from gpuyard.local.kubelet.pods.rejection import admit

ALLOCATABLE = {"cpu": 4000, "memory": 1 << 30, "pods": 3}


@pytest.mark.parametrize(
    ("requests", "held", "reason"),
    [
        ({"cpu": 4000, "memory": 1 << 30, "pods": 1}, [], None),
        ({"cpu": 1, "pods": 1}, [{"cpu": 4000, "pods": 1}], "OutOfcpu"),
        ({"memory": 1, "pods": 1}, [{"memory": 1 << 29}, {"memory": 1 << 29}], "OutOfmemory"),
        ({"pods": 1}, [{"pods": 1}] * 3, "OutOfpods"),
        # A pod that asks for nothing doesn't suffer from a node that has too much on it already.
        ({"pods": 1}, [{"cpu": 9000}], None),
        ({"nvidia.com/gpu": 9, "pods": 1}, [], None),  # the device manager's to refuse
    ],
)
def test_admission(requests: dict[str, int], held: list[dict[str, int]], reason: str | None) -> None:
    rejection = admit(requests, held, ALLOCATABLE)
    assert (rejection.reason if rejection else None) == reason


def test_words_of_a_rejection() -> None:
    rejection = admit({"cpu": 2000}, [{"cpu": 3000}], ALLOCATABLE)
    assert rejection is not None
    assert rejection.message == (
        "Pod was rejected: Node didn't have enough resource: cpu, requested: 2000, used: 3000, capacity: 4000"
    )
