"""A run that goes on with a GPU that became unhealthy under it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gpuyard.explain.ladder import climb
from gpuyard.explain.run_objects import RunObjects

FAULT = "GPU 3 of node vm is unhealthy: XID 79 (GPU has fallen off the bus) since 2026-01-31 12:03 UTC"


def running(*, is_yard: bool, simulated: bool = False, faults: int = 1) -> list[str]:
    """What is said of a run with four GPUs of which some are unhealthy."""
    raw = [
        {"index": 3 + n, "uuid": f"GPU-{3 + n}", "reason": "XID 79", "since": "2026-01-31T12:03:59Z"}
        for n in range(faults)
    ]
    node = {
        "kind": "Node",
        "metadata": {
            "name": "vm",
            "labels": {"gpuyard.io/simulated": "true"} if simulated else {},
            "annotations": {"gpuyard.io/gpu-health": json.dumps(raw)},
        },
    }
    container = {"name": "main", "resources": {"limits": {"nvidia.com/gpu": "4"}}}
    pod: dict[str, Any] = {
        "kind": "Pod",
        "metadata": {
            "name": "a",
            "namespace": "n",
            "annotations": {"gpuyard.io/devices": "GPU-3,GPU-4,GPU-5,GPU-6"},
        },
        "spec": {"nodeName": "vm", "containers": [container]},
        "status": {
            "phase": "Running",
            "startTime": "2026-01-31T11:00:00Z",
            "containerStatuses": [{"name": "main", "state": {"running": {}}}],
        },
    }
    job = {"kind": "Job", "metadata": {"name": "a", "namespace": "n"}, "spec": {"template": {"spec": {}}}}
    return climb(RunObjects(job, pod, node=node, is_yard=is_yard), None).lines()


def test_it_runs_and_the_fault_is_told_once() -> None:
    said = running(is_yard=False)
    assert said[:2] == [f"it runs, but {FAULT}", "GPU 3 is GPU-3"]
    assert sum("XID 79" in line for line in said) == 1
    assert said[2] == "what would help: stop it and submit it again: unhealthy GPUs aren't given out"
    assert said[3].startswith("or: drain the node and reboot it")


def test_of_several_faults_each_is_told_once() -> None:
    said = running(is_yard=False, faults=3)
    assert [sum(f"GPU {n} " in line for line in said[:4]) for n in (3, 4, 5)] == [2, 1, 1]


@pytest.mark.parametrize(
    ("simulated", "advice"),
    [
        (False, "or: end what runs here (`gpuyard down --stop`) and reboot it"),
        (True, "or: take it away with `gpuyard node fault"),
    ],
)
def test_a_yard_s_user_is_told_what_fits_one_machine(simulated: bool, advice: str) -> None:
    said = running(is_yard=True, simulated=simulated)
    assert said[3].startswith(advice)
    assert not any("drain" in line or "whoever" in line for line in said)


def without_cdi(*, annotation: str) -> tuple[str, list[str], list[str]]:
    """Headline, evidence and remedies for a container that waits for a CDI device."""
    node = {"kind": "Node", "metadata": {"name": "vm", "annotations": {"gpuyard.io/cdi": annotation}}}
    message = (
        "CDI device injection failed: unresolvable CDI devices gpuyard.io/gpu=GPU-1, gpuyard.io/gpu=GPU-2"
    )
    waiting = {"reason": "CreateContainerError", "message": message}
    pod: dict[str, Any] = {
        "kind": "Pod",
        "metadata": {"name": "a", "namespace": "n"},
        "spec": {"nodeName": "vm", "containers": [{"name": "main"}]},
        "status": {
            "phase": "Pending",
            "containerStatuses": [{"name": "main", "restartCount": 0, "state": {"waiting": waiting}}],
        },
    }
    job = {"metadata": {"name": "a", "namespace": "n"}, "spec": {"template": {"spec": pod["spec"]}}}
    found = climb(RunObjects(job, pod, node=node), None).blocking
    assert found is not None and found.cause == "no_cdi_device"
    return found.headline, list(found.evidence), [remedy.text for remedy in found.remedies]


def test_a_second_cdi_file_is_named() -> None:
    raw = [{"trouble": "duplicate", "file": "/var/run/cdi/copy.json", "detail": ""}]
    headline, _, remedies = without_cdi(annotation=json.dumps(raw))
    assert "/var/run/cdi/copy.json has CDI devices of the same names" in headline
    assert remedies[0].startswith("remove /var/run/cdi/copy.json from the node")


def test_a_cdi_file_that_was_written_again_is_evidence() -> None:
    raw = [{"trouble": "rewritten", "file": "/f", "detail": "deleted at 12:03 UTC"}]
    headline, evidence, remedies = without_cdi(annotation=json.dumps(raw))
    assert headline.endswith("doesn't know CDI device gpuyard.io/gpu=GPU-1")
    assert "the CDI spec /f was deleted at 12:03 UTC; the agent has written it again" in evidence
    assert "no other file" in remedies[0]


@pytest.mark.parametrize(
    ("labels", "raw", "said"),
    [
        ({"gpuyard.io/gpu-model": "H100"}, [], "no device plugin served its nvidia.com/gpu at that moment"),
        ({}, [], "none of its nvidia.com/gpu is healthy, or its plugin is gone"),
        (
            {"gpuyard.io/gpu-model": "H100"},
            [{"index": 3, "uuid": "GPU-3", "reason": "XID 79", "since": "2026-01-31T12:03:59Z"}],
            "none of its nvidia.com/gpu could be had: GPU 3 is unhealthy: XID 79",
        ),
    ],
)
def test_a_pod_that_its_node_refused(labels: dict[str, str], raw: list[Any], said: str) -> None:
    annotations = {"gpuyard.io/gpu-health": json.dumps(raw)}
    node = {"kind": "Node", "metadata": {"name": "vm", "labels": labels, "annotations": annotations}}
    message = "no healthy devices present; cannot allocate unhealthy devices nvidia.com/gpu"
    pod: dict[str, Any] = {
        "kind": "Pod",
        "metadata": {"name": "a", "namespace": "n"},
        "spec": {"nodeName": "vm", "containers": [{"name": "main"}]},
        "status": {"phase": "Failed", "reason": "UnexpectedAdmissionError", "message": message},
    }
    job = {"metadata": {"name": "a", "namespace": "n"}, "spec": {"template": {"spec": pod["spec"]}}}
    found = climb(RunObjects(job, pod, node=node), None).blocking
    assert found is not None and found.cause == "no_healthy_devices"
    assert f"node vm refused the pod: {said}" in found.headline


def test_a_pod_at_its_start_says_why_its_node_refused_the_attempt_before() -> None:
    message = "Allocate failed due to the device plugin doesn't allocate GPU-1: DEADLINE_EXCEEDED"
    pod: dict[str, Any] = {
        "kind": "Pod",
        "metadata": {"name": "a", "namespace": "n"},
        "spec": {"nodeName": "vm", "containers": [{"name": "main"}]},
        "status": {"phase": "Pending"},
    }
    refused = {
        **pod,
        "status": {"phase": "Failed", "reason": "UnexpectedAdmissionError", "message": message},
    }
    job = {"metadata": {"name": "a", "namespace": "n"}, "spec": {"template": {"spec": pod["spec"]}}}
    assert climb(RunObjects(job, pod), None).blocking is None
    found = climb(RunObjects(job, pod, attempt_before=refused), None).blocking
    assert found is not None and (found.step, found.cause) == ("devices", "allocate_failed")
    assert found.headline.endswith("before, node vm refused the pod: its device plugin doesn't answer")
    assert "DEADLINE_EXCEEDED" in found.evidence[0]
    pod["status"]["containerStatuses"] = [{"name": "main", "state": {"running": {}}}]
    assert climb(RunObjects(job, pod, attempt_before=refused), None).blocking is None
