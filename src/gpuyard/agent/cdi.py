"""The CDI spec of a node's GPUs (pure): what stands behind a name such as gpuyard.io/gpu=0.

It has no hooks: those would run as root on paths that an image controls. The driver's libraries are mounted
where every loader looks, so that nothing has to be made ready inside (docs/adr/0037).
Source: the CDI specification (https://github.com/cncf-tags/container-device-interface/blob/main/SPEC.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from gpuyard.devices.inventory import Device, DeviceNode, Inventory
from gpuyard.devices.nvml.driver_files import LIB64, DriverFile
from gpuyard.gpus.cdi import KIND
from gpuyard.kube.wellknown import ENV_SIMULATED, NVIDIA

#: The first version with hostPath, and with device names that begin with a digit.
_VERSION = "0.5.0"
_OPTIONS = ("ro", "nosuid", "nodev", "rbind", "rprivate")
#: Triton asks `ldconfig -p` for the driver, which lists only what was there when the image was made.
#: Source: triton-lang/triton third_party/nvidia/backend/driver.py (`libcuda_dirs`).
_TRITON = "TRITON_LIBCUDA_PATH"


def qualified_name(uuid: str) -> str:
    """What a container runtime is asked for."""
    return f"{KIND}={uuid}"


def cdi_spec(inventory: Inventory, driver: Sequence[DriverFile] = ()) -> dict[str, Any]:
    """The spec: each GPU by its index and by its UUID, and `all` of them; each with what it needs.

    NVIDIA's GPUs come with the files of their driver. A part of a GPU is called `0:1`, by the indexes of
    both, and by its UUID. A GPU that is split has no index among the names; its UUID stands for it with all
    of its parts.
    """
    devices = []
    # "void" tells NVIDIA's own runtime, where it is installed, to add nothing to what CDI gives.
    env = ["NVIDIA_VISIBLE_DEVICES=void", *([f"{ENV_SIMULATED}=1"] if inventory.simulated else [])]
    common: dict[str, Any] = {"env": env}
    if inventory.common_nodes:
        common["deviceNodes"] = _nodes(inventory.common_nodes)
    # Of a node with other vendors' GPUs, too, only NVIDIA's come with the driver of theirs.
    is_everybodys = all(gpu.vendor == NVIDIA for gpu in inventory.devices)
    own = {} if is_everybodys else _driver_edits(driver)
    if is_everybodys:
        files = _driver_edits(driver)
        common |= {**files, "env": [*env, *files.get("env", ())]}
    # A runtime takes no spec that has a device without edits. WSL's GPUs have no nodes but the common one.
    given = {names: (gpu, nodes) for gpu, names, nodes in _devices(inventory) if nodes}
    for names, (gpu, nodes) in given.items():
        edits = {"deviceNodes": _nodes(nodes), **(own if gpu.vendor == NVIDIA else {})}
        devices += [{"name": name, "containerEdits": edits} for name in names]
    if given:
        everything = _nodes(dict.fromkeys(node for _, nodes in given.values() for node in nodes))
        devices.append({"name": "all", "containerEdits": {"deviceNodes": everything, **own}})
    return {"cdiVersion": _VERSION, "kind": KIND, "devices": devices, "containerEdits": common}


def _driver_edits(driver: Sequence[DriverFile]) -> dict[str, Any]:
    """What the files of a driver of NVIDIA's are to a container."""
    has_cuda = any(file.container_path == f"{LIB64}/libcuda.so.1" for file in driver)
    return {
        **({"env": [f"{_TRITON}={LIB64}"]} if has_cuda else {}),
        **({"mounts": [_mount(file) for file in driver]} if driver else {}),
    }


def _devices(inventory: Inventory) -> Iterator[tuple[Device, tuple[str, ...], tuple[DeviceNode, ...]]]:
    """Names and nodes of everything that a container can get, with the GPU that it is of."""
    for gpu in inventory.devices:
        nodes = gpu.nodes or inventory.common_nodes
        if gpu.mig is None or not gpu.mig.enabled:
            yield gpu, (str(gpu.index), gpu.uuid), nodes
            continue
        for part in gpu.mig.instances:
            yield gpu, (f"{gpu.index}:{part.index}", part.uuid), nodes + part.nodes
        caps = dict.fromkeys(node for part in gpu.mig.instances for node in part.nodes)
        yield gpu, (gpu.uuid,), (*nodes, *caps)


def _nodes(nodes: Iterable[DeviceNode]) -> list[dict[str, str]]:
    return [{"path": node.path, "hostPath": node.host_path, "permissions": "rw"} for node in nodes]


def _mount(file: DriverFile) -> dict[str, Any]:
    options = [*_OPTIONS, *(["noexec"] if file.is_socket else [])]
    return {"hostPath": file.host_path, "containerPath": file.container_path, "options": options}
