from __future__ import annotations

from typing import Any

import pytest

from gpuyard.cli.output.describe import device_texts, print_description, use_text
from gpuyard.gpus.use import GpuUse
from gpuyard.runs.description import Attempt, Description
from gpuyard.runs.run import Run, make_run, state_text


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
    assert device_texts(Attempt.of(pod), {"n": "H100"}) == ["cuda:0 H100 GPU-b", "cuda:1 H100 GPU-a"]
    assert device_texts(Attempt.of(pod), {}) == ["cuda:0 GPU-b", "cuda:1 GPU-a"]


def test_what_a_run_used_in_one_line() -> None:
    use = GpuUse(
        8, 8 * 10_800, 86_400, 35_424, 99, 86_400, 86_400 * 58.1 * 1024, 71 * 1024, 86_400, 5.2 * 3.6e6
    )
    assert use_text(use, simulated=False) == (
        "held 8 GPUs for 3h, 41% busy (peak 99%), memory 58.1 GiB each (peak 71.0 GiB), 5.2 kWh"
    )
    short = GpuUse(gpus=1, gpu_s=4, energy_gpu_s=4, energy_j=280)
    assert use_text(short, simulated=True) == "held 1 GPU for 4s, less than 0.001 kWh (simulated)"
    assert use_text(GpuUse(gpus=1, gpu_s=4), simulated=False) == "held 1 GPU for 4s"
