from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gpuyard.cli.output.describe import device_texts, print_description, use_text
from gpuyard.gpus.use import GpuUse
from gpuyard.runs.description import Attempt, Description
from gpuyard.runs.run import Run, make_run, state_text
from gpuyard.workloads.run_state import RunState


def running(image: str) -> Run:
    meta = {"name": "a", "uid": "1", "creationTimestamp": "2026-01-31T11:00:00Z"}
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": "a", "uid": "1", "controller": True}
    container = {"name": "main", "image": image}
    state: dict[str, Any] = {"running": {"startedAt": "2026-01-31T11:00:01Z"}}
    job = {
        "metadata": {**meta, "labels": {"gpuyard.io/run": "a"}},
        "spec": {"template": {"spec": {"containers": [container]}}},
        "status": {"active": 1, "ready": 1},
    }
    pod = {
        "metadata": {**meta, "name": "a-x", "ownerReferences": [owner]},
        "spec": {"nodeName": "n", "containers": [container]},
        "status": {"phase": "Running", "containerStatuses": [{"name": "main", "state": state}]},
    }
    return make_run(job, [pod])


@pytest.mark.parametrize(
    ("image", "shown"),
    [("registry/train@sha256:1", "registry/train@sha256:1"), ("gpuyard.io/host-process", None)],
)
def test_the_image_of_a_run_that_has_one(
    image: str, shown: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    run = running(image)
    assert Description(run).to_json()["image"] == shown
    print_description(Description(run))
    assert [
        line.split()[1] for line in capsys.readouterr().out.splitlines() if line.startswith("Image:")
    ] == ([shown] if shown else [])


def test_a_reason_that_says_the_same_as_the_state_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    run = running("x")
    assert (run.state.state, run.state.reason) == ("running", "Running")
    assert state_text(run) == "a: running"
    print_description(Description(run))
    assert "State:      running\n" in capsys.readouterr().out


def test_devices_are_numbered_as_the_process_does() -> None:
    annotations = {"gpuyard.io/devices": "GPU-b,GPU-a"}
    pod = {"metadata": {"name": "a-x", "annotations": annotations}, "spec": {"nodeName": "n"}}
    assert device_texts(Attempt.of(pod, {"spec": {}}), {"n": "H100"}) == [
        "cuda:0 H100 GPU-b",
        "cuda:1 H100 GPU-a",
    ]
    assert device_texts(Attempt.of(pod, {"spec": {}}), {}) == ["cuda:0 GPU-b", "cuda:1 GPU-a"]


def holding(resources: dict[str, int]) -> RunState:
    return replace(running("i:1").state, gpu_resources=resources)


def test_parts_and_shares_are_called_so(capsys: pytest.CaptureFixture[str]) -> None:
    run = running("i:1")
    for resources, said in (
        ({"nvidia.com/gpu": 2}, "2"),
        ({"nvidia.com/mig-1g.10gb.me": 1}, "1 part 1g.10gb.me"),
        ({"nvidia.com/gpu.shared": 2}, "2 shares of GPUs"),
        ({"nvidia.com/gpu": 1, "amd.com/gpu.shared": 1}, "1 GPU, 1 share of a GPU"),
        ({"nvidia.com/mig-1g.10gb.shared": 1}, "1 share of 1g.10gb"),
    ):
        print_description(Description(replace(run, state=holding(resources))))
        assert f"GPUs:       {said}\n" in capsys.readouterr().out


def test_what_a_run_used_in_one_line() -> None:
    use = GpuUse(
        8, 8 * 10_800, 86_400, 35_424, 99, 86_400, 86_400 * 58.1 * 1024, 71 * 1024, 86_400, 5.2 * 3.6e6
    )
    whole = holding({"nvidia.com/gpu": 8})
    assert use_text(use, whole) == (
        "held 8 GPUs for 3h, 41% busy (peak 99%), memory 58.1 GiB each (peak 71.0 GiB), 5.2 kWh"
    )
    short = GpuUse(gpus=1, gpu_s=4, energy_gpu_s=4, energy_j=280)
    assert (
        use_text(short, replace(whole, simulated=True))
        == "held 1 GPU for 4s, less than 0.001 kWh (simulated)"
    )
    assert use_text(GpuUse(gpus=1, gpu_s=4), whole) == "held 1 GPU for 4s"
    assert (
        use_text(GpuUse(gpus=2, gpu_s=8), holding({"nvidia.com/mig-1g.10gb": 2}))
        == "held 2 parts 1g.10gb for 4s"
    )
