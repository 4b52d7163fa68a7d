"""Values that describe the GPUs of one node at one moment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import IntEnum, StrEnum


class Backend(StrEnum):
    """Where an inventory comes from."""

    NVML = "nvml"
    SIMULATED = "simulated"
    NONE = "none"


class Absence(StrEnum):
    """Why a node has no GPUs that can be used."""

    NO_LIBRARY = "NoLibrary"
    NO_DRIVER = "NoDriver"
    NO_GPUS = "NoGpus"
    FAILED = "Failed"


class PcieLevel(IntEnum):
    """How near two GPUs are on PCIe; the numbers are those NVIDIA's device plugin scores with."""

    UNKNOWN = 0
    DIFFERENT_CPU = 10
    SAME_CPU = 20
    HOST_BRIDGE = 30
    SEVERAL_SWITCHES = 40
    ONE_SWITCH = 50
    SAME_BOARD = 60


@dataclass(frozen=True)
class Link:
    """What joins two GPUs: their PCIe neighbourhood and the NVLinks between them (through a switch, too)."""

    pcie: PcieLevel = PcieLevel.UNKNOWN
    nvlinks: int = 0


@dataclass(frozen=True)
class DeviceNode:
    """A character device: its path inside a container and the host's path that it stands for."""

    path: str
    host_path: str


@dataclass(frozen=True)
class Gpu:
    """One whole GPU.

    Attributes:
        index: its place in the driver's enumeration.
        uuid: the driver's stable id, `GPU-…`.
        product: the driver's name of it, e.g. `NVIDIA H100 80GB HBM3`.
        model: the catalogue's name, e.g. `H100`; empty when the catalogue doesn't know the product.
        memory_mib: total frame buffer.
        compute_capability: e.g. (9, 0); (0, 0) when the driver doesn't say.
        pci_bus_id: as in sysfs, e.g. `0000:3b:00.0`.
        numa_node: None when the machine has no such notion.
        minor: N of /dev/nvidiaN.
        nodes: the device nodes that are this GPU's own.
        healthy: False once it stopped answering or reported a fault that isn't the application's.
    """

    index: int
    uuid: str
    product: str
    model: str
    memory_mib: int
    compute_capability: tuple[int, int]
    pci_bus_id: str
    numa_node: int | None
    minor: int
    nodes: tuple[DeviceNode, ...]
    healthy: bool = True


@dataclass(frozen=True)
class Inventory:
    """All GPUs of a node.

    Attributes:
        backend: `simulated` marks everything that is derived from it.
        absence: why there are no GPUs; None when there are some.
        detail: the same for people, with the remedy.
        driver_version: e.g. `550.107.02`; empty without a driver.
        cuda_version: the newest CUDA the driver runs, (major, minor).
        gpus: in the order of their index.
        links: by pair of UUIDs in the order of `gpus`.
        common_nodes: device nodes that every process with a GPU needs.
    """

    backend: Backend
    absence: Absence | None = None
    detail: str = ""
    driver_version: str = ""
    cuda_version: tuple[int, int] = (0, 0)
    gpus: tuple[Gpu, ...] = ()
    links: Mapping[tuple[str, str], Link] = field(default_factory=dict)
    common_nodes: tuple[DeviceNode, ...] = ()

    @property
    def simulated(self) -> bool:
        """Whether the GPUs are make-believe."""
        return self.backend is Backend.SIMULATED

    def link(self, one: str, other: str) -> Link:
        """What joins two GPUs, named by UUID in either order."""
        return self.links.get((one, other)) or self.links.get((other, one)) or Link()

    def with_unhealthy(self, uuids: frozenset[str]) -> Inventory:
        """The same GPUs, of which exactly these are unhealthy."""
        gpus = tuple(replace(gpu, healthy=gpu.uuid not in uuids) for gpu in self.gpus)
        return replace(self, gpus=gpus)
