"""What a Deployment's status says: counts, and the conditions by which one sees that it progresses (pure).

Sources: kubernetes `pkg/controller/deployment/sync.go` (calculateStatus), `progress.go` and
`util/deployment_util.go`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from gpuyard.controllers.deployment.rolling import ReplicaBounds
from gpuyard.kube.conditions import find_condition
from gpuyard.kube.objects import Manifest
from gpuyard.kube.timestamps import format_time, parse_time

_MAX_INT32 = 2**31 - 1
AVAILABLE, PROGRESSING, FAILURE = "Available", "Progressing", "ReplicaFailure"
COMPLETE, TIMED_OUT = "NewReplicaSetAvailable", "ProgressDeadlineExceeded"
PAUSED, RESUMED = "DeploymentPaused", "DeploymentResumed"


def with_deployment_condition(
    status: dict[str, Any], type_: str, value: str, reason: str, message: str, now: datetime
) -> dict[str, Any]:
    """The status with this condition, unless it has one of the same value and reason already."""
    old = find_condition({"status": status}, type_)
    if old is not None and (old.get("status"), old.get("reason")) == (value, reason):
        return status
    at = format_time(now)
    same = old is not None and old.get("status") == value
    new = {
        "type": type_,
        "status": value,
        "reason": reason,
        "message": message,
        "lastUpdateTime": at,
        "lastTransitionTime": old.get("lastTransitionTime", at) if same and old else at,
    }
    return {**status, "conditions": [*_without(status, type_), new]}


def has_deadline(deployment: Manifest) -> bool:
    """Whether progress that doesn't come is to be reported: the largest number means never."""
    seconds = deployment["spec"].get("progressDeadlineSeconds")
    return seconds is not None and seconds != _MAX_INT32


def counted(
    deployment: Manifest,
    new: Manifest | None,
    replica_sets: Sequence[Manifest],
    bounds: ReplicaBounds,
    now: datetime,
) -> dict[str, Any]:
    """The status as the ReplicaSets have it now; of the conditions only Available is anew."""
    old = deployment.get("status") or {}
    counts = {
        "replicas": _sum(replica_sets, "replicas"),
        "updatedReplicas": _sum([new] if new else [], "replicas"),
        "readyReplicas": _sum(replica_sets, "readyReplicas"),
        "availableReplicas": (available := _sum(replica_sets, "availableReplicas")),
        "unavailableReplicas": max(0, sum(rs["spec"].get("replicas", 1) for rs in replica_sets) - available),
    }
    status: dict[str, Any] = {
        "observedGeneration": deployment["metadata"].get("generation", 0),
        **{name: count for name, count in counts.items() if count},
        "terminatingReplicas": _sum(replica_sets, "terminatingReplicas"),
    }
    for name in ("collisionCount", "conditions"):
        if name in old:
            status[name] = old[name]
    if available >= bounds.fewest:
        value, reason, text = "True", "MinimumReplicasAvailable", "Deployment has minimum availability."
    else:
        value, reason = "False", "MinimumReplicasUnavailable"
        text = "Deployment does not have minimum availability."
    return with_deployment_condition(status, AVAILABLE, value, reason, text, now)


def is_complete(deployment: Manifest, status: Manifest) -> bool:
    """Whether all pods are of the newest template, and available."""
    wanted = deployment["spec"].get("replicas", 1)
    counts = ("updatedReplicas", "replicas", "availableReplicas")
    is_seen = status.get("observedGeneration", 0) >= deployment["metadata"].get("generation", 0)
    return is_seen and all(status.get(name, 0) == wanted for name in counts)


def rolled_out(
    deployment: Manifest,
    status: dict[str, Any],
    new: Manifest | None,
    replica_sets: Sequence[Manifest],
    now: datetime,
) -> dict[str, Any]:
    """`counted` with what is known of the progress, and of pods that can't be made."""
    if not has_deadline(deployment):
        status = _dropped(status, PROGRESSING)
    elif not _is_settled(deployment, status):
        status = _progressed(deployment, status, new, now)
    failures = [f for rs in ([new] if new else []) + list(replica_sets) if (f := find_condition(rs, FAILURE))]
    if not failures:
        return _dropped(status, FAILURE)
    first = failures[0]
    return with_deployment_condition(
        status, FAILURE, first["status"], first.get("reason", ""), first.get("message", ""), now
    )


def _is_settled(deployment: Manifest, status: Manifest) -> bool:
    """Whether it was complete before, and no pod of another template has come since."""
    current = find_condition(deployment, PROGRESSING)
    everything, updated = status.get("replicas", 0), status.get("updatedReplicas", 0)
    return current is not None and current.get("reason") == COMPLETE and everything == updated


def _progressed(
    deployment: Manifest, status: dict[str, Any], new: Manifest | None, now: datetime
) -> dict[str, Any]:
    name = (new or deployment)["metadata"]["name"]
    subject = f'{"ReplicaSet" if new else "Deployment"} "{name}"'
    if is_complete(deployment, status):
        text = f"{subject} has successfully progressed."
        return with_deployment_condition(status, PROGRESSING, "True", COMPLETE, text, now)
    if _has_moved(deployment.get("status") or {}, status):
        current = find_condition(deployment, PROGRESSING)
        # Anew even where it says the same: the deadline counts from the last progress.
        bare = _dropped(status, PROGRESSING)
        text = f"{subject} is progressing."
        moved = with_deployment_condition(bare, PROGRESSING, "True", "ReplicaSetUpdated", text, now)
        if current is not None and current.get("status") == "True" and "lastTransitionTime" in current:
            moved["conditions"][-1]["lastTransitionTime"] = current["lastTransitionTime"]
        return moved
    if (left_s := seconds_to_deadline(deployment, status, now)) is not None and left_s < 0:
        text = f"{subject} has timed out progressing."
        return with_deployment_condition(status, PROGRESSING, "False", TIMED_OUT, text, now)
    return status


def seconds_to_deadline(deployment: Manifest, status: Manifest, now: datetime) -> float | None:
    """How long it may still stand still; below 0 when it is late, None when nobody waits for progress."""
    condition = find_condition({"status": status}, PROGRESSING)
    if not has_deadline(deployment) or condition is None or condition.get("reason") in (COMPLETE, TIMED_OUT):
        return None
    since = condition.get("lastUpdateTime") or condition.get("lastTransitionTime")
    if not since:
        return None
    deadline = parse_time(since) + timedelta(seconds=deployment["spec"]["progressDeadlineSeconds"])
    return (deadline - now).total_seconds()


def _has_moved(old: Manifest, new: Manifest) -> bool:
    def outdated(status: Manifest) -> int:
        return int(status.get("replicas", 0) - status.get("updatedReplicas", 0))

    grown = ("updatedReplicas", "readyReplicas", "availableReplicas")
    return outdated(new) < outdated(old) or any(new.get(n, 0) > old.get(n, 0) for n in grown)


def paused_status(deployment: Manifest, now: datetime) -> dict[str, Any]:
    """The status with the condition that says whether the rollout is paused, where that has changed."""
    status = dict(deployment.get("status") or {})
    condition = find_condition(deployment, PROGRESSING) or {}
    if not has_deadline(deployment) or condition.get("reason") == TIMED_OUT:
        return status
    paused, said = bool(deployment["spec"].get("paused")), condition.get("reason") == PAUSED
    if paused and not said:
        text = "Deployment is paused"
        return with_deployment_condition(status, PROGRESSING, "Unknown", PAUSED, text, now)
    if not paused and said:
        text = "Deployment is resumed"
        return with_deployment_condition(status, PROGRESSING, "Unknown", RESUMED, text, now)
    return status


def _sum(replica_sets: Sequence[Manifest], field: str) -> int:
    return sum((one.get("status") or {}).get(field, 0) for one in replica_sets)


def _without(status: Manifest, type_: str) -> list[dict[str, Any]]:
    return [dict(c) for c in status.get("conditions") or () if c.get("type") != type_]


def _dropped(status: dict[str, Any], type_: str) -> dict[str, Any]:
    if find_condition({"status": status}, type_) is None:
        return status
    kept = _without(status, type_)
    rest = {name: value for name, value in status.items() if name != "conditions"}
    return {**rest, "conditions": kept} if kept else rest
