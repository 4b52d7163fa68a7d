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
        (True, "or: take it out of simulated-health.json"),
    ],
)
def test_a_yard_s_user_is_told_what_fits_one_machine(simulated: bool, advice: str) -> None:
    said = running(is_yard=True, simulated=simulated)
    assert said[3].startswith(advice)
    assert not any("drain" in line or "whoever" in line for line in said)
