"""`gpuyard node cdi` over a driver that is there: a process of its own, since NVML stays loaded in one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.fake_driver import VERSION, build_nvml, install_with_nvml


def node_cdi(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "gpuyard", "node", "cdi", "--driver-root", str(root), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_it_prints_what_an_agent_would_write(tmp_path: Path) -> None:
    root = install_with_nvml(tmp_path)
    done = node_cdi(root, "-o", "json")
    assert (done.returncode, done.stderr) == (0, "")
    spec = json.loads(done.stdout)
    assert [device["name"] for device in spec["devices"]][::2] == ["0", "1", "2", "3", "all"]
    common = spec["containerEdits"]
    assert common["deviceNodes"][0]["hostPath"] == f"{root}/dev/nvidiactl"
    mounts = {mount["containerPath"]: mount["hostPath"] for mount in common["mounts"]}
    assert mounts["/usr/lib64/libcuda.so.1"] == f"{root}/usr/lib/x86_64-linux-gnu/libcuda.so.{VERSION}"
    text = node_cdi(root)
    assert text.returncode == 0
    assert (
        text.stdout.startswith("cdiVersion: ") and "containerPath: /usr/lib64/libcuda.so.1\n" in text.stdout
    )


def test_without_the_drivers_files_it_says_so(tmp_path: Path) -> None:
    build_nvml(tmp_path / "usr/lib64/libnvidia-ml.so.1")
    done = node_cdi(tmp_path, "-o", "json")
    assert done.returncode == 0
    assert "mounts" not in json.loads(done.stdout)["containerEdits"]
    assert f"no library of the driver {VERSION} is found under {tmp_path}" in done.stderr


def test_without_a_driver_it_says_what_to_do(tmp_path: Path) -> None:
    done = node_cdi(tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert "there is no libnvidia-ml.so.1 under the driver root" in done.stderr
    assert "--driver-root; of simulated GPUs there is no spec" in done.stderr
