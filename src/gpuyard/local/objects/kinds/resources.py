"""Resource requests and limits of a container.

Sources: kubernetes `pkg/apis/core/validation` (resource requirements), `pkg/apis/core/v1/helper/qos`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gpuyard.kube.quantity import parse_quantity
from gpuyard.local.objects.kinds.fields import NEGATIVE, check_key, invalid, required
from gpuyard.local.objects.kinds.kind import FieldError

_STANDARD = ("cpu", "memory", "ephemeral-storage")


def default_requests(container: Mapping[str, Any]) -> None:
    """What has a limit and no request requests its limit."""
    resources = container.get("resources") or {}
    for name, quantity in (resources.get("limits") or {}).items():
        resources.setdefault("requests", {}).setdefault(name, quantity)


def validate_resources(path: str, resources: Mapping[str, Any]) -> list[FieldError]:
    """Names, values, and requests within limits."""
    found: list[FieldError] = []
    limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
    for name, quantity in limits.items():
        found += _validate_quantity(f"{path}.limits", name, quantity)
    for name, quantity in requests.items():
        place = f"{path}.requests"
        found += _validate_quantity(place, name, quantity)
        limit = limits.get(name)
        if limit is None:
            if not _overcommits(name):
                found.append(required(f"{path}.limits", "Limit must be set for non overcommitable resources"))
        elif not _overcommits(name) and parse_quantity(quantity) != parse_quantity(limit):
            found.append(invalid(place, quantity, f"must be equal to {name} limit of {limit}"))
        elif parse_quantity(quantity) > parse_quantity(limit):
            found.append(invalid(place, quantity, f"must be less than or equal to {name} limit of {limit}"))
    return found


def validate_amount(path: str, name: str, quantity: str) -> list[FieldError]:
    """One amount of a resource: not negative, and whole where devices are counted."""
    value = parse_quantity(quantity)
    if value < 0:
        return [invalid(path, quantity, NEGATIVE)]
    if "/" in name and value != int(value):
        return [invalid(path, quantity, "must be an integer")]
    return []


def quota_class(containers: Sequence[Mapping[str, Any]]) -> str:
    """`status.qosClass`: Guaranteed, Burstable or BestEffort, by CPU and memory alone."""
    guaranteed, asks = True, False
    for container in containers:
        resources = container.get("resources") or {}
        for name in ("cpu", "memory"):
            request = parse_quantity((resources.get("requests") or {}).get(name, "0"))
            limit = parse_quantity((resources.get("limits") or {}).get(name, "0"))
            asks = asks or request > 0 or limit > 0
            guaranteed = guaranteed and limit > 0 and request in (0, limit)
    if not asks:
        return "BestEffort"
    return "Guaranteed" if guaranteed else "Burstable"


def _overcommits(name: str) -> bool:
    return name in _STANDARD


def _validate_quantity(path: str, name: str, quantity: str) -> list[FieldError]:
    place = f"{path}[{name}]"
    if found := check_key(place, name):
        return found
    if "/" not in name and name not in _STANDARD and not name.startswith("hugepages-"):
        detail = "must be a standard resource type or fully qualified"
        return [
            invalid(place, name, detail),
            invalid(place, name, "must be a standard resource for containers"),
        ]
    return validate_amount(place, name, quantity)
