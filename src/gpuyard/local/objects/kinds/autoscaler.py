"""HorizontalPodAutoscalers (autoscaling/v2): how many replicas of a Deployment there are, by its load.

Sources: kubernetes `pkg/apis/autoscaling/v2/defaults.go`, `pkg/registry/autoscaling/horizontalpodautoscaler`,
`pkg/printers/internalversion/printers.go` (formatHPAMetrics).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from gpuyard.kube.objects import AUTOSCALERS, Manifest
from gpuyard.local.objects.kinds.autoscaler_rules import SOURCES, validate_autoscaler
from gpuyard.local.objects.kinds.cells import AGE, NAME, NONE, UNKNOWN
from gpuyard.local.objects.kinds.kind import Column, CreateContext, KindSpec, status_subresource

_CPU = {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}
_SHOWN_METRICS = 2


def _default(autoscaler: Manifest) -> None:
    spec = autoscaler.setdefault("spec", {})
    spec.setdefault("minReplicas", 1)
    if not spec.get("metrics"):
        spec["metrics"] = [{"type": "Resource", "resource": _CPU}]
    behavior = spec.get("behavior")
    if behavior is not None:
        up = behavior.setdefault("scaleUp", {})
        up.setdefault("stabilizationWindowSeconds", 0)
        _default_rules(up, ("Pods", 4), ("Percent", 100))
        # How long it waits before it scales down is the controller's to say where nothing is said.
        _default_rules(behavior.setdefault("scaleDown", {}), ("Percent", 100))


def _default_rules(rules: dict[str, Any], *policies: tuple[str, int]) -> None:
    rules.setdefault("selectPolicy", "Max")
    if "policies" not in rules:
        rules["policies"] = [{"type": kind, "value": value, "periodSeconds": 15} for kind, value in policies]


def _prepare_create(autoscaler: Manifest, _context: CreateContext) -> None:
    autoscaler["status"] = {"desiredReplicas": 0}


def _reference(autoscaler: Manifest, _now: datetime) -> str:
    target = (autoscaler.get("spec") or {}).get("scaleTargetRef") or {}
    return f"{target.get('kind', '')}/{target.get('name', '')}"


def _targets(autoscaler: Manifest, _now: datetime) -> str:
    metrics = (autoscaler.get("spec") or {}).get("metrics") or ()
    statuses = (autoscaler.get("status") or {}).get("currentMetrics") or ()
    cells = [
        _target(metric, statuses[index] if index < len(statuses) else {})
        for index, metric in enumerate(metrics)
    ]
    text = ", ".join(cells[:_SHOWN_METRICS])
    more = len(cells) - _SHOWN_METRICS
    return (f"{text} + {more} more..." if more > 0 else text) or NONE


def _target(metric: Mapping[str, Any], status: Mapping[str, Any]) -> str:
    field = SOURCES.get(metric.get("type", ""), "")
    target = (metric.get(field) or {}).get("target") or {}
    current = (status.get(field) or {}).get("current") or {}
    return f"{current.get('averageValue', UNKNOWN)}/{target.get('averageValue', UNKNOWN)}"


def _least(autoscaler: Manifest, _now: datetime) -> str:
    return str((autoscaler.get("spec") or {}).get("minReplicas", "<unset>"))


def _most(autoscaler: Manifest, _now: datetime) -> int:
    return int((autoscaler.get("spec") or {}).get("maxReplicas", 0))


def _replicas(autoscaler: Manifest, _now: datetime) -> int:
    return int((autoscaler.get("status") or {}).get("currentReplicas", 0))


AUTOSCALER = KindSpec(
    resource=AUTOSCALERS,
    short_names=("hpa",),
    categories=("all",),
    default=_default,
    validate=validate_autoscaler,
    prepare_create=_prepare_create,
    columns=(
        NAME,
        Column("Reference", _reference),
        Column("Targets", _targets),
        Column("MinPods", _least),
        Column("MaxPods", _most),
        Column("Replicas", _replicas),
        AGE,
    ),
    has_generation=True,
    subresources=(status_subresource(AUTOSCALERS),),
)
