"""What a ReplicaSet's status says of its pods (pure).

Source: kubernetes `pkg/controller/replicaset/replica_set_utils.go` (calculateStatus).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from gpuyard.controllers.owned_pods.view import PodView
from gpuyard.controllers.replica_set.ranking import ready_since
from gpuyard.kube.conditions import find_condition
from gpuyard.kube.objects import Manifest
from gpuyard.kube.timestamps import format_time

_FAILURE = "ReplicaFailure"


def replica_status(
    replica_set: Manifest, pods: Sequence[PodView], problem: str, now: datetime
) -> dict[str, Any]:
    """The whole new status.

    Args:
        replica_set: with the status as it was.
        pods: all that it controls.
        problem: why not all pods could be made or deleted; empty when they could.
        now: pods have been ready until then.
    """
    spec, old = replica_set["spec"], replica_set.get("status") or {}
    active = [pod for pod in pods if pod.active]
    wanted = ((spec["template"].get("metadata") or {}).get("labels") or {}).items()
    counts = {
        "fullyLabeledReplicas": sum(wanted <= pod.labels.items() for pod in active),
        "readyReplicas": sum(pod.ready for pod in active),
        "availableReplicas": sum(_wait_s(spec, pod, now) == 0 for pod in active),
    }
    status: dict[str, Any] = {
        "replicas": len(active),
        **{name: count for name, count in counts.items() if count},
        "terminatingReplicas": sum(pod.terminating for pod in pods),
        "observedGeneration": replica_set["metadata"].get("generation", 0),
    }
    conditions = [c for c in old.get("conditions") or () if c.get("type") != _FAILURE]
    if problem:
        failure = find_condition(replica_set, _FAILURE) or {
            "type": _FAILURE,
            "status": "True",
            "reason": "FailedCreate" if len(active) < spec.get("replicas", 1) else "FailedDelete",
            "message": problem,
            "lastTransitionTime": format_time(now),
        }
        conditions.append(failure)
    if conditions:
        status["conditions"] = conditions
    return status


def next_look_s(replica_set: Manifest, pods: Sequence[PodView], now: datetime) -> float | None:
    """After how many seconds a pod will have been ready for long enough; None where none is about to."""
    waits = [_wait_s(replica_set["spec"], pod, now) for pod in pods if pod.active]
    return min((wait_s for wait_s in waits if wait_s), default=None)


def _wait_s(spec: Manifest, pod: PodView, now: datetime) -> float | None:
    """The seconds until it is available; 0 when it is, None while it isn't ready."""
    if not pod.ready:
        return None
    needed_s: int = spec.get("minReadySeconds", 0)
    since = ready_since(pod)
    if not needed_s or since is None:
        return 0 if not needed_s else None
    return max(0.0, float(needed_s) - (now - since).total_seconds())
