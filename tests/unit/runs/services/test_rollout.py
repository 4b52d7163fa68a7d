"""How far an update is, read from objects as Kubernetes' controllers leave them."""

from __future__ import annotations

from typing import Any

import pytest

from gpuyard.kube.objects import Manifest
from gpuyard.kube.wellknown import ANNOTATION_REVISION
from gpuyard.runs.services.rollout import ServiceRollout, newest


def deployment(
    wanted: int = 3,
    revision: int = 2,
    *,
    seen: bool = True,
    counts: dict[str, int] | None = None,
    **status: Any,
) -> Manifest:
    return {
        "metadata": {
            "name": "digits",
            "uid": "d",
            "generation": 5,
            "annotations": {ANNOTATION_REVISION: str(revision)},
        },
        "spec": {"replicas": wanted},
        "status": {"observedGeneration": 5 if seen else 4, **(counts or {}), **status},
    }


def controlled_by(kind: str, uid: str) -> list[Manifest]:
    return [{"apiVersion": "apps/v1", "kind": kind, "name": "x", "uid": uid, "controller": True}]


def replica_set(revision: int, owner: str = "d") -> Manifest:
    return {
        "metadata": {
            "name": f"digits-{revision}",
            "uid": f"rs{revision}{owner}",
            "annotations": {ANNOTATION_REVISION: str(revision)},
            "ownerReferences": controlled_by("Deployment", owner),
        }
    }


def pod(
    revision: int,
    *,
    ready: bool = True,
    waits: str = "",
    ends: int = 1,
    leaves: bool = False,
    owner: str = "d",
) -> Manifest:
    container = {"state": {"waiting": {"reason": waits}} if waits else {"running": {}}, "restartCount": ends}
    return {
        "metadata": {
            "name": "p",
            "uid": "p",
            "ownerReferences": controlled_by("ReplicaSet", f"rs{revision}{owner}"),
            **({"deletionTimestamp": "2026-01-01T00:00:00Z"} if leaves else {}),
        },
        "spec": {},
        "status": {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": str(ready)}],
            "containerStatuses": [{"name": "main", **container}],
        },
    }


SETS = [replica_set(1), replica_set(2), replica_set(2, owner="other")]


def test_an_update_half_way() -> None:
    pods = [pod(2), pod(2, ready=False), pod(1), pod(1), pod(1, leaves=True), pod(2, owner="other")]
    counts = {"updatedReplicas": 2, "replicas": 4, "availableReplicas": 3}
    rollout = ServiceRollout.of(deployment(counts=counts), SETS, pods)
    assert rollout.text == "1/3 replicas ready, 2 of the earlier ones left"
    assert rollout.old_ready == 2
    assert not (rollout.is_done or rollout.has_stalled or rollout.is_hopeless)


def test_it_is_done_when_all_are_new_and_available() -> None:
    done = {"updatedReplicas": 3, "replicas": 3, "availableReplicas": 3}
    pods = [pod(2), pod(2), pod(2)]
    assert ServiceRollout.of(deployment(counts=done), SETS, pods).is_done
    assert ServiceRollout.of(deployment(counts=done), SETS, pods).text == "3/3 replicas ready"
    # What the controller says is of the template before.
    assert not ServiceRollout.of(deployment(seen=False, counts=done), SETS, pods).is_done


def test_a_single_replica_is_one() -> None:
    assert ServiceRollout.of(deployment(1), SETS, []).text == "0/1 replica ready"


def test_without_replicas_it_is_done() -> None:
    assert ServiceRollout.of(deployment(0), SETS, []).is_done


@pytest.mark.parametrize(("seen", "stalled"), [(True, True), (False, False)])
def test_it_stalls_when_the_controller_says_so_of_this_template(seen: bool, stalled: bool) -> None:
    condition = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}
    rollout = ServiceRollout.of(deployment(seen=seen, conditions=[condition]), SETS, [pod(2, ready=False)])
    assert rollout.has_stalled is stalled


def test_only_a_new_replica_that_keeps_ending_makes_it_hopeless() -> None:
    crash = "CrashLoopBackOff"
    new, old = pod(2, ready=False, waits=crash), pod(1, ready=False, waits=crash)
    assert ServiceRollout.of(deployment(), SETS, [new]).is_hopeless
    assert not ServiceRollout.of(deployment(), SETS, [old]).is_hopeless
    once = pod(2, ready=False, waits=crash, ends=0)
    assert not ServiceRollout.of(deployment(), SETS, [once]).is_hopeless
    assert not ServiceRollout.of(
        deployment(), SETS, [pod(2, ready=False, waits="ImagePullBackOff")]
    ).is_hopeless
    # Before the controller has seen the change, the newest that is there is an earlier one.
    assert not ServiceRollout.of(deployment(seen=False), SETS, [new]).is_hopeless


def test_the_newest_is_the_one_with_the_deployment_s_number() -> None:
    assert newest(deployment(revision=1), SETS) == SETS[0]
    assert newest(deployment(revision=3), SETS) is None
    assert newest(deployment(seen=False), SETS) is None
    huge: Manifest = {"metadata": {"annotations": {ANNOTATION_REVISION: "9" * 5000}}}
    assert newest(deployment(revision=2), [huge, *SETS]) == SETS[1]
