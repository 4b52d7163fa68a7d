"""The CDI spec of a node's GPUs (pure): what stands behind a name such as gpuyard.io/gpu=0.

It has no hooks: those would run as root on paths that an image controls.
Source: the CDI specification (https://github.com/cncf-tags/container-device-interface/blob/main/SPEC.md).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from gpuyard.devices.inventory import Device, DeviceNode, Inventory
from gpuyard.gpus.cdi import KIND
from gpuyard.kube.wellknown import ENV_SIMULATED

#: The first version with hostPath, and with device names that begin with a digit.
_VERSION = "0.5.0"


def qualified_name(gpu: Device) -> str:
    """What a container runtime is asked for."""
    return f"{KIND}={gpu.uuid}"


def cdi_spec(inventory: Inventory) -> dict[str, Any]:
    """The spec: each GPU by its index and by its UUID, and `all` of them."""
    devices = []
    for gpu in inventory.devices:
        edits = {"deviceNodes": _nodes(gpu.nodes)}
        devices += [{"name": name, "containerEdits": edits} for name in (str(gpu.index), gpu.uuid)]
    everything = _nodes(node for gpu in inventory.devices for node in gpu.nodes)
    devices.append({"name": "all", "containerEdits": {"deviceNodes": everything}})
    # "void" tells NVIDIA's own runtime, where it is installed, to add nothing to what CDI gives.
    env = ["NVIDIA_VISIBLE_DEVICES=void", *([f"{ENV_SIMULATED}=1"] if inventory.simulated else [])]
    common = {
        "env": env,
        **({"deviceNodes": _nodes(inventory.common_nodes)} if inventory.common_nodes else {}),
    }
    return {"cdiVersion": _VERSION, "kind": KIND, "devices": devices, "containerEdits": common}


def _nodes(nodes: Iterable[DeviceNode]) -> list[dict[str, str]]:
    return [{"path": node.path, "hostPath": node.host_path, "permissions": "rw"} for node in nodes]
