"""What a pod takes from its node and from its namespace's quotas, counted as Kubernetes counts.

Amounts: cpu in millicores, all others in whole base units.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any

from gpuyard.kube.quantity import to_int, to_milli

CPU = "cpu"
MEMORY = "memory"
PODS = "pods"


def effective_requests(spec: Mapping[str, Any]) -> dict[str, int]:
    """What a pod takes from its node: the larger of its containers together and any init container.

    Init containers that restart always run beside the others. A limit without a request counts as one.
    Source: k8s.io/component-helpers `resource.PodRequests`.
    """
    total = _together(spec, _container_requests)
    total[PODS] = 1
    return {resource: count for resource, count in total.items() if count > 0}


def effective_limits(spec: Mapping[str, Any]) -> dict[str, int]:
    """The same of limits, as a ResourceQuota counts them."""
    return _together(
        spec, lambda container: parse_resources((container.get("resources") or {}).get("limits") or {})
    )


def _together(
    spec: Mapping[str, Any], amounts: Callable[[Mapping[str, Any]], dict[str, int]]
) -> dict[str, int]:
    running = _sum(amounts(c) for c in spec.get("containers") or ())
    sidecars: dict[str, int] = {}
    peak: dict[str, int] = {}
    for container in spec.get("initContainers") or ():
        requests = _sum((amounts(container), sidecars))
        if container.get("restartPolicy") == "Always":
            sidecars = requests
        peak = _max(peak, requests)
    return _sum((_max(_sum((running, sidecars)), peak), parse_resources(spec.get("overhead") or {})))


def _container_limits(container: Mapping[str, Any]) -> dict[str, int]:
    return parse_resources((container.get("resources") or {}).get("limits") or {})


def _container_requests(container: Mapping[str, Any]) -> dict[str, int]:
    resources = container.get("resources") or {}
    return parse_resources({**(resources.get("limits") or {}), **(resources.get("requests") or {})})


def parse_resources(raw: Mapping[str, str | int | float]) -> dict[str, int]:
    """A `ResourceList`: cpu in millicores, all others in whole base units."""
    return {resource: _amount(resource, text) for resource, text in raw.items()}


# The same few texts come with every pod, and exact decimals are slow.
@lru_cache(maxsize=4096)
def _amount(resource: str, text: str | int | float) -> int:
    return to_milli(text) if resource == CPU else to_int(text)


def _sum(parts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for part in parts:
        for resource, count in part.items():
            total[resource] = total.get(resource, 0) + count
    return total


def _max(left: Mapping[str, int], right: Mapping[str, int]) -> dict[str, int]:
    return {resource: max(left.get(resource, 0), right.get(resource, 0)) for resource in {**left, **right}}
