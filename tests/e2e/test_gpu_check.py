"""tools/gpu-check on a machine without GPUs, and on one with a driver and no GPU behind it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.fake_driver import build_nvml, program

ROOT = Path(__file__).parents[2]
#: As the stub says it of its GPUs.
_SMI = (
    "{0}, GPU-00000000-0000-0000-0000-{0:012d}, NVIDIA H100 80GB HBM3, 550.107.02, 81559, 0, 30, 70.00, 0, "
    "345, 00000000:3A:00.0, Disabled, 9.0"
)


def gpu_check(tmp_path: Path, **environ: str) -> dict[str, Any]:
    """What held of each check."""
    output = tmp_path / "out.json"
    done = subprocess.run(
        [sys.executable, ROOT / "tools/gpu-check", "--patience=10", "-o", output],
        env={"HOME": str(tmp_path), "PATH": os.environ["PATH"], **environ},
        capture_output=True,
        text=True,
        check=False,
    )
    report = json.loads(output.read_text())
    assert json.loads(done.stdout) == report and done.returncode == 1, done.stderr
    assert report["held"] is False
    checks: dict[str, Any] = report["checks"]
    return checks


def test_a_machine_without_gpus_fails_each_check_and_ends(tmp_path: Path) -> None:
    checks = gpu_check(tmp_path)
    assert [name for name, check in checks.items() if check["held"]] == ["install", "resident", "down"]
    assert "no nvidia-smi" in checks["machine"]["found"]["why"]
    assert checks["yard"]["found"]["why"] == "nvidia-smi finds no GPU"


@pytest.mark.slow
def test_what_the_driver_says_is_compared_with_nvidia_smi(tmp_path: Path) -> None:
    build_nvml(tmp_path / "lib/libnvidia-ml.so.1")
    rows = "\n".join(_SMI.format(index) for index in range(4))
    smi = program(tmp_path / "bin/nvidia-smi")
    smi.write_text(f"#!/bin/sh\ncat <<'END'\n{rows}\nEND\n")
    path = f"{smi.parent}:{os.environ['PATH']}"
    checks = gpu_check(tmp_path, LD_LIBRARY_PATH=str(tmp_path / "lib"), PATH=path)
    held = {name for name, check in checks.items() if check["held"]}
    assert {"yard", "labels", "cdi", "down"} <= held, checks
    # There is no GPU behind this driver: runs are refused, and nobody can hold its memory.
    assert not {"verify", "train", "foreign", "activity"} & held
    assert "no process can use the GPU" in checks["activity"]["found"]["why"]
    assert "no GPU's device node is there" in checks["verify"]["found"]["output"]
    assert checks["allocate"]["found"]["gpus"] == 4
