"""A driver from NVML through kubelet and containerd: a container loads its libraries by their SONAMEs."""

from __future__ import annotations

from pathlib import Path

from tests.cluster.harness.agent import Agent, allocatable
from tests.cluster.harness.cluster import Cluster
from tests.cluster.harness.images import layer, push
from tests.cluster.harness.objects import GPU, Pods, wait_for_gpus
from tests.fake_driver import VERSION, glibc_image, install_with_nvml
from tests.waiting import until

NODE = "node-a"
COUNT = 4
NAMES = ("libcuda.so.1", "libcuda.so", f"libnvidia-gpucomp.so.{VERSION}")


def test_a_container_loads_the_driver_by_its_sonames(cluster: Cluster, pods: Pods, tmp_path: Path) -> None:
    made = tmp_path / "image"
    made.mkdir()
    image = push(cluster.registry, "load", layer(*glibc_image(made)), ["/load", *NAMES])
    containers = [
        {"name": "main", "image": image, "resources": {"limits": {GPU: COUNT}}},
        {"name": "without", "image": image},
    ]
    until(lambda: not allocatable(cluster.nodes[NODE]), "the kubelet has let go of the last plugin")
    agent = Agent(cluster, NODE, tmp_path, driver_root=install_with_nvml(tmp_path / "root"))
    agent.start()
    try:
        until(lambda: len(allocatable(cluster.nodes[NODE])) == COUNT, "the plugin is registered")
        wait_for_gpus(cluster, NODE, COUNT, COUNT)
        pods.create_spec("load", node=NODE, restartPolicy="Never", containers=containers)
        pods.wait_phase("load", "Succeeded")
        assert pods.kubectl("logs", "load", "-c=main").splitlines() == [f"{name} says 42" for name in NAMES]
        assert pods.kubectl("logs", "load", "-c=without").splitlines()[0] == "libcuda.so.1 says 7"
    finally:
        agent.stop()
