"""What a node's object says of its GPUs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gpuyard.kube.objects import labels_of
from gpuyard.kube.quantity import to_int
from gpuyard.kube.wellknown import GPU_RESOURCE, LABEL_SIMULATED


def capacity_gpus(node: Mapping[str, Any]) -> int:
    """How many GPUs a node has, those that are unhealthy included."""
    return _gpus(node, "capacity")


def allocatable_gpus(node: Mapping[str, Any]) -> int:
    """How many GPUs a node's pods can have."""
    return _gpus(node, "allocatable")


def has_simulated_gpus(node: Mapping[str, Any]) -> bool:
    """Whether its GPUs are simulated."""
    return labels_of(node).get(LABEL_SIMULATED) == "true"


def _gpus(node: Mapping[str, Any], key: str) -> int:
    return to_int(((node.get("status") or {}).get(key) or {}).get(GPU_RESOURCE, 0))
