from __future__ import annotations

from typing import Any

import pytest

from gpuyard.kube.wellknown import ANNOTATION_STOPPED_AT
from gpuyard.workloads.serving.service_state import (
    Phase,
    address_of,
    service_state,
    unready_pods,
    unready_text,
)

MOMENT = "2026-01-31T12:00:00Z"
TIMED_OUT = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}


def deployment(
    wanted: int = 3,
    *,
    ready: int = 0,
    updated: int | None = None,
    total: int | None = None,
    generation: int = 1,
    conditions: list[dict[str, Any]] | None = None,
    annotations: dict[str, str] | None = None,
) -> dict[str, Any]:
    total = wanted if total is None else total
    container = {"name": "main", "resources": {"limits": {"nvidia.com/gpu": "2"}}}
    return {
        "metadata": {
            "name": "a",
            "namespace": "n",
            "generation": generation,
            "creationTimestamp": MOMENT,
            "labels": {"gpuyard.io/run": "a"},
            "annotations": annotations or {},
        },
        "spec": {"replicas": wanted, "template": {"spec": {"containers": [container]}}},
        "status": {
            "observedGeneration": 1,
            "replicas": total,
            "readyReplicas": ready,
            "updatedReplicas": total if updated is None else updated,
            "conditions": conditions or [],
        },
    }


def pod(name: str, *, ready: bool = False, phase: str = "Running", **metadata: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "creationTimestamp": MOMENT, **metadata},
        "spec": {"nodeName": "here"},
        "status": {
            "phase": phase,
            "conditions": [{"type": "Ready", "status": str(ready)}],
            "containerStatuses": [{"name": "main", "restartCount": 2, "state": {"running": {}}}],
        },
    }


@pytest.mark.parametrize(
    ("given", "bounds", "phase"),
    [
        (deployment(), None, Phase.STARTING),
        (deployment(ready=3), None, Phase.RUNNING),
        (deployment(ready=1), None, Phase.RUNNING),
        (deployment(ready=3, updated=1, total=4), None, Phase.UPDATING),
        (deployment(ready=3, generation=2), None, Phase.UPDATING),
        # Of a first start that never got ready nothing is being replaced.
        (deployment(updated=1, total=4), None, Phase.STARTING),
        (deployment(conditions=[TIMED_OUT]), None, Phase.FAILED),
        (deployment(ready=3, updated=1, total=4, conditions=[TIMED_OUT]), None, Phase.FAILED),
        (deployment(0), None, Phase.STOPPED),
        (deployment(0), (1, 3), Phase.STOPPED),
        (deployment(0), (0, 3), Phase.IDLE),
        (deployment(0, annotations={ANNOTATION_STOPPED_AT: MOMENT}), (0, 3), Phase.STOPPED),
        # Somebody scaled it up since.
        (deployment(3, ready=3, annotations={ANNOTATION_STOPPED_AT: MOMENT}), (0, 3), Phase.RUNNING),
    ],
)
def test_the_phase_of_a_service(given: dict[str, Any], bounds: tuple[int, int] | None, phase: Phase) -> None:
    assert service_state(given, [], bounds=bounds).phase is phase


def test_gpus_are_those_of_all_replicas() -> None:
    state = service_state(deployment(3, ready=3), [pod("a-1", ready=True)], bounds=(1, 8))
    assert (state.gpus, state.replicas_text, state.nodes) == (6, "3/3 of 1..8", ("here",))
    assert state.to_json()["replicas"] == {"ready": 3, "wanted": 3, "updated": 3, "least": 1, "most": 8}


def test_an_update_that_stalls_says_that_the_old_ones_serve() -> None:
    state = service_state(deployment(ready=3, updated=1, total=4, conditions=[TIMED_OUT]), [pod("a-9")])
    assert state.message == (
        "its replicas didn't get ready in time; 3 earlier replicas go on serving; "
        "a-9: it runs, and doesn't say yet that it is ready (2 restarts)"
    )


def test_the_replica_to_look_at_is_neither_ready_nor_leaving() -> None:
    leaving = pod("a-1", deletionTimestamp=MOMENT)
    over = pod("a-2", phase="Failed")
    waiting = pod("a-4")
    homeless = {**pod("a-0"), "spec": {}}
    found = unready_pods([homeless, leaving, over, pod("a-3", ready=True), waiting, pod("a-5")])
    assert [one["metadata"]["name"] for one in found] == ["a-4", "a-5", "a-0"]


def test_a_replica_that_waits_for_a_node_says_so() -> None:
    condition = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": "0/1 nodes are available: 1 Insufficient nvidia.com/gpu.",
    }
    waiting = {"metadata": {"name": "a"}, "spec": {}, "status": {"conditions": [condition]}}
    assert unready_text(waiting) == "Unschedulable: 0/1 nodes are available: 1 Insufficient nvidia.com/gpu."


@pytest.mark.parametrize(
    ("spec", "is_yard", "address"),
    [
        ({"clusterIP": "127.96.3.4", "ports": [{"port": 8000}]}, True, "http://127.96.3.4:8000"),
        ({"clusterIP": "10.96.3.4", "ports": [{"port": 8000}]}, False, "http://a.n.svc:8000"),
        ({"clusterIP": "None", "ports": [{"port": 8000}]}, True, ""),
        ({"ports": [{"port": 8000}]}, True, ""),
        ({"clusterIP": "127.96.3.4"}, True, ""),
    ],
)
def test_the_address_is_one_that_its_user_can_open(spec: dict[str, Any], is_yard: bool, address: str) -> None:
    service = {"metadata": {"name": "a", "namespace": "n"}, "spec": spec}
    assert address_of(service, is_yard=is_yard) == address
    assert address_of(None, is_yard=is_yard) == ""
