"""What a namespace's ResourceQuotas limit, how much of it is used, and which pods they count.

Sources: kubernetes `pkg/quota/v1/evaluator/core/pods.go`, core/v1 `ResourceQuotaScope`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gpuyard.kube.objects import Manifest
from gpuyard.kube.requests import CPU, MEMORY, PODS, effective_limits, effective_requests, parse_resources
from gpuyard.kube.selectors import Requirement


@dataclass(frozen=True)
class QuotaLimit:
    """One limit of a quota. Amounts: cpu in millicores, all others in whole base units.

    Attributes:
        key: as the quota writes it: `requests.nvidia.com/gpu`.
    """

    key: str
    hard: int
    used: int

    @property
    def free(self) -> int:
        """What is left; 0 also where more is used than allowed."""
        return max(self.hard - self.used, 0)

    @property
    def resource(self) -> str:
        """The resource that is counted."""
        return counted_resource(self.key)


def quota_limits(quota: Manifest) -> tuple[QuotaLimit, ...]:
    """Every limit of a ResourceQuota, as the API server enforces it: what its status says, else its spec."""
    status = quota.get("status") or {}
    hard, used = status.get("hard") or quota["spec"].get("hard") or {}, status.get("used") or {}
    return tuple(
        QuotaLimit(key, parse_amount(key, amount), parse_amount(key, used.get(key, "0")))
        for key, amount in hard.items()
    )


def parse_amount(key: str, text: str) -> int:
    """A quantity of a quota's key, in the units of `QuotaLimit`."""
    resource = counted_resource(key)
    return parse_resources({resource: text})[resource]


def is_scoped(quota: Manifest) -> bool:
    """Whether it counts some pods only."""
    return bool(quota["spec"].get("scopes") or quota["spec"].get("scopeSelector"))


def counted_resource(key: str) -> str:
    """The resource that a quota's key counts: `requests.nvidia.com/gpu` → `nvidia.com/gpu`."""
    return key.removeprefix("requests.").removeprefix("limits.").removeprefix("count/")


def counted(key: str, spec: Mapping[str, Any]) -> int:
    """How much of a quota's key a pod takes; 0 for keys that pods don't count in."""
    if counted_resource(key) == PODS:
        return 1
    if key.startswith("limits."):
        return effective_limits(spec).get(counted_resource(key), 0)
    if key.startswith("requests.") or key in (CPU, MEMORY, "ephemeral-storage"):
        return effective_requests(spec).get(counted_resource(key), 0)
    return 0


def in_scope(quota: Manifest, spec: Mapping[str, Any]) -> bool:
    """Whether the quota counts such a pod."""
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
