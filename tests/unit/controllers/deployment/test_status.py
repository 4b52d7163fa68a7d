"""What a Deployment's status says, and when it counts as stuck."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gpuyard.controllers.deployment.rolling import ReplicaBounds
from gpuyard.controllers.deployment.status import (
    counted,
    is_complete,
    paused_status,
    rolled_out,
    seconds_to_deadline,
)
from gpuyard.kube.conditions import find_condition
from gpuyard.kube.objects import Manifest
from gpuyard.kube.timestamps import format_time

NOW = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
LATER = NOW + timedelta(minutes=5)


def a_deployment(status: dict[str, Any] | None = None, **spec: Any) -> Manifest:
    wanted = {"replicas": 3, "progressDeadlineSeconds": 600, **spec}
    return {"metadata": {"name": "web", "generation": 2}, "spec": wanted, "status": status or {}}


def a_set(name: str, wanted: int, ready: int = 0, **status: Any) -> Manifest:
    counts = {"replicas": wanted, "readyReplicas": ready, "availableReplicas": ready, **status}
    return {"metadata": {"name": name}, "spec": {"replicas": wanted}, "status": counts}


def count(deployment: Manifest, new: Manifest | None, *old: Manifest, now: datetime = NOW) -> dict[str, Any]:
    """The whole status."""
    sets = [*([new] if new else []), *old]
    status = counted(deployment, new, sets, ReplicaBounds(3, 1, 0), now)
    return rolled_out(deployment, status, new, sets, now)


def told(status: Manifest, type_: str) -> tuple[str, str, str]:
    condition = find_condition({"status": status}, type_) or {}
    return condition.get("status", ""), condition.get("reason", ""), condition.get("message", "")


def progressing(reason: str, *, at: datetime = NOW, status: str = "True") -> dict[str, Any]:
    times = {"lastUpdateTime": format_time(at), "lastTransitionTime": format_time(at)}
    return {"conditions": [{"type": "Progressing", "status": status, "reason": reason, **times}]}


def test_it_counts_the_pods_of_all_its_replica_sets() -> None:
    status = count(a_deployment(), a_set("web-2", 2, 1), a_set("web-1", 2, 2))
    assert {name: value for name, value in status.items() if name != "conditions"} == {
        "observedGeneration": 2, "replicas": 4, "updatedReplicas": 2, "readyReplicas": 3,
        "availableReplicas": 3, "unavailableReplicas": 1, "terminatingReplicas": 0,
    }  # fmt: skip
    assert told(status, "Available")[:2] == ("True", "MinimumReplicasAvailable")


def test_what_is_missing_makes_it_unavailable() -> None:
    status = count(a_deployment(), a_set("web-1", 3, 2))
    assert told(status, "Available")[:2] == ("False", "MinimumReplicasUnavailable")


def test_pods_that_come_are_progress_and_all_of_them_the_end() -> None:
    first = count(a_deployment(), a_set("web-1", 3, 1))
    assert told(first, "Progressing") == (
        *("True", "ReplicaSetUpdated"),
        'ReplicaSet "web-1" is progressing.',
    )
    last = count(a_deployment(first), a_set("web-1", 3, 3), now=LATER)
    assert told(last, "Progressing")[1:] == (
        "NewReplicaSetAvailable",
        'ReplicaSet "web-1" has successfully progressed.',
    )
    assert is_complete(a_deployment(), last)
    assert not is_complete(a_deployment(replicas=4), last)


def test_each_progress_sets_the_deadline_anew() -> None:
    first = count(a_deployment(), a_set("web-1", 3, 1))
    second = count(a_deployment(first), a_set("web-1", 3, 2), now=LATER)
    condition = find_condition({"status": second}, "Progressing") or {}
    assert (condition["lastUpdateTime"], condition["lastTransitionTime"]) == (
        format_time(LATER),
        format_time(NOW),
    )
    assert seconds_to_deadline(a_deployment(), second, LATER) == 600


def test_one_that_stands_still_is_late_after_its_deadline() -> None:
    waiting = a_deployment(count(a_deployment(), a_set("web-1", 3, 1)))
    in_time = count(waiting, a_set("web-1", 3, 1), now=LATER)
    assert told(in_time, "Progressing")[1] == "ReplicaSetUpdated"
    late = count(waiting, a_set("web-1", 3, 1), now=NOW + timedelta(seconds=601))
    assert told(late, "Progressing") == (
        "False",
        "ProgressDeadlineExceeded",
        'ReplicaSet "web-1" has timed out progressing.',
    )
    assert seconds_to_deadline(a_deployment(), late, LATER) is None


@pytest.mark.parametrize("seconds", [None, 2**31 - 1])
def test_without_a_deadline_nobody_speaks_of_progress(seconds: int | None) -> None:
    deployment = a_deployment(progressing("ReplicaSetUpdated"), progressDeadlineSeconds=seconds)
    status = count(deployment, a_set("web-1", 3, 1))
    assert find_condition({"status": status}, "Progressing") is None
    assert seconds_to_deadline(deployment, status, NOW) is None


def test_what_is_complete_stays_so_when_a_pod_fails() -> None:
    whole = count(a_deployment(), a_set("web-1", 3, 3))
    broken = count(a_deployment(whole), a_set("web-1", 3, 2), now=NOW + timedelta(hours=1))
    assert told(broken, "Progressing")[1] == "NewReplicaSetAvailable"
    assert told(broken, "Available")[0] == "False"


def test_why_pods_cannot_be_made_is_said_as_long_as_it_is_so() -> None:
    failure = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "no quota"}
    failing = count(a_deployment(), a_set("web-1", 3, conditions=[failure]))
    assert told(failing, "ReplicaFailure") == ("True", "FailedCreate", "no quota")
    mended = count(a_deployment(failing), a_set("web-1", 3, 1))
    assert find_condition({"status": mended}, "ReplicaFailure") is None


def test_a_pause_is_said_and_so_is_its_end() -> None:
    resting = paused_status(a_deployment(paused=True), NOW)
    assert told(resting, "Progressing")[:2] == ("Unknown", "DeploymentPaused")
    assert paused_status(a_deployment(resting, paused=True), LATER) == resting
    going = paused_status(a_deployment(resting), LATER)
    assert told(going, "Progressing")[:2] == ("Unknown", "DeploymentResumed")
    assert paused_status(a_deployment(going), LATER) == going


def test_one_that_is_late_is_not_said_to_be_paused() -> None:
    late = progressing("ProgressDeadlineExceeded", status="False")
    assert paused_status(a_deployment(late, paused=True), NOW) == late


def test_what_the_status_knows_besides_is_kept() -> None:
    deployment = a_deployment({"collisionCount": 2, "conditions": [{"type": "Mine", "status": "True"}]})
    status = count(deployment, None)
    assert status["collisionCount"] == 2
    assert find_condition({"status": status}, "Mine") is not None
    # Without a ReplicaSet there is nothing yet that could make progress.
    assert "unavailableReplicas" not in status
