"""What a container is given with its devices: environment, device nodes, mounts, CDI names (pure).

Source: NVIDIA/k8s-device-plugin internal/plugin/server.go, whose DEVICE_LIST_STRATEGY has these names.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import PurePosixPath

from gpuyard._proto import device_plugin_pb2 as pb
from gpuyard.agent.cdi import qualified_name
from gpuyard.agent.options.device_lists import PLAIN, DeviceList, Handover
from gpuyard.agent.plugin.mps import SHARED_MEMORY, MpsFolders
from gpuyard.agent.served import ServedDevice
from gpuyard.devices.inventory import Inventory
from gpuyard.kube.wellknown import AMD, ENV_SHARES, ENV_SIMULATED, NVIDIA

#: Where NVIDIA's runtime looks for mounts that name devices.
_MOUNTED = PurePosixPath("/var/run/nvidia-container-devices")
_CDI_ANNOTATION = "cdi.k8s.io/gpuyard"
#: What ROCm understands: a GPU's unique id, which not every one has, and a part of one hasn't.
_ROCM_NAME = re.compile(r"GPU-[0-9a-f]{16}")


def hand_over(
    inventory: Inventory,
    devices: Iterable[ServedDevice],
    handover: Handover = PLAIN,
    *,
    mps: MpsFolders | None = None,
) -> pb.ContainerAllocateResponse:
    """What a container needs to use these devices and no others.

    Args:
        inventory: of this node.
        devices: what it was given of them.
        handover: how they are named.
        mps: of the daemon that it is a client of.
    """
    # In the driver's order, so that a process sees its GPUs as nvidia-smi lists them.
    ordered = sorted(devices, key=lambda device: device.order)
    # NVIDIA's runtime and CUDA know none of others' GPUs, and fail when they are told of one.
    names = {
        device.uuid: _index(device) if handover.by_index else device.uuid
        for device in ordered
        if device.gpu.vendor == NVIDIA
    }
    lists = handover.lists
    envs = _variables(names, lists) if names else {}
    envs |= _rocm_variables([device.uuid for device in ordered if device.gpu.vendor == AMD])
    if inventory.simulated:
        envs[ENV_SIMULATED] = "1"
    if shares := [device.id for device in ordered if device.replica is not None]:
        # What tells apart on a GPU whose process is whose.
        envs[ENV_SHARES] = ",".join(shares)
    if mps:
        envs["CUDA_MPS_PIPE_DIRECTORY"] = str(mps.pipes)
    qualified = [qualified_name(one) for one in dict.fromkeys(device.uuid for device in ordered)]
    return pb.ContainerAllocateResponse(
        envs=envs,
        devices=_nodes(inventory, ordered) if DeviceList.DEVICE_SPECS in lists else [],
        mounts=[
            pb.Mount(host_path="/dev/null", container_path=str(_MOUNTED / name), read_only=True)
            for name in names.values()
            if DeviceList.VOLUME_MOUNTS in lists
        ]
        # Its clients meet the daemon in shared memory, too.
        + (_mps_mounts(mps) if mps else []),
        cdi_devices=[pb.CDIDevice(name=one) for one in qualified if DeviceList.CDI_CRI in lists],
        # A key of its own for each container's call: the kubelet joins those of several resources.
        annotations={f"{_CDI_ANNOTATION}_{uuid.uuid4()}": ",".join(qualified)}
        if DeviceList.CDI_ANNOTATIONS in lists
        else {},
    )


def _variables(names: Mapping[str, str], lists: Collection[DeviceList]) -> dict[str, str]:
    # CUDA has no names of indexes that a container's own numbers wouldn't be taken for.
    envs = {"CUDA_VISIBLE_DEVICES": ",".join(names)}
    if DeviceList.VOLUME_MOUNTS in lists:
        envs["NVIDIA_VISIBLE_DEVICES"] = str(_MOUNTED)
    elif DeviceList.ENVVAR in lists:
        envs["NVIDIA_VISIBLE_DEVICES"] = ",".join(names.values())
    return envs


def _rocm_variables(uuids: Sequence[str]) -> dict[str, str]:
    """ROCR_VISIBLE_DEVICES chooses by UUID where ROCm knows these; HIP's indexes count among the chosen.

    HIP would take CUDA_VISIBLE_DEVICES for its own where HIP_VISIBLE_DEVICES isn't set. Without UUIDs the
    device nodes alone decide. Sources: ROCm's "GPU isolation techniques"; ROCm/clr rocclr
    device/rocm/rocdevice.cpp; pytorch torch/cuda/__init__.py (`_parse_visible_devices`).
    """
    if not uuids:
        return {}
    chosen = {"ROCR_VISIBLE_DEVICES": ",".join(uuids)} if all(map(_ROCM_NAME.fullmatch, uuids)) else {}
    return {**chosen, "HIP_VISIBLE_DEVICES": ",".join(map(str, range(len(uuids))))}


def _mps_mounts(mps: MpsFolders) -> list[pb.Mount]:
    folders = ((mps.pipes, mps.pipes), (mps.shared_memory, SHARED_MEMORY))
    return [pb.Mount(host_path=str(here), container_path=str(there)) for here, there in folders]


def _nodes(inventory: Inventory, devices: Sequence[ServedDevice]) -> list[pb.DeviceSpec]:
    nodes = dict.fromkeys((*inventory.common_nodes, *(node for each in devices for node in each.nodes)))
    return [
        pb.DeviceSpec(container_path=node.path, host_path=node.host_path, permissions="rw") for node in nodes
    ]


def _index(device: ServedDevice) -> str:
    """As NVIDIA's runtime has them: `3`, `3:1` for a MIG instance."""
    gpu = str(device.gpu.index)
    return f"{gpu}:{device.instance.index}" if device.instance else gpu
