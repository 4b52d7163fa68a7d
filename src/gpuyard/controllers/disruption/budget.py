"""What a PodDisruptionBudget allows, from its pods and how many of them there should be (pure).

Source: kubernetes `pkg/controller/disruption/disruption.go`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from gpuyard.kube.conditions import condition_is_true, find_condition
from gpuyard.kube.objects import Manifest, ObjectKey, controller_of, key_of, labels_of, uid_of
from gpuyard.kube.selectors import selects
from gpuyard.kube.timestamps import format_time, later, parse_time

#: A pod that was to be evicted and is still there counts again after this.
DELETION_TIMEOUT = timedelta(minutes=2)
_ALLOWED = "DisruptionAllowed"


class Scale(NamedTuple):
    """Whatever says how many pods there should be, and how many it says."""

    uid: str
    replicas: int


class Expectation(NamedTuple):
    """How many pods there should be, and how many of them healthy; `failure` says why nobody knows."""

    pods: int = 0
    healthy: int = 0
    failure: str = ""


def guards(budget: Manifest, pod: Manifest) -> bool:
    """Whether the pod is one of those that the budget counts."""
    return selects((budget.get("spec") or {}).get("selector"), labels_of(pod))


def scale_of(
    pod: Manifest, replica_sets: Mapping[ObjectKey, Manifest], deployments: Mapping[ObjectKey, Manifest]
) -> Scale | str | None:
    """Who says how many pods of this kind there should be; a text says why nobody does.

    None for a pod that nobody controls.
    """
    owner = controller_of(pod)
    if owner is None:
        return None
    if owner["kind"] != "ReplicaSet":
        group = owner["apiVersion"].rpartition("/")[0]
        plural = f"{owner['kind'].lower()}s.{group}" if group else f"{owner['kind'].lower()}s"
        return f"{plural} does not implement the scale subresource"
    replica_set = _named(replica_sets, pod, owner)
    if replica_set is None:
        return f'found no controllers for pod "{pod["metadata"]["name"]}"'
    deployment = _named(deployments, replica_set, controller_of(replica_set) or {})
    return Scale(uid_of(scaled := deployment or replica_set), int(scaled["spec"].get("replicas", 1)))


def expectation(
    budget: Manifest, pods: Sequence[Manifest], scales: Iterable[Scale | str | None]
) -> Expectation:
    """How many pods the budget asks for.

    Args:
        budget: says so by a number, or by a share of all that there should be.
        pods: that it counts.
        scales: of each of the pods.
    """
    spec = budget.get("spec") or {}
    fewest, most = spec.get("minAvailable"), spec.get("maxUnavailable")
    if most is None and isinstance(fewest, int):
        return Expectation(len(pods), fewest)
    found = list(scales)
    for one in found:
        if isinstance(one, str):
            return Expectation(failure=one)
    expected = sum(scale.replicas for scale in {one for one in found if isinstance(one, Scale)})
    if most is not None:
        return Expectation(expected, max(0, expected - _share(most, expected)))
    return Expectation(expected, 0 if fewest is None else _share(fewest, expected))


def budget_status(
    budget: Manifest, pods: Sequence[Manifest], wanted: Expectation, now: datetime
) -> dict[str, Any]:
    """The status as it should be."""
    old = budget.get("status") or {}
    if wanted.failure:
        told = {name: format_time(at) for name, at in _times(old).items()}
        readable = {**old, "disruptedPods": told} if "disruptedPods" in old else old
        return _with_condition({**readable, "disruptionsAllowed": 0}, now, failure=wanted.failure)
    disrupted = _disrupted(budget, pods, now)
    healthy = sum(_is_healthy(pod) and key_of(pod).name not in disrupted for pod in pods)
    spare = healthy - wanted.healthy
    status: dict[str, Any] = {
        "observedGeneration": budget["metadata"].get("generation", 0),
        "disruptionsAllowed": max(0, spare) if wanted.pods > 0 else 0,
        "currentHealthy": healthy,
        "desiredHealthy": wanted.healthy,
        "expectedPods": wanted.pods,
        "conditions": old.get("conditions") or [],
    }
    if disrupted:
        status["disruptedPods"] = disrupted
    return _with_condition(status, now)


def next_look_s(status: Mapping[str, Any], now: datetime) -> float | None:
    """After how many seconds a pod that was to be evicted, and isn't gone, counts again."""
    times = _times(status).values()
    return (_counts_again_at(min(times)) - now).total_seconds() if times else None


def _with_condition(status: Mapping[str, Any], now: datetime, *, failure: str = "") -> dict[str, Any]:
    """The status with the condition that says whether disruptions are allowed, or why nobody knows."""
    allowed = status.get("disruptionsAllowed", 0) > 0
    new = {
        "type": _ALLOWED,
        "status": str(allowed),
        "observedGeneration": status.get("observedGeneration", 0),
        "lastTransitionTime": format_time(now),
        "reason": "SufficientPods" if allowed else "SyncFailed" if failure else "InsufficientPods",
        "message": failure,
    }
    old = find_condition({"status": status}, _ALLOWED) or {}
    if old.get("status") == new["status"]:
        new["lastTransitionTime"] = old.get("lastTransitionTime", new["lastTransitionTime"])
    others = [one for one in status.get("conditions") or () if one.get("type") != _ALLOWED]
    return {**status, "conditions": [*others, new]}


def _disrupted(budget: Manifest, pods: Sequence[Manifest], now: datetime) -> dict[str, str]:
    """Pods that are about to be deleted, and since when."""
    there = {key_of(pod).name for pod in pods if not pod["metadata"].get("deletionTimestamp")}
    told = _times(budget.get("status") or {})
    return {
        name: format_time(at) for name, at in told.items() if name in there and _counts_again_at(at) > now
    }


def _times(status: Mapping[str, Any]) -> dict[str, datetime]:
    """Of pods that were to be evicted, when; without what is no time, such as a damage leaves."""
    found = {}
    for name, at in (status.get("disruptedPods") or {}).items():
        with suppress(TypeError, ValueError):
            found[name] = parse_time(at)
    return found


def _counts_again_at(evicted: datetime) -> datetime:
    return later(evicted, int(DELETION_TIMEOUT.total_seconds()))


def _is_healthy(pod: Manifest) -> bool:
    return not pod["metadata"].get("deletionTimestamp") and condition_is_true(pod, "Ready")


def _share(value: int | str, whole: int) -> int:
    """The number, or so many percent, rounded up."""
    return value if isinstance(value, int) else math.ceil(int(value.rstrip("%")) * whole / 100)


def _named(
    objects: Mapping[ObjectKey, Manifest], dependent: Manifest, owner: Mapping[str, Any]
) -> Manifest | None:
    """The owner that a reference names, if it is there."""
    found = objects.get(ObjectKey(key_of(dependent).namespace, owner.get("name", "")))
    return found if found is not None and uid_of(found) == owner.get("uid") else None
