from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gpuyard.local.kubelet.devices.plugin_client import PluginDevice
from gpuyard.local.kubelet.pods.status import (
    ContainerRun,
    ContainerView,
    device_health,
    pod_status,
    rejected_status,
)
from gpuyard.local.runtime.values import Exit, ExitReason

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
POD: dict[str, Any] = {
    "metadata": {"name": "p", "uid": "u"},
    "spec": {"runtimeClassName": "gpuyard-process"},
    "status": {"qosClass": "BestEffort"},
}
RUNNING = ContainerRun(0, NOW)
FAILED = ContainerRun(0, NOW, Exit(3, ExitReason.ERROR, NOW + timedelta(seconds=5)))
DONE = ContainerRun(0, NOW, Exit(0, ExitReason.COMPLETED, NOW + timedelta(seconds=5)))


def _status(
    *containers: ContainerView, phase: str = "Running", pod: dict[str, Any] = POD, **fields: Any
) -> dict[str, Any]:
    return pod_status(pod, containers, phase=phase, started_at=NOW, now=NOW, **fields)


def _view(
    current: ContainerRun | None = None, previous: ContainerRun | None = None, **fields: Any
) -> ContainerView:
    return ContainerView("main", fields.pop("is_init", False), "image", current, previous, **fields)


@pytest.mark.parametrize(
    ("view", "state", "last", "count"),
    [
        (_view(), "waiting ContainerCreating", "", 0),
        (_view(waiting=("PodInitializing", "")), "waiting PodInitializing", "", 0),
        (_view(RUNNING), "running", "", 0),
        (_view(FAILED), "terminated 3", "", 0),
        (_view(FAILED, waiting=("CrashLoopBackOff", "wait")), "waiting CrashLoopBackOff", "terminated 3", 0),
        (_view(ContainerRun(1, NOW), FAILED), "running", "terminated 3", 1),
        (_view(ContainerRun(2, NOW, DONE.exit), FAILED), "terminated 0", "terminated 3", 2),
    ],
)
def test_container_state(view: ContainerView, state: str, last: str, count: int) -> None:
    found = _status(view)["containerStatuses"][0]
    assert _short(found["state"]) == state
    assert _short(found["lastState"]) == last
    assert found["restartCount"] == count
    assert found["ready"] is found["started"] is (state == "running")


def test_a_container_of_podman_has_its_image_by_digest() -> None:
    view = _view(RUNNING, image_id="a.io/b@sha256:1")
    found = _status(view, pod={**POD, "spec": {}})["containerStatuses"][0]
    assert found["imageID"] == "a.io/b@sha256:1"
    assert found["containerID"] == "podman://u/main/0"


def test_terminated_has_everything() -> None:
    exit_ = Exit(137, ExitReason.OOM_KILLED, NOW + timedelta(seconds=1), "too much")
    found = _status(_view(ContainerRun(4, NOW, exit_)))["containerStatuses"][0]
    assert found["state"]["terminated"] == {
        "exitCode": 137,
        "reason": "OOMKilled",
        "message": "too much",
        "startedAt": "2026-01-01T12:00:00Z",
        "finishedAt": "2026-01-01T12:00:01Z",
        "containerID": "process://u/main/4",
    }
    assert found["containerID"] == "process://u/main/4"


@pytest.mark.parametrize(
    ("views", "phase", "expected"),
    [
        ([_view(RUNNING)], "Running", {"Ready": "True", "Initialized": "True"}),
        ([_view()], "Pending", {"Ready": "False ContainersNotReady", "Initialized": "True"}),
        ([_view(DONE)], "Succeeded", {"Ready": "False PodCompleted", "Initialized": "True PodCompleted"}),
        ([_view(FAILED)], "Failed", {"Ready": "False PodFailed", "Initialized": "True"}),
        (
            [_view(RUNNING, is_init=True), _view()],
            "Pending",
            {"Ready": "False ContainersNotReady", "Initialized": "False ContainersNotInitialized"},
        ),
    ],
)
def test_conditions(views: list[ContainerView], phase: str, expected: dict[str, str]) -> None:
    found = _status(*views, phase=phase)["conditions"]
    short = {c["type"]: f"{c['status']} {c['reason'] or ''}".strip() for c in found}
    assert {name: short[name] for name in expected} == expected
    assert short["ContainersReady"] == short["Ready"]
    assert short["PodScheduled"] == "True"


def test_old_times_stay_and_conditions_of_others_are_left_alone() -> None:
    old = [
        {"type": "PodScheduled", "status": "True", "lastTransitionTime": "2025-01-01T00:00:00Z"},
        {"type": "DisruptionTarget", "status": "True", "lastTransitionTime": "2025-01-01T00:00:00Z"},
    ]
    found = _status(_view(RUNNING), pod={**POD, "status": {"conditions": old}})["conditions"]
    by_type = {condition["type"]: condition for condition in found}
    assert by_type["PodScheduled"]["lastTransitionTime"] == "2025-01-01T00:00:00Z"
    assert "DisruptionTarget" not in by_type
    assert by_type["Ready"]["lastTransitionTime"] == "2026-01-01T12:00:00Z"


def test_start_time_stays_and_no_reason_is_cleared() -> None:
    found = _status(
        _view(RUNNING), pod={**POD, "status": {"startTime": "2025-01-01T00:00:00Z", "reason": "x"}}
    )
    assert found["startTime"] == "2025-01-01T00:00:00Z"
    assert found["reason"] is None


def test_init_containers_are_apart() -> None:
    found = _status(_view(DONE, is_init=True), _view(RUNNING))
    assert [len(found["initContainerStatuses"]), len(found["containerStatuses"])] == [1, 1]
    assert found["initContainerStatuses"][0]["ready"]
    assert "initContainerStatuses" not in _status(_view(RUNNING))


def test_rejected() -> None:
    found = rejected_status(POD, reason="OutOfcpu", message="too much", now=NOW)
    kept = ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled")
    assert found == {
        "phase": "Failed",
        "conditions": [{"type": type_, "$patch": "delete"} for type_ in kept],
        "reason": "OutOfcpu",
        "message": "too much",
        "startTime": "2026-01-01T12:00:00Z",
    }


def _short(state: dict[str, Any]) -> str:
    for name, inner in state.items():
        return f"{name} {inner.get('reason') if name == 'waiting' else inner.get('exitCode', '')}".strip()
    return ""


def test_the_health_of_the_devices_that_it_holds() -> None:
    known = {"nvidia.com/gpu": {"GPU-0": PluginDevice(True, ()), "GPU-1": PluginDevice(False, ())}}
    held = {"nvidia.com/gpu": ("GPU-0", "GPU-1", "GPU-9"), "amd.com/gpu": ("GPU-a",)}
    view = _view(RUNNING, devices=device_health(held, known))
    (status,) = _status(view)["containerStatuses"]
    assert status["allocatedResourcesStatus"] == [
        {
            "name": "nvidia.com/gpu",
            "resources": [
                {"resourceID": "GPU-0", "health": "Healthy"},
                {"resourceID": "GPU-1", "health": "Unhealthy"},
                {"resourceID": "GPU-9", "health": "Unknown"},
            ],
        },
        {"name": "amd.com/gpu", "resources": [{"resourceID": "GPU-a", "health": "Unknown"}]},
    ]


def test_without_devices_nothing_is_said_of_any() -> None:
    (status,) = _status(_view(RUNNING))["containerStatuses"]
    assert "allocatedResourcesStatus" not in status
