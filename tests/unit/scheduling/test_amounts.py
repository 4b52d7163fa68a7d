from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuyard.kube.quantity import to_int, to_milli
from gpuyard.scheduling.amounts import by_importance, in_words, quantity


@pytest.mark.parametrize(
    ("resource", "amount", "words"),
    [
        ("nvidia.com/gpu", 1, "1 GPU"),
        ("nvidia.com/gpu", 0, "0 GPUs"),
        ("cpu", 500, "500m CPU"),
        ("cpu", 1000, "1 CPU"),
        ("cpu", 16000, "16 CPUs"),
        ("memory", 2**33, "8Gi memory"),
        ("memory", 2**33 - 1, "7.99Gi memory"),
        ("memory", 1536 * 2**20, "1.5Gi memory"),
        ("memory", 1023, "1023 memory"),
        ("ephemeral-storage", 2**41, "2Ti ephemeral-storage"),
        ("hugepages-2Mi", 2**21, "2Mi hugepages-2Mi"),
        ("pods", 1, "1 pod"),
        ("pods", 110, "110 pods"),
        ("example.com/fpga", 2, "2 example.com/fpga"),
    ],
)
def test_in_words(resource: str, amount: int, words: str) -> None:
    assert in_words(resource, amount) == words


@given(st.integers(0, 2**50))
def test_quantities_are_exact(amount: int) -> None:
    assert to_int(quantity("memory", amount)) == amount
    assert to_milli(quantity("cpu", amount)) == amount
    assert to_int(quantity("nvidia.com/gpu", amount)) == amount


def test_gpus_come_first() -> None:
    names = ["pods", "memory", "cpu", "a.b/c", "ephemeral-storage", "nvidia.com/gpu"]
    assert sorted(names, key=by_importance) == [
        "nvidia.com/gpu",
        "a.b/c",
        "cpu",
        "memory",
        "ephemeral-storage",
        "pods",
    ]
