"""The AMD GPUs of a machine, read once from sysfs.

A GPU that is split is as many devices as it has partitions. A processor's own graphics are left out where
ROCm doesn't run on them: most desktops have some.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path

from gpuyard import errors
from gpuyard.devices.amd.kfd import XGMI, KfdGpu, read_topology
from gpuyard.devices.amd.products import find_family, find_product, is_integrated
from gpuyard.devices.inventory import (
    Absence,
    AmdTraits,
    Backend,
    Device,
    DeviceNode,
    Inventory,
    Link,
    PcieLevel,
)
from gpuyard.devices.sysfs import read_number, read_text
from gpuyard.gpus.catalogue import find_model
from gpuyard.kube.wellknown import AMD

_MIB = 1 << 20
_PCI = "bus/pci/devices"
_MODULE = "module/amdgpu"


def has_gpus(sys_root: Path) -> bool:
    """Whether the driver has some that ROCm runs on; it doesn't look at them."""
    topology = read_topology(sys_root)
    return topology is not None and any(not is_integrated(gpu.target) for gpu in topology.gpus)


def read_gpus(sys_root: Path, host_root: Path) -> Inventory:
    """Everything anew.

    Args:
        sys_root: where sysfs is mounted.
        host_root: where the node's own file system is seen.

    Raises:
        DeviceError: there are GPUs, and this process may read none of them.
    """
    topology = read_topology(sys_root)
    if topology is None:
        return Inventory(
            Backend.NONE,
            absence=Absence.NO_DRIVER,
            detail="AMD's driver isn't loaded, or without KFD; load it with: modprobe amdgpu",
        )
    if topology.refused and not topology.gpus:
        raise errors.DeviceError(
            f"the kernel hides {topology.refused} AMD GPUs from the agent: its device cgroup leaves them out",
            remedy="run the agent privileged: gpuyard install --driver-access privileged",
        )
    chosen = [gpu for gpu in topology.gpus if not is_integrated(gpu.target)]
    if not chosen:
        graphics = "".join(f" but {gpu.target}, which ROCm doesn't run on" for gpu in topology.gpus)
        return Inventory(
            Backend.NONE, absence=Absence.NO_GPUS, detail=f"AMD's driver is here and finds no GPU{graphics}"
        )
    uuids = list(_uuids(chosen))
    devices = tuple(
        _device(index, uuid, gpu, sys_root, host_root)
        for index, (uuid, gpu) in enumerate(zip(uuids, chosen, strict=True))
    )
    return Inventory(
        Backend.AMD,
        devices=devices,
        machine=read_text(sys_root / "class/dmi/id/product_name"),
        links=_links(chosen, devices, sys_root),
    )


def device_folder(sys_root: Path, render_minor: int) -> Path:
    """Where sysfs has what belongs to a render node: of the PCI device, or of a partition."""
    return sys_root / f"class/drm/renderD{render_minor}/device"


def board_folder(sys_root: Path, pci_bus_id: str) -> Path:
    """Where sysfs has what belongs to a whole board."""
    return sys_root / _PCI / pci_bus_id


def _uuids(gpus: Iterable[KfdGpu]) -> Iterator[str]:
    """ROCm's names of them, `GPU-` and 16 digits; of all but a GPU's first partition with a number behind.

    A GPU without a unique id is called by its place, which ROCm doesn't understand.
    """
    seen: dict[str, int] = {}
    for gpu in gpus:
        unique = gpu.get("unique_id")
        name = f"GPU-{unique:016x}" if unique else f"GPU-{gpu.pci_bus_id.replace(':', '-')}"
        number = seen[name] = seen.get(name, -1) + 1
        yield f"{name}.{number}" if number else name


def _device(index: int, uuid: str, gpu: KfdGpu, sys_root: Path, host_root: Path) -> Device:
    minor = gpu.get("drm_render_minor")
    folder, board = device_folder(sys_root, minor), board_folder(sys_root, gpu.pci_bus_id)
    device_id = f"{gpu.get('device_id'):04x}"
    revision = read_text(board / "revision").removeprefix("0x")
    product = read_text(board / "product_name") or find_product(device_id, revision)
    model = find_model(product)
    memory_bytes = gpu.memory_bytes or read_number(board / "mem_info_vram_total") or 0
    numa_node = read_number(board / "numa_node")
    return Device(
        index=index,
        uuid=uuid,
        product=product,
        model=model.name if model else "",
        memory_mib=memory_bytes // _MIB,
        compute_capability=(0, 0),
        pci_bus_id=gpu.pci_bus_id,
        numa_node=numa_node if numa_node is not None and numa_node >= 0 else None,
        minor=minor,
        nodes=tuple(_nodes(folder, minor, host_root)),
        vendor=AMD,
        pci_class=read_text(board / "class"),
        amd=AmdTraits(
            device_id=device_id,
            family=find_family(gpu.target),
            compute_units=gpu.get("simd_count") // gpu.get("simd_per_cu") if gpu.get("simd_per_cu") else 0,
            simds=gpu.get("simd_count"),
            partition="_".join(
                read_text(board / f"current_{what}_partition").lower() for what in ("compute", "memory")
            ).strip("_"),
            can_split_compute=(board / "available_compute_partition").exists(),
            can_split_memory=(board / "available_memory_partition").exists(),
            driver_version=read_text(sys_root / _MODULE / "version"),
            driver_src_version=read_text(sys_root / _MODULE / "srcversion"),
        ),
    )


def _nodes(folder: Path, minor: int, host_root: Path) -> Iterator[DeviceNode]:
    """Those that programs of ROCm open; a runtime refuses one that isn't there, so it isn't asked for."""
    try:
        cards = sorted(path.name for path in (folder / "drm").iterdir() if path.name.startswith("card"))
    except OSError:
        cards = []
    for name in ("kfd", *(f"dri/{name}" for name in (*cards, f"renderD{minor}"))):
        if (host_root / "dev" / name).exists():
            yield DeviceNode(f"/dev/{name}", f"/dev/{name}")


def _links(
    gpus: Sequence[KfdGpu], devices: Sequence[Device], sys_root: Path
) -> Mapping[tuple[str, str], Link]:
    widths = {(gpu.node, link.to): link.width for gpu in gpus for link in gpu.links if link.type == XGMI}
    paths = [_pci_path(sys_root, device.pci_bus_id) for device in devices]
    links = {}
    for one, other in combinations(range(len(devices)), 2):
        first, second = gpus[one].node, gpus[other].node
        same_board = devices[one].pci_bus_id == devices[other].pci_bus_id
        links[devices[one].uuid, devices[other].uuid] = Link(
            PcieLevel.SAME_BOARD
            if same_board
            else _pcie_level(paths[one], paths[other], devices[one], devices[other]),
            widths.get((first, second)) or widths.get((second, first)) or 0,
        )
    return links


def _pci_path(sys_root: Path, pci_bus_id: str) -> tuple[str, ...]:
    """From the host bridge down to the GPU: `pci0000:00`, `0000:00:01.1`, …; empty when it isn't known."""
    parts = Path(os.path.realpath(board_folder(sys_root, pci_bus_id))).parts
    roots = [place for place, part in enumerate(parts) if part.startswith("pci") and ":" in part]
    return parts[roots[-1] :] if roots else ()


def _pcie_level(one: Sequence[str], other: Sequence[str], first: Device, second: Device) -> PcieLevel:
    shared = next((at for at, pair in enumerate(zip(one, other, strict=False)) if len(set(pair)) > 1), 0)
    if shared > 1:
        # Below the last bridge that they share each has a port of it of its own, and the GPU.
        near = len(one) - shared <= 2 and len(other) - shared <= 2
        return PcieLevel.ONE_SWITCH if near else PcieLevel.SEVERAL_SWITCHES
    if shared == 1:
        return PcieLevel.HOST_BRIDGE
    if first.numa_node is None or second.numa_node is None:
        return PcieLevel.UNKNOWN
    return PcieLevel.SAME_CPU if first.numa_node == second.numa_node else PcieLevel.DIFFERENT_CPU
