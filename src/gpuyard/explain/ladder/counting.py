"""What a ResourceQuota counts of a pod.

Sources: kubernetes `pkg/quota/v1/evaluator/core/pods.go`, core/v1 `ResourceQuotaScope`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gpuyard.kube.objects import Manifest
from gpuyard.kube.selectors import Requirement
from gpuyard.scheduling.requests import CPU, MEMORY, PODS, effective_limits, effective_requests


def base(key: str) -> str:
    """The resource that a quota's key counts: `requests.nvidia.com/gpu` → `nvidia.com/gpu`."""
    return key.removeprefix("requests.").removeprefix("limits.").removeprefix("count/")


def counted(key: str, spec: Mapping[str, Any]) -> int:
    """How much of a quota's key a pod takes; 0 for keys that pods don't count in."""
    if base(key) == PODS:
        return 1
    if key.startswith("limits."):
        return effective_limits(spec).get(base(key), 0)
    if key.startswith("requests.") or key in (CPU, MEMORY, "ephemeral-storage"):
        return effective_requests(spec).get(base(key), 0)
    return 0


def in_scope(quota: Manifest, spec: Mapping[str, Any]) -> bool:
    """Whether the quota counts such a pod. Source: core/v1 `ResourceQuotaScope`."""
    scopes = [{"scopeName": scope, "operator": "Exists"} for scope in quota["spec"].get("scopes") or ()]
    scopes += (quota["spec"].get("scopeSelector") or {}).get("matchExpressions") or ()
    return all(_matches(scope, spec) for scope in scopes)


def _matches(scope: Mapping[str, Any], spec: Mapping[str, Any]) -> bool:
    asked = effective_requests(spec).keys() | effective_limits(spec).keys()
    best_effort = not asked & {CPU, MEMORY}
    match scope["scopeName"]:
        case "Terminating":
            return "activeDeadlineSeconds" in spec
        case "NotTerminating":
            return "activeDeadlineSeconds" not in spec
        case "BestEffort":
            return best_effort
        case "NotBestEffort":
            return not best_effort
        case "PriorityClass":
            name = spec.get("priorityClassName")
            requirement = Requirement("class", scope["operator"], tuple(scope.get("values") or ()))
            return requirement.matches({"class": name} if name else {})
    return False
