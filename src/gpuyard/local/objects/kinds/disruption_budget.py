"""PodDisruptionBudgets: how many of some pods must be left when others are evicted.

Sources: kubernetes `pkg/apis/policy/validation`, `pkg/registry/policy/poddisruptionbudget/strategy.go`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from gpuyard.kube.objects import DISRUPTION_BUDGETS, Manifest
from gpuyard.local.objects.kinds.cells import AGE, NAME
from gpuyard.local.objects.kinds.fields import (
    check_not_negative,
    check_number_or_percent,
    invalid,
    number_of,
    unsupported,
)
from gpuyard.local.objects.kinds.kind import Column, CreateContext, FieldError, KindSpec, status_subresource
from gpuyard.local.objects.kinds.selector_rules import validate_selector

_COUNTS = ("disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods")
_UNHEALTHY_POLICIES = ("AlwaysAllow", "IfHealthyBudget")


def _default(budget: Manifest) -> None:
    budget.setdefault("spec", {})
    status = budget.setdefault("status", {})
    for name in _COUNTS:
        status.setdefault(name, 0)


def _prepare_create(budget: Manifest, _context: CreateContext) -> None:
    budget["status"] = {}


def _validate(budget: Manifest, _old: Manifest | None) -> list[FieldError]:
    spec: Mapping[str, Any] = budget.get("spec") or {}
    found: list[FieldError] = []
    if "minAvailable" in spec and "maxUnavailable" in spec:
        detail = "minAvailable and maxUnavailable cannot be both set"
        found.append(invalid("spec", _as_go_has_it(spec), detail))
    for name in ("minAvailable", "maxUnavailable"):
        if name in spec:
            found += _validate_share(f"spec.{name}", spec[name])
    if "selector" in spec:
        found += validate_selector("spec.selector", spec["selector"])
    policy = spec.get("unhealthyPodEvictionPolicy")
    if policy is not None and policy not in _UNHEALTHY_POLICIES:
        found.append(unsupported("spec.unhealthyPodEvictionPolicy", policy, _UNHEALTHY_POLICIES))
    return found + check_not_negative("status", budget.get("status") or {}, *_COUNTS)


def _validate_share(path: str, value: int | str) -> list[FieldError]:
    found = check_number_or_percent(path, value)
    if isinstance(value, str) and number_of(value) > 100:
        found.append(invalid(path, value, "must not be greater than 100%"))
    return found


def _as_go_has_it(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The spec as Kubernetes' message shows it."""
    names = ("minAvailable", "selector", "maxUnavailable", "unhealthyPodEvictionPolicy")
    return {name[0].upper() + name[1:]: spec.get(name) for name in names}


def _share(field: str, budget: Manifest) -> str:
    return str((budget.get("spec") or {}).get(field, "N/A"))


def _allowed(budget: Manifest, _now: datetime) -> int:
    return int((budget.get("status") or {}).get("disruptionsAllowed", 0))


DISRUPTION_BUDGET = KindSpec(
    resource=DISRUPTION_BUDGETS,
    short_names=("pdb",),
    default=_default,
    validate=_validate,
    prepare_create=_prepare_create,
    columns=(
        NAME,
        Column("Min Available", lambda budget, _now: _share("minAvailable", budget)),
        Column("Max Unavailable", lambda budget, _now: _share("maxUnavailable", budget)),
        Column("Allowed Disruptions", _allowed, type="integer"),
        AGE,
    ),
    has_generation=True,
    needs_version=True,
    subresources=(status_subresource(DISRUPTION_BUDGETS),),
)
