"""GPUs that are shared by MPS on a real Kubernetes, by a small driver of the test's own.

Its daemon notes what it is told: that clients are kept to their limits takes NVIDIA's.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.gpuyard_on import Gpuyard
from tests.cluster.harness.cluster import Cluster
from tests.cluster.harness.objects import Pods, wait_for_gpus
from tests.cluster.installed.conftest import GPUS, OPTIONS
from tests.fake_driver import install_with_nvml
from tests.waiting import until

NODE = "node-a"
SHARED = "nvidia.com/gpu.shared"
CONFIG = """
version: v1
sharing:
  mps:
    renameByDefault: true
    resources:
    - {name: nvidia.com/gpu, replicas: 2, devices: [0]}
"""
#: In the foreground it serves until it is told to quit; without options it passes its input on.
CONTROL = """#!/bin/sh
control=$CUDA_MPS_PIPE_DIRECTORY/control
case $1 in
-f)
  ls "$LD_LIBRARY_PATH" >"$CUDA_MPS_PIPE_DIRECTORY/libraries"
  echo here >/dev/shm/from-the-daemon
  : >"$control"
  until grep -q quit "$control"; do sleep 0.1; done
  rm "$control" ;;
*) [ -e "$control" ] && cat >>"$control" ;;
esac
"""
SMI = """#!/bin/sh
echo "$2" >>/run/gpuyard-mps/modes
"""


@pytest.fixture
def driver(cluster: Cluster) -> Iterator[Path]:
    """Of the node, where the GPU operator installs one; gives what is the node's /run."""
    run = cluster.nodes[NODE].folder / "run"
    root = run / "nvidia/driver"
    root.mkdir(parents=True)
    try:
        install_with_nvml(root)
        for name, text in (("nvidia-cuda-mps-control", CONTROL), ("nvidia-smi", SMI)):
            (root / "usr/bin" / name).write_text(text)
            (root / "usr/bin" / name).chmod(0o755)
        yield run
    finally:
        shutil.rmtree(run / "nvidia")
        shutil.rmtree(run / "gpuyard-mps", ignore_errors=True)
        shutil.rmtree("/dev/shm/gpuyard-mps", ignore_errors=True)


@pytest.fixture
def shared(gpuyard: Gpuyard, driver: Path, tmp_path: Path) -> Iterator[Path]:
    """The node's first GPU is shared by MPS; gives what is the node's /run."""
    image = f"--image={gpuyard.json('status')['image']}"
    (tmp_path / "gpus.yaml").write_text(CONFIG)
    selected = f"--node-selector=kubernetes.io/hostname={NODE}"
    real = ("--driver-access=privileged", f"--gpu-config={tmp_path}/gpus.yaml")
    try:
        gpuyard.ok("install", image, selected, *real)
        yield driver
    finally:
        gpuyard.ok("install", image, *OPTIONS)
        for node in gpuyard.cluster.nodes:
            wait_for_gpus(gpuyard.cluster, node, GPUS, GPUS)


def test_clients_meet_the_daemon_of_their_gpu(shared: Path, gpuyard: Gpuyard, pods: Pods) -> None:
    allocatable = f"-o=jsonpath={{.status.allocatable.{SHARED.replace('.', chr(92) + '.')}}}"
    until(lambda: gpuyard.cluster.kubectl("get", "node", NODE, allocatable) == "2", "two can share a GPU")
    wait = "trap 'exit 0' TERM; while :; do sleep 3600 & wait $!; done"
    main = {
        "name": "main",
        "image": f"{gpuyard.cluster.registry}/busybox:1",
        "command": ["/bin/sh", "-c", wait],
        "resources": {"limits": {SHARED: 1}},
        "securityContext": {"runAsUser": 4711},
    }
    for name in ("one", "two"):
        pods.create_spec(name, node=NODE, containers=[main])
        pods.wait_running(name)
    pipes = pods.exec("one", "echo $CUDA_MPS_PIPE_DIRECTORY").strip()
    assert pipes.startswith("/run/gpuyard-mps/GPU-")
    here = shared / Path(pipes).relative_to("/run")
    told = pods.exec("two", f"cat {pipes}/control")
    assert "set_default_active_thread_percentage 50" in told and told == (here / "control").read_text()
    libraries = (here / "libraries").read_text().split()
    assert "libcuda.so.1" in libraries and not [name for name in libraries if name.startswith("libc.")]
    # They share memory with the daemon and one another, and see none of the node's.
    pods.exec("one", "echo of one >/dev/shm/seen")
    assert pods.exec("two", "cat /dev/shm/seen") == "of one\n"
    assert pods.exec("two", "ls /dev/shm").split() == ["from-the-daemon", "seen"]
    modes = shared / "gpuyard-mps/modes"
    assert modes.read_text() == "--compute-mode=EXCLUSIVE_PROCESS\n"
    agent = ("daemonset/gpuyard-agent", "--namespace=gpuyard-system")
    gpuyard.cluster.kubectl("delete", *agent, "--cascade=foreground")
    assert modes.read_text().splitlines()[1:] == ["--compute-mode=DEFAULT"]
    assert not (here / "control").exists()
