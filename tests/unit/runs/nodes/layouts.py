"""Nodes, pods and what agents say, for tests of what is read of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: As an agent with two GPUs serves them: the first has a run, the second is split and one part has a pod.
METRICS = """\
# HELP DCGM_FI_DEV_GPU_UTIL GPU utilization (in %).
# TYPE DCGM_FI_DEV_GPU_UTIL gauge
DCGM_FI_DEV_GPU_UTIL{gpu="0",UUID="GPU-a",pci_bus_id="0000:10:00.0",modelName="H100",namespace="default",pod="train-x1",container="main"} 97
DCGM_FI_DEV_FB_USED{gpu="0",UUID="GPU-a",namespace="default",pod="train-x1",container="main"} 70000
DCGM_FI_DEV_FB_FREE{gpu="0",UUID="GPU-a",namespace="default",pod="train-x1",container="main"} 11000
DCGM_FI_DEV_FB_RESERVED{gpu="0",UUID="GPU-a",namespace="default",pod="train-x1",container="main"} 559
DCGM_FI_DEV_POWER_USAGE{gpu="0",UUID="GPU-a",namespace="default",pod="train-x1",container="main"} 640.5
DCGM_FI_DEV_GPU_TEMP{gpu="0",UUID="GPU-a",namespace="default",pod="train-x1",container="main"} 65
DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION{gpu="0",UUID="GPU-a"} 7200000
DCGM_FI_DEV_GPU_TEMP{gpu="1",UUID="GPU-b"} 30
DCGM_FI_DEV_FB_USED{gpu="1",UUID="GPU-b",GPU_I_ID="2",GPU_I_PROFILE="3g.40gb",namespace="team",pod="web"} 1024
DCGM_FI_DEV_FB_USED{gpu="1",UUID="GPU-b",GPU_I_ID="1",GPU_I_PROFILE="3g.40gb"} 0
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
