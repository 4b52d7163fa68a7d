"""What a node's object says: its readiness, its disk, its taints, and who tolerates them.

Source: k8s.io/api/core/v1 `Toleration.ToleratesTaint`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gpuyard.kube.conditions import find_condition

DISK_PRESSURE = "DiskPressure"


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
