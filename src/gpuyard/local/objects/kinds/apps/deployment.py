"""Deployments.

Sources: kubernetes `pkg/apis/apps/v1/defaults.go`, `pkg/apis/apps/validation`,
`pkg/registry/apps/deployment/strategy.go`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from gpuyard.kube.objects import DEPLOYMENTS, Manifest, annotations_of
from gpuyard.local.objects.kinds.apps.rules import prepare_create, validate_counts, validate_replicated
from gpuyard.local.objects.kinds.apps.scale import SCALE
from gpuyard.local.objects.kinds.cells import AGE, NAME, TEMPLATE_COLUMNS
from gpuyard.local.objects.kinds.fields import (
    check_immutable,
    check_not_negative,
    check_number_or_percent,
    forbidden,
    invalid,
    number_of,
    required,
    unsupported,
)
from gpuyard.local.objects.kinds.kind import Column, CreateContext, FieldError, KindSpec, status_subresource
from gpuyard.local.objects.kinds.pod_spec import default_pod_template

_RECREATE, _ROLLING_UPDATE = "Recreate", "RollingUpdate"
_COUNTS = ("updatedReplicas", "readyReplicas", "availableReplicas")


def _default(deployment: Manifest) -> None:
    spec = deployment.setdefault("spec", {})
    spec.setdefault("replicas", 1)
    strategy = spec.setdefault("strategy", {})
    if strategy.setdefault("type", _ROLLING_UPDATE) == _ROLLING_UPDATE:
        rolling = strategy.setdefault("rollingUpdate", {})
        rolling.setdefault("maxUnavailable", "25%")
        rolling.setdefault("maxSurge", "25%")
    spec.setdefault("revisionHistoryLimit", 10)
    spec.setdefault("progressDeadlineSeconds", 600)
    default_pod_template(spec.setdefault("template", {}))


def _prepare_create(deployment: Manifest, context: CreateContext) -> None:
    prepare_create(DEPLOYMENT, deployment, context)


def _prepare_update(deployment: Manifest, old: Manifest) -> None:
    # Its ReplicaSets get its annotations, so that a change of these is a change to be carried out, too.
    if annotations_of(deployment) != annotations_of(old):
        deployment["metadata"]["generation"] = old["metadata"].get("generation", 0) + 1


def _validate(deployment: Manifest, old: Manifest | None) -> list[FieldError]:
    spec = deployment.get("spec") or {}
    found = validate_replicated(spec) + _validate_strategy(spec.get("strategy") or {})
    found += check_not_negative("spec", spec, "revisionHistoryLimit", "progressDeadlineSeconds")
    deadline_s = spec.get("progressDeadlineSeconds")
    if deadline_s is not None and deadline_s <= spec.get("minReadySeconds", 0):
        detail = "must be greater than minReadySeconds"
        found.append(invalid("spec.progressDeadlineSeconds", deadline_s, detail))
    status = deployment.get("status") or {}
    found += check_not_negative("status", status, "unavailableReplicas") + validate_counts(status, *_COUNTS)
    if old is not None:
        found += check_immutable("spec", spec, old.get("spec") or {}, "selector")
        count = status.get("collisionCount", 0)
        if count < (old.get("status") or {}).get("collisionCount", 0):
            found.append(invalid("status.collisionCount", count, "cannot be decremented"))
    return found


def _validate_strategy(strategy: Mapping[str, Any]) -> list[FieldError]:
    path, rolling = "spec.strategy.rollingUpdate", strategy.get("rollingUpdate")
    match strategy.get("type", ""):
        case "Recreate":
            if rolling is None:
                return []
            return [forbidden(path, f"may not be specified when strategy `type` is '{_RECREATE}'")]
        case "RollingUpdate":
            if rolling is None:
                return [required(path, "this should be defaulted and never be nil")]
            return _validate_rolling_update(path, rolling)
        case other:
            shown = {"Type": other, "RollingUpdate": None if rolling is None else _as_go_has_it(rolling)}
            return [unsupported("spec.strategy", shown, (_RECREATE, _ROLLING_UPDATE))]


def _as_go_has_it(rolling: Mapping[str, Any]) -> dict[str, Any]:
    """The bounds as Kubernetes' message shows them."""
    return {"MaxUnavailable": rolling.get("maxUnavailable", 0), "MaxSurge": rolling.get("maxSurge", 0)}


def _validate_rolling_update(path: str, rolling: Mapping[str, Any]) -> list[FieldError]:
    unavailable, surge = rolling.get("maxUnavailable", 0), rolling.get("maxSurge", 0)
    place = f"{path}.maxUnavailable"
    found = check_number_or_percent(place, unavailable) + check_number_or_percent(f"{path}.maxSurge", surge)
    if number_of(unavailable) == 0 and number_of(surge) == 0:
        found.append(invalid(place, unavailable, "may not be 0 when `maxSurge` is 0"))
    if isinstance(unavailable, str) and number_of(unavailable) > 100:
        found.append(invalid(place, unavailable, "must not be greater than 100%"))
    return found


def _ready(deployment: Manifest, _now: datetime) -> str:
    wanted = (deployment.get("spec") or {}).get("replicas", 0)
    return f"{(deployment.get('status') or {}).get('readyReplicas', 0)}/{wanted}"


def _updated(deployment: Manifest, _now: datetime) -> int:
    return int((deployment.get("status") or {}).get("updatedReplicas", 0))


def _available(deployment: Manifest, _now: datetime) -> int:
    return int((deployment.get("status") or {}).get("availableReplicas", 0))


DEPLOYMENT = KindSpec(
    resource=DEPLOYMENTS,
    short_names=("deploy",),
    categories=("all",),
    default=_default,
    validate=_validate,
    prepare_create=_prepare_create,
    prepare_update=_prepare_update,
    columns=(
        NAME,
        Column("Ready", _ready, description="Number of the pod with ready state"),
        Column("Up-to-date", _updated),
        Column("Available", _available),
        AGE,
        *TEMPLATE_COLUMNS,
    ),
    has_generation=True,
    subresources=(SCALE, status_subresource(DEPLOYMENTS)),
)
