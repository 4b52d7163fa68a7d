"""Nodes, pods and what agents say, for tests of what is read of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: As an agent serves them whose first GPU has a run, and whose second is split: one part of it has a pod.
METRICS = """\
# HELP DCGM_FI_DEV_GPU_UTIL Part of the time in which a kernel ran (%).
# TYPE DCGM_FI_DEV_GPU_UTIL gauge
DCGM_FI_DEV_GPU_UTIL{gpu="0",UUID="GPU-a",pci_bus_id="00000000:10:00.0",modelName="NVIDIA H100",pod="train-0-x"} 97
DCGM_FI_DEV_FB_USED{gpu="0",UUID="GPU-a",namespace="default",pod="train-0-x",scope="pod"} 70000
DCGM_FI_DEV_POWER_USAGE{gpu="0",UUID="GPU-a",namespace="default",pod="train-0-x",scope="pod"} 640.5
DCGM_FI_DEV_GPU_TEMP{gpu="0",UUID="GPU-a",namespace="default",pod="train-0-x",scope="pod"} 65
DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION{gpu="0",UUID="GPU-a"} 7200000
DCGM_FI_DEV_GPU_TEMP{gpu="1",UUID="GPU-b",scope="gpu"} 30
DCGM_FI_DEV_FB_USED{gpu="1",UUID="GPU-b",GPU_I_ID="2",GPU_I_PROFILE="3g.40gb",namespace="team",pod="web"} 1024
DCGM_FI_DEV_FB_USED{gpu="1",UUID="GPU-b",GPU_I_ID="1",GPU_I_PROFILE="3g.40gb",scope="instance"} 0
gpuyard_gpu_info{gpu="0",UUID="GPU-a",model="H100",memory_mib="81559",numa_node="0",mig="disabled",simulated="true"} 1
gpuyard_gpu_info{gpu="1",UUID="GPU-b",model="H100",memory_mib="81559",numa_node="1",mig="enabled",simulated="true"} 1
gpuyard_gpu_nvlinks{gpu="0",UUID="GPU-a",peer="GPU-b",pcie="host-bridge"} 18
gpuyard_mig_instance_info{gpu="1",UUID="GPU-b",instance="MIG-b1",index="0",GPU_I_ID="1",GPU_I_PROFILE="3g.40gb",start="0",size="4",memory_mib="40448"} 1
gpuyard_allocation{gpu="0",UUID="GPU-a",namespace="default",pod="train-0-x",container="main",scope="pod"} 1
gpuyard_allocation{gpu="1",UUID="GPU-b",GPU_I_ID="2",namespace="team",pod="web",container="main",scope="pod"} 1
gpuyard_gpu_fault_since_seconds{gpu="1",UUID="GPU-b",reason="XID 79"} 1.7e9
gpuyard_agent_info{version="1",backend="simulated"} 1
"""  # noqa: E501


def node(name: str, labels: Mapping[str, str] | None = None, *, gpus: int = 2) -> dict[str, Any]:
    """A GPU node that is ready."""
    conditions = [{"type": "Ready", "status": "True"}]
    capacity = {"nvidia.com/gpu": str(gpus)} if gpus else {}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": dict(labels or {})},
        "status": {"conditions": conditions, "capacity": capacity, "allocatable": capacity},
    }


def pod(
    name: str,
    node_name: str,
    labels: Mapping[str, str] | None = None,
    *,
    namespace: str = "default",
    gpus: int = 1,
) -> dict[str, Any]:
    """A pod with GPUs that is bound."""
    container = {"name": "main", "image": "i", "resources": {"limits": {"nvidia.com/gpu": str(gpus)}}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": dict(labels or {})},
        "spec": {"nodeName": node_name, "containers": [container]},
    }
