"""Values that describe the GPUs of one node at one moment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import IntEnum, StrEnum

from gpuyard.gpus.mig_profiles import MigEngines
from gpuyard.gpus.occupants import Occupant
from gpuyard.kube.wellknown import NVIDIA


class Backend(StrEnum):
    """Where an inventory comes from."""

    NVML = "nvml"
    AMD = "amd"
    SIMULATED = "simulated"
    OTHER = "other"
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
class Health:
    """Whether a device can be used.

    Attributes:
        reason: why it can't, see `gpus.faults`; empty for a healthy one.
        since: when that began, in UTC; None for a healthy one.
    """

    reason: str = ""
    since: datetime | None = None

    @property
    def ok(self) -> bool:
        """Whether it can be used."""
        return not self.reason


HEALTHY = Health()


@dataclass(frozen=True)
class MigInstance:
    """A part of a GPU that one container gets: a compute instance of one of its GPU instances.

    Attributes:
        index: its place among those of its GPU, as the driver counts them.
        uuid: the driver's id, `MIG-…`.
        profile: NVIDIA's name, e.g. `1g.10gb`, `1g.10gb+me`; `1c.3g.40gb` has not all of its GPU instance.
        gi_id, ci_id: the driver's numbers of the GPU instance, and of the compute instance in it.
        start, size: which of the GPU's memory slices the GPU instance has; -1 and 0 where the driver
            doesn't say, as to others than root.
        gi_slices, ci_slices: compute slices of the GPU instance and of the compute instance.
        memory_mib: of the GPU instance, which all of its compute instances share.
        multiprocessors: of the compute instance.
        engines: of the GPU instance.
        nodes: the device nodes, beside its GPU's, that allow its use.
        health: as that of a whole GPU.
    """

    index: int
    uuid: str
    profile: str
    gi_id: int
    ci_id: int
    start: int
    size: int
    gi_slices: int
    ci_slices: int
    memory_mib: int
    multiprocessors: int
    engines: MigEngines
    nodes: tuple[DeviceNode, ...] = ()
    health: Health = HEALTHY


@dataclass(frozen=True)
class Mig:
    """How a GPU that can be split is split.

    Attributes:
        enabled: whether it is used in parts; not as a whole then, even without any.
        pending: `enabled` after the GPU's next reset.
        instances: in the order of their index.
    """

    enabled: bool = False
    pending: bool = False
    instances: tuple[MigInstance, ...] = ()


@dataclass(frozen=True)
class AmdTraits:
    """What AMD's driver says of a GPU besides; empty and 0 where it doesn't.

    Attributes:
        device_id: of PCI, four hexadecimal digits: `74a1`.
        family: the kernel's word for its architecture: `AI`.
        compute_units, simds: how many it has.
        partition: how it is split, computation and memory: `spx_nps1`.
        can_split_compute, can_split_memory: whether it can be split.
        driver_version, driver_src_version: of the amdgpu module; a kernel's own has no version.
    """

    device_id: str = ""
    family: str = ""
    compute_units: int = 0
    simds: int = 0
    partition: str = ""
    can_split_compute: bool = False
    can_split_memory: bool = False
    driver_version: str = ""
    driver_src_version: str = ""

    @property
    def is_whole(self) -> bool:
        """Whether it isn't a part of a GPU that is split."""
        return self.partition.partition("_")[0] in {"", "spx"}


@dataclass(frozen=True)
class Device:
    """One GPU.

    Attributes:
        index: its place in the driver's enumeration.
        uuid: the driver's stable id, `GPU-…`.
        product: the driver's name of it, e.g. `NVIDIA H100 80GB HBM3`.
        model: the catalogue's name, e.g. `H100`; empty when the catalogue doesn't know the product.
        memory_mib: total frame buffer.
        compute_capability: e.g. (9, 0); (0, 0) when the driver doesn't say.
        pci_bus_id: as in sysfs, e.g. `0000:3b:00.0`.
        numa_node: None when the machine has no such notion.
        minor: N of /dev/nvidiaN, of AMD's /dev/dri/renderDN.
        nodes: the device nodes that are this GPU's own.
        health: unhealthy once it stopped answering or reported a fault that isn't the application's.
        vendor: the domain of its maker's names, such as `nvidia.com`.
        pci_class: as in sysfs: `0x030200` drives no display, `0x030000` does; empty when it isn't known.
        amd: what only AMD's GPUs have.
        mig: how it is split; None when it can't be.
        occupants: who else is on it or on its parts now.
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
    health: Health = HEALTHY
    vendor: str = NVIDIA
    pci_class: str = ""
    amd: AmdTraits | None = None
    mig: Mig | None = None
    occupants: tuple[Occupant, ...] = ()

    @property
    def node_name(self) -> str:
        """Of the device node that is this GPU's own: `nvidia0`, `renderD128`."""
        if self.vendor == NVIDIA:
            return f"nvidia{self.minor}"
        return self.nodes[-1].path.rpartition("/")[2] if self.nodes else ""

    @property
    def withheld(self) -> frozenset[str]:
        """UUIDs, its own or of its parts, of what isn't given out since somebody else has it."""
        return frozenset(each.uuid for each in self.occupants if each.withheld)

    def with_health(self, unhealthy: Mapping[str, Health]) -> Device:
        """The same, unhealthy if it is named by its UUID; so is each part that is, or whose GPU is."""
        health = unhealthy.get(self.uuid) or HEALTHY
        if self.mig is None:
            return replace(self, health=health)
        parts = (
            replace(part, health=health if not health.ok else unhealthy.get(part.uuid, HEALTHY))
            for part in self.mig.instances
        )
        return replace(self, health=health, mig=replace(self.mig, instances=tuple(parts)))


@dataclass(frozen=True)
class Inventory:
    """All GPUs of a node.

    Attributes:
        backend: `simulated` marks everything that is derived from it.
        absence: why there are no GPUs; None when there are some.
        detail: the same for people, with the remedy; with GPUs: why their driver can't be asked now.
        driver_version: e.g. `550.107.02`; empty without a driver.
        cuda_version: the newest CUDA the driver runs, (major, minor).
        devices: in the order of their index.
        links: by pair of UUIDs in the order of `devices`.
        common_nodes: device nodes that every process with a GPU needs.
        machine: what its maker calls it; empty when it doesn't say.
        clique: the NVLink domain of several nodes, and the part of it, that the GPUs are in:
            `<uuid of the domain>.<number>`; empty outside of one.
    """

    backend: Backend
    absence: Absence | None = None
    detail: str = ""
    driver_version: str = ""
    cuda_version: tuple[int, int] = (0, 0)
    devices: tuple[Device, ...] = ()
    links: Mapping[tuple[str, str], Link] = field(default_factory=dict)
    common_nodes: tuple[DeviceNode, ...] = ()
    machine: str = ""
    clique: str = ""

    @property
    def simulated(self) -> bool:
        """Whether the GPUs are make-believe."""
        return self.backend is Backend.SIMULATED

    @property
    def uuids(self) -> tuple[str, ...]:
        """Of each GPU, and of each part of it after it."""
        return tuple(
            uuid
            for gpu in self.devices
            for uuid in (gpu.uuid, *(part.uuid for part in (gpu.mig.instances if gpu.mig else ())))
        )

    @property
    def unhealthy(self) -> tuple[Device, ...]:
        """Those that can't be used."""
        return tuple(device for device in self.devices if not device.health.ok)

    def link(self, one: str, other: str) -> Link:
        """What joins two GPUs, named by UUID in either order."""
        return self.links.get((one, other)) or self.links.get((other, one)) or Link()

    def after(self, known: Inventory) -> Inventory:
        """What `known` has and this reading lacks, which is one of the same node, taken over from there.

        A GPU that isn't found any more is still the node's; what it was can't be asked now. Each keeps its
        index, whatever number the driver gives it now; a new one gets none that another had.
        """
        ours = {device.uuid for device in self.devices}
        lacking = [each for each in known.devices if each.uuid not in ours]
        devices = sorted((*self._numbered_as(known), *lacking), key=lambda each: each.index)
        return replace(
            self if self.devices else known,
            devices=tuple(devices),
            links={**known.links, **self.links} if lacking else self.links,
        )

    def _numbered_as(self, known: Inventory) -> Iterator[Device]:
        indexes = {device.uuid: device.index for device in known.devices}
        taken = set(indexes.values())
        for device in self.devices:
            index = indexes.get(device.uuid, device.index)
            if device.uuid not in indexes and index in taken:
                index = max(taken) + 1
            taken.add(index)
            yield replace(device, index=index)

    def with_mig(self, mig: Mapping[str, Mig]) -> Inventory:
        """The same devices, of which these are split, by UUID."""
        devices = (replace(each, mig=mig[each.uuid]) if each.uuid in mig else each for each in self.devices)
        return replace(self, devices=tuple(devices))

    def with_health(self, unhealthy: Mapping[str, Health]) -> Inventory:
        """The same devices, of which exactly these are unhealthy, by UUID, and the parts of these."""
        return replace(self, devices=tuple(each.with_health(unhealthy) for each in self.devices))
