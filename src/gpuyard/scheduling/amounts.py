"""Amounts of a resource in words: `4 GPUs`, `500m CPU`, `8Gi memory`."""

from __future__ import annotations

from gpuyard.gpus.resources import WHOLE_GPUS, is_gpu
from gpuyard.kube.quantity import format_bytes, format_milli
from gpuyard.kube.requests import CPU, MEMORY, PODS

EPHEMERAL_STORAGE = "ephemeral-storage"
_BYTES = frozenset({MEMORY, EPHEMERAL_STORAGE})


def number(resource: str, amount: int) -> str:
    """The amount without its resource: cpu from millicores, bytes down to two decimals of their unit."""
    if resource == CPU:
        return format_milli(amount)
    if resource in _BYTES or resource.startswith("hugepages-"):
        return _size(amount)
    return str(amount)


def quantity(resource: str, amount: int) -> str:
    """The amount as Kubernetes reads it, exact."""
    if resource == CPU:
        return format_milli(amount)
    if resource in _BYTES or resource.startswith("hugepages-"):
        return format_bytes(amount)
    return str(amount)


def in_words(resource: str, amount: int) -> str:
    """The amount with its resource."""
    return f"{number(resource, amount)} {noun(resource, amount)}"


def noun(resource: str, amount: int) -> str:
    """The resource's name as people say it, singular or plural."""
    one = {CPU: 1000}.get(resource, 1) == amount
    if resource in WHOLE_GPUS:
        return "GPU" if one else "GPUs"
    match resource:
        case "cpu":
            return "CPU" if one or amount < 1000 else "CPUs"
        case "pods":
            return "pod" if one else "pods"
    return resource


def affordable(resource: str, free: int) -> int:
    """What is free, rounded down to what people write; 0 when it can't be asked for."""
    if resource == PODS or free <= 0:
        return 0
    step = 100 if resource == CPU else 2**20
    return free // step * step if free >= step else free


def by_importance(resource: str) -> tuple[int, str]:
    """Sorts GPUs first, then other devices, CPU, memory, the rest, and the number of pods last."""
    if is_gpu(resource):
        return 0, resource
    ranks = {CPU: 2, MEMORY: 3, PODS: 5}
    return ranks.get(resource, 1 if "/" in resource else 4), resource


def _size(count: int) -> str:
    # Rounded down, so that what is free never looks as if it sufficed when it doesn't.
    for unit, scale in (("Ti", 2**40), ("Gi", 2**30), ("Mi", 2**20), ("Ki", 2**10)):
        if abs(count) >= scale:
            hundredths = count * 100 // scale
            return f"{hundredths / 100:.2f}".rstrip("0").rstrip(".") + unit
    return str(count)
