"""The CDI spec of a node's GPUs: what stands behind a name such as nvidia.com/gpu=0.

It has no hooks: those would run as root on paths that an image controls.
Source: the CDI specification (https://github.com/cncf-tags/container-device-interface/blob/main/SPEC.md).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from gpuyard import errors
from gpuyard.atomic_files import replace_file
from gpuyard.devices.inventory import Device, DeviceNode, Inventory
from gpuyard.gpus.resources import GPU_RESOURCE
from gpuyard.kube.wellknown import ENV_SIMULATED

SPEC_FILE = "gpuyard-nvidia-gpu.json"
KIND = GPU_RESOURCE
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


def remove(folder: Path) -> None:
    """Takes the spec away. Containers that run keep their GPUs; none can be started with them any more."""
    (folder / SPEC_FILE).unlink(missing_ok=True)


def publish(folder: Path, inventory: Inventory) -> None:
    """Puts the spec of these GPUs into the folder, whole or not at all; takes it away when there are none.

    Raises:
        DeviceError: the folder can't be written.
    """
    path = folder / SPEC_FILE
    try:
        if not inventory.devices:
            remove(folder)
            return
        folder.mkdir(parents=True, exist_ok=True)
        # Runtimes read *.json and *.yaml: an unfinished file is neither.
        replace_file(path, f"{json.dumps(cdi_spec(inventory), indent=2)}\n".encode(), mode=0o644)
    except OSError as error:
        raise errors.DeviceError(
            f"can't write the CDI spec {path}: {error.strerror}",
            remedy="mend the folder's permissions, or name another with --cdi-dir",
        ) from error
