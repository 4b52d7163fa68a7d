"""What is said of nodes whose GPUs can't be had, on a yard and on a cluster."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gpuyard.explain.ladder import climb
from gpuyard.explain.placement import explain
from gpuyard.explain.run_objects import RunObjects
from gpuyard.scheduling.requests import PodRequest
from gpuyard.scheduling.snapshot import Snapshot

GPU = "nvidia.com/gpu"


def node(gpus: int, unhealthy: int, *, simulated: bool = True) -> dict[str, Any]:
    """One whose last GPUs are unhealthy."""
    faults = [
        {"index": index, "uuid": f"GPU-{index}", "reason": "XID 79", "since": "2026-01-31T12:03:59Z"}
        for index in range(gpus - unhealthy, gpus)
    ]
    return {
        "metadata": {
            "name": "vm",
            "labels": {"gpuyard.io/simulated": "true"} if simulated else {},
            "annotations": {"gpuyard.io/gpu-health": json.dumps(faults)},
        },
        "status": {
            "capacity": {GPU: str(gpus), "pods": "110"},
            "allocatable": {GPU: str(gpus - unhealthy), "pods": "110"},
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }


def pod(name: str, gpus: int, node_name: str = "") -> dict[str, Any]:
    container = {"name": "main", "resources": {"limits": {GPU: str(gpus)}, "requests": {GPU: str(gpus)}}}
    labels = {"gpuyard.io/run": name}
    return {
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "n", "labels": labels},
        "spec": {"nodeName": node_name, "containers": [container]},
    }


def said(asked: int, where: dict[str, Any], *held: int, is_yard: bool = True) -> str:
    """What is said of a run that waits beside others."""
    waiting = pod("waits", asked)
    others = [pod(f"w{n}", gpus, "vm") for n, gpus in enumerate(held)]
    explanation = explain(PodRequest.of(waiting), Snapshot.of([where], others))
    job = {"kind": "Job", "metadata": {"name": "a", "namespace": "n"}, "spec": {"template": {"spec": {}}}}
    return "\n".join(climb(RunObjects(job, waiting, is_yard=is_yard), explanation).lines())


def test_a_gpu_is_mended_only_with_what_else_it_takes() -> None:
    lines = said(8, node(8, 1), 4, 4)
    change = "stop run w0 and run w1, and mend GPU 7 (node vm)"
    assert f"what would run now: {change}: take it away with `gpuyard node fault" in lines
    assert lines.count("gpuyard node fault") == 1


@pytest.mark.parametrize(
    ("is_yard", "way"),
    [
        (
            False,
            "drain the node and reboot it; if it comes again,",
        ),
        (True, "end what runs here (`gpuyard down --stop`) and reboot it; if it comes again,"),
    ],
)
def test_one_way_that_mends_several_is_told_once(is_yard: bool, way: str) -> None:
    lines = said(8, node(8, 2, simulated=False), is_yard=is_yard)
    assert f"or: mend GPUs 6 and 7 (node vm): {way}" in lines
    assert lines.count("reboot it") == 1


@pytest.mark.parametrize(("gpus", "unhealthy", "advice"), [
    (8, 8, "what would run now: mend GPUs 0 and 1 (node vm): take it away with `gpuyard node fault"),
    (0, 0, "what could run: simulate some: `gpuyard down --keep && gpuyard up --simulate H100:8`"),
])  # fmt: skip
def test_a_yard_s_agent_is_no_pod(gpus: int, unhealthy: int, advice: str) -> None:
    on_yard = said(2, node(gpus, unhealthy))
    assert "agent" not in on_yard and advice in on_yard
    assert "node vm: no agent of gpuyard runs there" in said(2, node(gpus, unhealthy), is_yard=False)
