"""What a node's object says: its readiness, its disk, its taints, and who tolerates them.

Source: k8s.io/api/core/v1 `Toleration.ToleratesTaint`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gpuyard.kube.conditions import condition_is_true, find_condition
from gpuyard.kube.objects import annotations_of, labels_of
from gpuyard.kube.wellknown import ANNOTATION_POWER, POWER_OFF, TAINT_OUT_OF_SERVICE

DISK_PRESSURE = "DiskPressure"
EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_TOLERATION = re.compile(r"(?P<key>[^=:]+)(?:=(?P<value>[^:]*))?(?::(?P<effect>\w+))?")
#: The DaemonSet controller has its pods tolerate what it says of a node's state itself.
#: Source: k8s.io/kubernetes/pkg/controller/daemon/util `AddOrUpdateDaemonPodTolerations`.
_STATE_TAINTS = "node.kubernetes.io/"


def not_ready_text(node: Mapping[str, Any]) -> str:
    """`not ready since 2026-01-31 12:03:00 UTC: the kubelet fell silent`; empty when the node is ready."""
    condition = find_condition(node, "Ready")
    if condition is None:
        return "not ready: its kubelet hasn't reported yet"
    if condition.get("status") == "True":
        return ""
    silent = condition.get("reason") == "NodeStatusUnknown"
    why = "the kubelet fell silent" if silent else condition.get("message") or condition.get("reason") or ""
    moment = str(condition.get("lastTransitionTime") or "").replace("T", " ").replace("Z", " UTC")
    return ": ".join(filter(None, ("not ready" + (f" since {moment}" if moment else ""), str(why))))


def disk_pressure_text(node: Mapping[str, Any]) -> str:
    """What a node says of its full disk; empty when it has room."""
    condition = find_condition(node, DISK_PRESSURE) or {}
    if condition.get("status") != "True":
        return ""
    return str(condition.get("message") or condition.get("reason") or "its disk is full")


def is_powered_off(node: Mapping[str, Any]) -> bool:
    """Whether somebody has taken the power of a simulated node away."""
    return annotations_of(node).get(ANNOTATION_POWER) == POWER_OFF


def without_power(node: Mapping[str, Any]) -> dict[str, Any]:
    """The node as it is to be for its power to be taken away, and confirmed to be down."""
    back = with_power(node)
    metadata, spec = back["metadata"], back["spec"]
    annotations = {**(metadata.get("annotations") or {}), ANNOTATION_POWER: POWER_OFF}
    taint = {"key": TAINT_OUT_OF_SERVICE, "value": "nodeshutdown", "effect": "NoExecute"}
    return {
        **back,
        "metadata": {**metadata, "annotations": annotations},
        "spec": {**spec, "taints": [*spec["taints"], taint]},
    }


def with_power(node: Mapping[str, Any]) -> dict[str, Any]:
    """The node as it is to be for its power to come back."""
    metadata, spec = node["metadata"], node.get("spec") or {}
    annotations = {n: value for n, value in annotations_of(node).items() if n != ANNOTATION_POWER}
    taints = [taint for taint in spec.get("taints") or () if taint.get("key") != TAINT_OUT_OF_SERVICE]
    return {
        **node,
        "metadata": {**metadata, "annotations": annotations},
        "spec": {**spec, "taints": taints},
    }


def out_of_service_taint(node: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The taint by which somebody confirms that a node which isn't ready is down; None where none does.

    Source: `gcTerminating` in k8s.io/kubernetes/pkg/controller/podgc.
    """
    if condition_is_true(node, "Ready"):
        return None
    taints = (node.get("spec") or {}).get("taints") or ()
    return next((taint for taint in taints if taint.get("key") == TAINT_OUT_OF_SERVICE), None)


def tolerates(toleration: Mapping[str, Any], taint: Mapping[str, Any]) -> bool:
    """Whether this toleration covers this taint (empty key with Exists covers all)."""
    if toleration.get("effect") and toleration["effect"] != taint.get("effect"):
        return False
    if toleration.get("key") and toleration["key"] != taint.get("key"):
        return False
    if toleration.get("operator", "Equal") == "Exists":
        return True
    return bool(toleration.get("key")) and (toleration.get("value") or "") == (taint.get("value") or "")


def format_taint(taint: Mapping[str, Any]) -> str:
    """`key=value:Effect`, as kubectl prints it."""
    value = f"={taint['value']}" if taint.get("value") else ""
    return f"{taint.get('key', '')}{value}:{taint.get('effect', '')}"


def parse_toleration(text: str) -> dict[str, str] | None:
    """`KEY[=VALUE][:EFFECT]`, as kubectl writes taints; None when it isn't that."""
    match = _TOLERATION.fullmatch(text)
    if match is None:
        return None
    found = {"key": match["key"], "operator": "Equal" if match["value"] else "Exists"}
    return found | {name: match[name] for name in ("value", "effect") if match[name]}


@dataclass(frozen=True)
class DaemonMisfit:
    """Why a DaemonSet has no pod for a node.

    Attributes:
        labels: of its node selector, those that the node hasn't, `NAME=VALUE`.
        taints: of the node, those that its pods don't tolerate.
    """

    labels: tuple[str, ...] = ()
    taints: tuple[Mapping[str, Any], ...] = ()

    def __bool__(self) -> bool:
        return bool(self.labels or self.taints)

    def __str__(self) -> str:
        if self.labels:
            return f"lacks the label {', '.join(self.labels)}"
        return f"has the taint {', '.join(map(format_taint, self.taints))}"


def daemon_misfit(node: Mapping[str, Any], pod: Mapping[str, Any]) -> DaemonMisfit:
    """Why no such pod is made for the node; false when one is.

    Args:
        node: its object.
        pod: `spec` of the DaemonSet's template.
    """
    selector, labels = pod.get("nodeSelector") or {}, labels_of(node)
    tolerations: Sequence[Mapping[str, Any]] = pod.get("tolerations") or ()
    return DaemonMisfit(
        tuple(f"{name}={value}" for name, value in selector.items() if labels.get(name) != value),
        tuple(
            taint
            for taint in node.get("spec", {}).get("taints") or ()
            if taint.get("effect") in ("NoSchedule", "NoExecute")
            and not taint.get("key", "").startswith(_STATE_TAINTS)
            and not any(tolerates(toleration, taint) for toleration in tolerations)
        ),
    )
