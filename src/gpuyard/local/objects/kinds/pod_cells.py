"""Pods as `kubectl get` shows them.

Source: kubernetes `pkg/printers/internalversion/printers.go` printPod.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from gpuyard.kube.conditions import condition_is_true, find_condition
from gpuyard.kube.objects import Manifest
from gpuyard.kube.pods import container_statuses, is_terminal
from gpuyard.local.objects.kinds.cells import AGE, NAME, since, text
from gpuyard.local.objects.kinds.kind import Column


def pod_status(pod: Manifest, _now: datetime) -> str:
    """One word for a pod's state: Running, Completed, Init:0/1, CrashLoopBackOff, Terminating, …"""
    status = pod.get("status") or {}
    reason = status.get("reason") or status.get("phase") or ""
    scheduled = find_condition(pod, "PodScheduled")
    if scheduled is not None and scheduled.get("reason") == "SchedulingGated":
        reason = "SchedulingGated"
    starting = _init_reason(pod)
    if starting and not condition_is_true(pod, "Initialized"):
        reason = starting
    else:
        reason = _containers_reason(pod, reason)
    if "deletionTimestamp" in pod["metadata"]:
        if status.get("reason") == "NodeLost":
            return "Unknown"
        if not is_terminal(pod):
            return "Terminating"
    return reason


def _init_reason(pod: Manifest) -> str:
    """What the first init container that isn't done is doing; empty when all are."""
    statuses = (pod.get("status") or {}).get("initContainerStatuses") or ()
    for index, container in enumerate(statuses):
        state = container.get("state") or {}
        terminated, waiting = state.get("terminated"), state.get("waiting") or {}
        if terminated is not None:
            if terminated.get("exitCode", 0) == 0:
                continue
            return "Init:" + _exit_reason(terminated)
        if waiting.get("reason") and waiting["reason"] != "PodInitializing":
            return f"Init:{waiting['reason']}"
        return f"Init:{index}/{len(pod['spec'].get('initContainers') or ())}"
    return ""


def _containers_reason(pod: Manifest, reason: str) -> str:
    running = False
    for container in reversed(_statuses(pod)):
        state = container.get("state") or {}
        if (state.get("waiting") or {}).get("reason"):
            reason = state["waiting"]["reason"]
        elif state.get("terminated") is not None:
            reason = _exit_reason(state["terminated"])
        elif container.get("ready") and state.get("running") is not None:
            running = True
    if reason == "Completed" and running:
        return "Running" if condition_is_true(pod, "Ready") else "NotReady"
    return reason


def _exit_reason(terminated: Mapping[str, Any]) -> str:
    if terminated.get("reason"):
        return str(terminated["reason"])
    if terminated.get("signal"):
        return f"Signal:{terminated['signal']}"
    return f"ExitCode:{terminated.get('exitCode', 0)}"


def _ready(pod: Manifest, _now: datetime) -> str:
    ready = sum(
        1 for c in _statuses(pod) if c.get("ready") and (c.get("state") or {}).get("running") is not None
    )
    return f"{ready}/{len((pod.get('spec') or {}).get('containers') or ())}"


def _restarts(pod: Manifest, now: datetime) -> str:
    statuses = _statuses(pod)
    if _init_reason(pod) and not condition_is_true(pod, "Initialized"):
        statuses = list((pod.get("status") or {}).get("initContainerStatuses") or ())
    count = sum(c.get("restartCount", 0) for c in statuses)
    last = max(_finish_times(statuses), default="")
    return f"{count} ({since(last, now)} ago)" if count and last else str(count)


def _finish_times(statuses: Iterable[Mapping[str, Any]]) -> list[str]:
    ended = [(c.get("lastState") or {}).get("terminated") or {} for c in statuses]
    return [e["finishedAt"] for e in ended if e.get("finishedAt")]


def _statuses(pod: Manifest) -> list[Mapping[str, Any]]:
    return list(container_statuses(pod))


def _readiness_gates(pod: Manifest, _now: datetime) -> str:
    gates = (pod.get("spec") or {}).get("readinessGates") or ()
    true = sum(1 for gate in gates if condition_is_true(pod, gate.get("conditionType", "")))
    return text(f"{true}/{len(gates)}" if gates else "")


POD_COLUMNS = (
    NAME,
    Column("Ready", _ready, description="Containers that are ready, of all in this pod."),
    Column("Status", pod_status, description="The aggregate status of the containers in this pod."),
    Column(
        "Restarts", _restarts, description="How often containers of this pod were restarted, and when last."
    ),
    AGE,
    Column("IP", lambda p, _n: text((p.get("status") or {}).get("podIP")), priority=1),
    Column("Node", lambda p, _n: text((p.get("spec") or {}).get("nodeName")), priority=1),
    Column(
        "Nominated Node", lambda p, _n: text((p.get("status") or {}).get("nominatedNodeName")), priority=1
    ),
    Column("Readiness Gates", _readiness_gates, priority=1),
)
