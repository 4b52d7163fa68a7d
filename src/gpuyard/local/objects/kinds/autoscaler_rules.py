"""Rules of a HorizontalPodAutoscaler, and what of it a yard can't measure.

Source: kubernetes `pkg/apis/autoscaling/validation/validation.go`. What other sources of metrics
than Pods have to look like isn't checked, since a yard refuses them anyway.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gpuyard.autoscaling.metrics import MEASURED
from gpuyard.autoscaling.spec import duration_s
from gpuyard.kube.objects import DEPLOYMENTS, REPLICA_SETS, Manifest, annotations_of
from gpuyard.kube.quantity import parse_quantity
from gpuyard.kube.wellknown import ANNOTATION_SCALE_TO_ZERO
from gpuyard.local.objects.kinds.fields import check_not_negative, forbidden, invalid, required, unsupported
from gpuyard.local.objects.kinds.kind import FieldError

#: By type of metric: the field that has its source. In the order in which Kubernetes looks at them.
SOURCES = {
    "Object": "object",
    "External": "external",
    "Pods": "pods",
    "Resource": "resource",
    "ContainerResource": "containerResource",
}
_TARGETS = ("Utilization", "Value", "AverageValue")
_SELECTS = ("Disabled", "Max", "Min")
_POLICIES = ("Percent", "Pods")
_MAX_WINDOW_S, _MAX_PERIOD_S = 3600, 1800
_ONLY_MEASURED = "a yard measures the requests and the GPUs of a service: take a metric of type Pods, one of "


def validate_autoscaler(autoscaler: Manifest, old: Manifest | None) -> list[FieldError]:
    """Broken rules of the object, and, where there are none, what a yard doesn't do."""
    spec = autoscaler.get("spec") or {}
    target: Mapping[str, Any] = spec.get("scaleTargetRef") or {}
    found = _validate_bounds(spec)
    found += _validate_reference("spec.scaleTargetRef", target)
    before = ((old or {}).get("spec") or {}).get("scaleTargetRef")
    # What was accepted once stays so: only a change of the kind is looked at.
    if not before or any(before.get(name) != target.get(name) for name in ("apiVersion", "kind")):
        found += _validate_version("spec.scaleTargetRef.apiVersion", target.get("apiVersion", ""))
    for index, metric in enumerate(spec.get("metrics") or ()):
        found += _validate_metric(f"spec.metrics[{index}]", metric)
    behavior = spec.get("behavior") or {}
    for direction in ("scaleUp", "scaleDown"):
        if (rules := behavior.get(direction)) is not None:
            found += _validate_rules(f"spec.behavior.{direction}", rules)
    status = autoscaler.get("status") or {}
    found += check_not_negative("status", status, "currentReplicas", "desiredReplicas")
    return found or _yard_limits(autoscaler, spec, target)


def _validate_bounds(spec: Mapping[str, Any]) -> list[FieldError]:
    found = check_not_negative("spec", spec, "minReplicas")
    path, least, most = "spec.maxReplicas", spec.get("minReplicas"), spec.get("maxReplicas", 0)
    if least is not None and most < least:
        found.append(invalid(path, most, "must be greater than or equal to `minReplicas`"))
    if most == 0:
        found.append(required(path))
    elif most < 0:
        found.append(invalid(path, most, "must be greater than or equal to 1"))
    return found


def _validate_reference(path: str, reference: Mapping[str, Any]) -> list[FieldError]:
    found: list[FieldError] = []
    for name in ("kind", "name"):
        value = reference.get(name, "")
        found += _path_segment(f"{path}.{name}", value) if value else [required(f"{path}.{name}")]
    return found


def _path_segment(path: str, value: str) -> list[FieldError]:
    """A name that can stand in a path of the API."""
    if value in (".", ".."):
        return [invalid(path, value, f"may not be '{value}'")]
    return [invalid(path, value, f"may not contain '{part}'") for part in "/%" if part in value]


def _validate_version(path: str, version: str) -> list[FieldError]:
    if version.count("/") > 1:
        return [invalid(path, version, f"unexpected GroupVersion string: {version}")]
    if not version.rpartition("/")[0]:
        return [invalid(path, version, "apiVersion must specify API group")]
    return []


def _validate_metric(path: str, metric: Mapping[str, Any]) -> list[FieldError]:
    found: list[FieldError] = []
    kind = metric.get("type", "")
    if not kind:
        found.append(required(f"{path}.type", "must specify a metric source type"))
    if kind not in SOURCES:
        found.append(unsupported(f"{path}.type", kind, sorted(SOURCES)))
    present = [field for field in SOURCES.values() if metric.get(field) is not None]
    if present[:1] == ["pods"]:
        found += _validate_pods(f"{path}.pods", metric["pods"])
    expected = SOURCES.get(kind, "")
    if expected and expected not in present:
        place = f"{path}.{expected}"
        found.append(required(place, "must populate information for the given metric source"))
    if len(present) != 1:
        detail = "must populate the given metric source only"
        found += [forbidden(f"{path}.{field}", detail) for field in present if field != expected]
    return found


def _validate_pods(path: str, source: Mapping[str, Any]) -> list[FieldError]:
    found: list[FieldError] = []
    place, name = f"{path}.metric.name", (source.get("metric") or {}).get("name", "")
    found += _path_segment(place, name) if name else [required(place, "must specify a metric name")]
    place, target = f"{path}.target", source.get("target") or {}
    if not target.get("type"):
        found.append(required(f"{place}.type", "must specify a metric target type"))
    if target.get("type", "") not in _TARGETS:
        detail = "must be either Utilization, Value, or AverageValue"
        found.append(invalid(f"{place}.type", target.get("type", ""), detail))
    for field in ("value", "averageValue"):
        if field in target and parse_quantity(target[field]) <= 0:
            found.append(invalid(f"{place}.{field}", target[field], "must be positive"))
    if target.get("averageUtilization", 1) < 1:
        value = target["averageUtilization"]
        found.append(invalid(f"{place}.averageUtilization", value, "must be greater than 0"))
    if "averageValue" not in target:
        found.append(required(f"{place}.averageValue", "must specify a positive target averageValue"))
    return found


def _validate_rules(path: str, rules: Mapping[str, Any]) -> list[FieldError]:
    found: list[FieldError] = []
    place, window_s = f"{path}.stabilizationWindowSeconds", rules.get("stabilizationWindowSeconds", 0)
    if window_s < 0:
        found.append(invalid(place, window_s, "must be greater than or equal to zero"))
    if window_s > _MAX_WINDOW_S:
        found.append(invalid(place, window_s, f"must be less than or equal to {_MAX_WINDOW_S}"))
    select = rules.get("selectPolicy", "Max")
    if select not in _SELECTS:
        found.append(unsupported(f"{path}.selectPolicy", select, _SELECTS))
    policies = rules.get("policies") or ()
    if not policies:
        found.append(required(f"{path}.policies", "must specify at least one Policy"))
    for index, policy in enumerate(policies):
        found += _validate_policy(f"{path}.policies[{index}]", policy)
    if "tolerance" in rules and parse_quantity(rules["tolerance"]) < 0:
        detail = "must be greater than or equal to 0"
        found.append(invalid(f"{path}.tolerance", rules["tolerance"], detail))
    return found


def _validate_policy(path: str, policy: Mapping[str, Any]) -> list[FieldError]:
    found: list[FieldError] = []
    if policy.get("type", "") not in _POLICIES:
        found.append(unsupported(f"{path}.type", policy.get("type", ""), _POLICIES))
    period_s = policy.get("periodSeconds", 0)
    found += [
        invalid(f"{path}.{name}", policy.get(name, 0), "must be greater than zero")
        for name in ("value", "periodSeconds")
        if policy.get(name, 0) <= 0
    ]
    if period_s > _MAX_PERIOD_S:
        detail = f"must be less than or equal to {_MAX_PERIOD_S}"
        found.append(invalid(f"{path}.periodSeconds", period_s, detail))
    return found


def _yard_limits(
    autoscaler: Manifest, spec: Mapping[str, Any], target: Mapping[str, Any]
) -> list[FieldError]:
    """One error for each thing that a yard can't do, or doesn't measure."""
    found: list[FieldError] = []
    known = [(one.api_version, one.kind) for one in (DEPLOYMENTS, REPLICA_SETS)]
    if (target.get("apiVersion"), target.get("kind")) not in known:
        detail = "a yard scales Deployments and ReplicaSets of apps/v1"
        found.append(forbidden("spec.scaleTargetRef", detail))
    for index, metric in enumerate(spec.get("metrics") or ()):
        path, pods = f"spec.metrics[{index}]", metric.get("pods")
        if pods is None:
            found.append(forbidden(f"{path}.type", _ONLY_MEASURED + ", ".join(MEASURED)))
        elif pods["metric"]["name"] not in MEASURED:
            found.append(unsupported(f"{path}.pods.metric.name", pods["metric"]["name"], MEASURED))
        elif pods["metric"].get("selector"):
            detail = "a yard's metrics have one value for a pod, which needs no selector"
            found.append(forbidden(f"{path}.pods.metric.selector", detail))
    text = annotations_of(autoscaler).get(ANNOTATION_SCALE_TO_ZERO)
    if text is not None and not duration_s(text):
        place = f"metadata.annotations[{ANNOTATION_SCALE_TO_ZERO}]"
        found.append(invalid(place, text, "write how long without a request, such as 90s, 15m or 1h30m"))
    elif text is not None and spec.get("minReplicas") != 0:
        place = f"metadata.annotations[{ANNOTATION_SCALE_TO_ZERO}]"
        found.append(forbidden(place, "it needs minReplicas: 0"))
    return found
