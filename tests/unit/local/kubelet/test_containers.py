from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gpuyard import errors, launcher
from gpuyard.local.kubelet.containers import argv_of, limits_of, task_values, through_launcher
from gpuyard.local.runtime.values import Limits


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({}, Limits()),
        ({"cpu": "500m", "memory": "1Gi"}, Limits(500, 1 << 30)),
        # As in Kubernetes: no limit at all, not a limit of nothing.
        ({"cpu": "0", "memory": "0"}, Limits()),
    ],
)
def test_limits(limits: dict[str, Any], expected: Limits) -> None:
    assert limits_of({"name": "c", "resources": {"limits": limits}}) == expected


@pytest.fixture
def path(tmp_path: Path) -> str:
    python = tmp_path / "python3"
    python.write_text("#!/bin/sh\n")
    python.chmod(0o755)
    return str(tmp_path)


@pytest.mark.parametrize("python", ["/venv/bin/python", "/usr/bin/python3", "python3.11"])
def test_a_python_command_is_launched_by_its_own_interpreter(python: str) -> None:
    argv = through_launcher([python, "train.py"], {"GPUYARD_GPUS": "2"})
    assert argv == [python, launcher.__file__, python, "train.py"]


def test_other_commands_are_launched_by_the_first_python_on_path(path: str) -> None:
    argv = through_launcher(["torchrun", "x.py"], {"GPUYARD_GPUS": "2", "PATH": path})
    assert argv == [f"{path}/python3", launcher.__file__, "torchrun", "x.py"]
    assert through_launcher(["torchrun"], {"GPUYARD_GPUS": "2", "PATH": "/nowhere"}) == ["torchrun"]


@pytest.mark.parametrize(
    "environment", [{}, {"GPUYARD_GPUS": "0"}, {"GPUYARD_GPUS": "2", "GPUYARD_SIMULATED": "1"}]
)
def test_runs_without_real_gpus_start_as_they_are(environment: dict[str, str]) -> None:
    assert through_launcher(["python3", "train.py"], environment) == ["python3", "train.py"]


def test_a_task_of_a_sweep_gets_its_values_without_a_launcher() -> None:
    own = {
        "GPUYARD_SWEEP": '[{"names":["lr"],"rows":[["0.1"],["$(HOME) {{lr}}"]]}]',
        "JOB_COMPLETION_INDEX": "1",
    }
    values = task_values(own)
    assert own == {"JOB_COMPLETION_INDEX": "1", "lr": "$(HOME) {{lr}}"}
    container = {"name": "main", "command": ["/bin/echo", "--lr={lr}", "{{lr}}"]}
    words = argv_of(container, {"HOME": "/", **own}, values, in_image=False)
    assert words == ["/bin/echo", "--lr=$(HOME) {{lr}}", "{lr}"]


def test_braces_of_a_run_without_a_sweep_are_its_own() -> None:
    own = {"JOB_COMPLETION_INDEX": "1"}
    container = {"name": "main", "command": ["echo", "{{lr}}", "{lr}"]}
    assert argv_of(container, own, task_values(own), in_image=False) == ["echo", "{{lr}}", "{lr}"]


def test_a_task_that_the_sweep_lacks_doesn_t_start() -> None:
    own = {"GPUYARD_SWEEP": '[{"names":["lr"],"rows":[["0.1"]]}]', "JOB_COMPLETION_INDEX": "1"}
    with pytest.raises(errors.StartError, match=r"aren't as gpuyard sets them.*fewer tasks"):
        task_values(own)
