"""What a disruption budget says to an eviction, and what the eviction takes from it (pure).

Sources: kubernetes `pkg/registry/core/pod/storage/eviction.go`, component-helpers
`apps/poddisruptionbudget/helpers.go`.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from gpuyard import errors
from gpuyard.kube.conditions import condition_is_true, find_condition, with_condition
from gpuyard.kube.objects import Manifest
from gpuyard.kube.timestamps import format_time

_ALLOWED, _SYNC_FAILED = "DisruptionAllowed", "SyncFailed"
#: Evicted pods that its controller hasn't seen go; more of them than this mean that it doesn't look.
_MAX_DISRUPTED = 2_000
_REFUSED = "Cannot evict pod as it would violate the pod's disruption budget."
_CAUSE = "DisruptionBudget"


def may_go_at_any_time(budget: Manifest, pod: Manifest) -> bool:
    """Whether evicting the pod disrupts nothing: it isn't ready, and that is no reason to keep it."""
    if condition_is_true(pod, "Ready"):
        return False
    if (budget.get("spec") or {}).get("unhealthyPodEvictionPolicy") == "AlwaysAllow":
        return True
    status = budget.get("status") or {}
    healthy, wanted = status.get("currentHealthy", 0), status.get("desiredHealthy", 0)
    return bool(healthy >= wanted > 0)


def with_disruption(budget: Manifest, pod_name: str, now: datetime) -> Manifest:
    """The budget once the pod is about to be evicted.

    Raises:
        TooManyRequests: it allows no disruption now, or its controller hasn't seen its newest spec.
        Forbidden: its status can't be right.
    """
    name, status = budget["metadata"]["name"], budget.get("status") or {}
    if status.get("observedGeneration", 0) < budget["metadata"].get("generation", 0):
        raise not_yet_known(name)
    allowed, disrupted = status.get("disruptionsAllowed", 0), status.get("disruptedPods") or {}
    if allowed < 0:
        raise _forbidden(name, "pdb disruptions allowed is negative", "pdb disruptions allowed is negative")
    if len(disrupted) > _MAX_DISRUPTED:
        why = "too many pending evictions not confirmed by PDB controller"
        text = "DisruptedPods map too big - too many evictions not confirmed by PDB controller"
        raise _forbidden(name, text, why)
    if allowed == 0:
        raise errors.TooManyRequests(_REFUSED, details=_because(_why_none(budget)))
    taken = {
        **status,
        "disruptionsAllowed": allowed - 1,
        "disruptedPods": {**disrupted, pod_name: format_time(now)},
    }
    if allowed == 1:
        old = status.get("conditions") or ()
        reason = "InsufficientPods"
        taken["conditions"] = with_condition(old, _ALLOWED, "False", now=format_time(now), reason=reason)
    return {**budget, "status": taken}


def not_yet_known(name: str) -> errors.TooManyRequests:
    """The refusal while nobody knows what the budget allows."""
    details = _because(f"The disruption budget {name} is still being processed by the server.")
    return errors.TooManyRequests(_REFUSED, details={**details, "retryAfterSeconds": 10})


def _why_none(budget: Manifest) -> str:
    name, status = budget["metadata"]["name"], budget["status"]
    condition = find_condition(budget, _ALLOWED) or {}
    reason, message = condition.get("reason", ""), condition.get("message", "")
    said = condition.get("status") == "False" and message
    healthy, wanted = status.get("currentHealthy", 0), status.get("desiredHealthy", 0)
    start = f"The disruption budget {name} does not allow evicting pods currently"
    if said and reason == _SYNC_FAILED:
        return f"{start} because it failed sync: {message}"
    if healthy <= wanted:
        return f"The disruption budget {name} needs {wanted} healthy pods and has {healthy} currently"
    return f"{start} ({reason}): {message}" if said else start


def _forbidden(name: str, text: str, why: str) -> errors.Forbidden:
    message = f'poddisruptionbudget.policy "{name}" is forbidden: {text}'
    details = _because(f"The disruption budget {name} does not allow evicting pods currently: {why}")
    return errors.Forbidden(
        message, details={"name": name, "group": "policy", "kind": "poddisruptionbudget", **details}
    )


def _because(message: str) -> dict[str, Any]:
    return {"causes": [{"reason": _CAUSE, "message": message}]}
