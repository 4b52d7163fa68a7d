from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gpuyard import launcher
from gpuyard.local.kubelet.containers import limits_of, through_launcher
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
