"""The topology that AMD's kernel driver for computing (KFD) shows: GPUs, and the links between them.

A split GPU (MI300X in CPX mode) is several nodes with one unique id and render nodes of their own.
Sources: Linux drivers/gpu/drm/amd/amdkfd/kfd_topology.c, include/uapi/linux/kfd_sysfs.h.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from gpuyard.devices.sysfs import read_number

#: Types of links (CRAT_IOLINK_TYPE_…).
XGMI = 11
#: heap_type of memory that is the GPU's own (HSA_MEM_HEAP_TYPE_FB_…): public, private.
_OWN_MEMORY = {1, 2}
_TOPOLOGY = "class/kfd/kfd/topology/nodes"


@dataclass(frozen=True)
class KfdLink:
    """A link to another node: its type, and how many lanes of that type are bundled."""

    to: int
    type: int
    width: int


@dataclass(frozen=True)
class KfdGpu:
    """One GPU, or one partition of one.

    Attributes:
        node: number in the topology.
        properties: as the driver names them.
        memory_bytes: of its own; 0 when the driver doesn't say.
        links: from it to others.
    """

    node: int
    properties: Mapping[str, int]
    memory_bytes: int
    links: tuple[KfdLink, ...]

    def get(self, name: str) -> int:
        """A property; 0 when it isn't there."""
        return self.properties.get(name, 0)

    @property
    def pci_bus_id(self) -> str:
        """As in sysfs: `0000:0c:00.0`."""
        place = self.get("location_id")
        domain = self.get("domain") & 0xFFFF
        return f"{domain:04x}:{place >> 8 & 0xFF:02x}:{place >> 3 & 0x1F:02x}.{place & 0x7}"

    @property
    def target(self) -> str:
        """The name of what compilers build for: 90402 is `gfx942`; empty when it isn't known."""
        version = self.get("gfx_target_version")
        return f"gfx{version // 10000}{version // 100 % 100:x}{version % 100:x}" if version else ""


@dataclass(frozen=True)
class KfdTopology:
    """Of one machine.

    Attributes:
        gpus: in the driver's order.
        refused: how many nodes the kernel didn't let this process read: those whose GPU its device cgroup
            leaves out.
    """

    gpus: tuple[KfdGpu, ...]
    refused: int = 0


def read_topology(sys_root: Path) -> KfdTopology | None:
    """The topology; None when the driver isn't loaded."""
    try:
        names = [path.name for path in (sys_root / _TOPOLOGY).iterdir()]
    except OSError:
        return None
    gpus, refused = [], 0
    for number in sorted(int(name) for name in names if name.isdecimal()):
        folder = sys_root / _TOPOLOGY / str(number)
        try:
            properties = read_properties(folder / "properties")
        except PermissionError:
            refused += 1
            continue
        except OSError:
            continue  # It went away meanwhile.
        # A processor without graphics has no SIMDs, and what can't be rendered on can't be given away.
        if properties.get("simd_count") and properties.get("drm_render_minor"):
            gpus.append(KfdGpu(number, properties, _memory(folder), tuple(_links(folder))))
    return KfdTopology(tuple(gpus), refused)


def gpu_ids(sys_root: Path) -> Mapping[int, int]:
    """The driver's own id of each GPU, by the number of its render node."""
    topology = read_topology(sys_root)
    found = {}
    for gpu in topology.gpus if topology else ():
        gpu_id = read_number(sys_root / _TOPOLOGY / str(gpu.node) / "gpu_id")
        if gpu_id is not None:
            found[gpu.get("drm_render_minor")] = gpu_id
    return found


def read_properties(path: Path) -> dict[str, int]:
    """Lines such as `simd_count 1216`; what is no number is left out.

    Raises:
        OSError: it can't be read.
    """
    pairs = (line.split() for line in path.read_text("ascii", "replace").splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdecimal()}


def _memory(folder: Path) -> int:
    banks = _read_each(folder / "mem_banks")
    return sum(bank.get("size_in_bytes", 0) for bank in banks if bank.get("heap_type") in _OWN_MEMORY)


def _links(folder: Path) -> Iterator[KfdLink]:
    for kind in ("io_links", "p2p_links"):
        for link in _read_each(folder / kind):
            if "node_to" in link:
                one, all_lanes = link.get("min_bandwidth", 0), link.get("max_bandwidth", 0)
                width = all_lanes // one if one and link.get("type") == XGMI else 1
                yield KfdLink(link["node_to"], link.get("type", 0), max(width, 1))


def _read_each(folder: Path) -> Iterator[dict[str, int]]:
    try:
        names = sorted((path.name for path in folder.iterdir()), key=lambda name: (len(name), name))
    except OSError:
        return
    for name in names:
        with suppress(OSError):  # It went away meanwhile.
            yield read_properties(folder / name / "properties")
