"""What there is to know of a node's GPUs at one moment (pure): as values, and as JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from gpuyard.gpus.faults import GpuFault
from gpuyard.gpus.occupants import Occupant
from gpuyard.kube.wellknown import AMD


@dataclass(frozen=True)
class GpuUser:
    """A container that a GPU, or a part of it, is allotted to.

    Attributes:
        run: the run that the pod belongs to; empty for pods of others.
        memory_mib: what its pod's processes have of a GPU that others have, too; None where nobody says.
        rank: its pod's among those of its run, where one run of several pods is looked at; None elsewhere.
    """

    namespace: str
    pod: str
    container: str = ""
    run: str = ""
    memory_mib: float | None = field(default=None, compare=False)
    rank: int | None = None

    @property
    def name(self) -> str:
        """What people call it."""
        if self.rank is not None:
            return f"{self.run} rank {self.rank}"
        return self.run or f"{self.namespace}/{self.pod}"


@dataclass(frozen=True)
class GpuLoad:
    """What is measured; None where nobody says.

    Attributes:
        utilisation_percent: part of the last moment in which any kernel ran.
        memory_used_mib, memory_mib: of the GPU's memory, and all of it.
        power_w: of the whole board.
        temperature_c: of the chip.
        energy_j: since the driver was loaded.
    """

    utilisation_percent: float | None = None
    memory_used_mib: float | None = None
    memory_mib: float | None = None
    power_w: float | None = None
    temperature_c: float | None = None
    energy_j: float | None = None

    def to_json(self) -> dict[str, Any]:
        """All fields."""
        return asdict(self)


@dataclass(frozen=True)
class GpuPart:
    """A MIG instance.

    Attributes:
        gi_id: of its GPU instance.
        index: among the parts of its GPU, in the driver's order, as CDI's `0:1` counts; -1 where nobody says.
        placement: its first memory slice and how many it has, `0:4`; empty where nobody says.
        sharing, replicas: as of a GPU.
    """

    gi_id: str
    profile: str
    uuid: str = ""
    index: int = -1
    placement: str = ""
    sharing: str = "none"
    replicas: int = 1
    users: tuple[GpuUser, ...] = ()
    load: GpuLoad = GpuLoad()

    def name_on(self, gpu: int | str) -> str:
        """As CDI calls this part of that GPU: `0:1`."""
        return f"{gpu}:{self.gi_id if self.index < 0 else self.index}"


@dataclass(frozen=True)
class GpuLink:
    """What joins a GPU to another of its node.

    Attributes:
        peer: the other's index.
        nvlinks: how many there are, 0 for none.
        pcie: how near the two are on PCIe: `host-bridge`.
    """

    peer: int
    nvlinks: int
    pcie: str


@dataclass(frozen=True)
class NodeGpu:
    """One GPU.

    Attributes:
        index: in the driver's order; -1 where it isn't known.
        fault: None for a healthy one.
        links: to the node's other GPUs.
        numa_node: None without such a notion, and where nobody says.
        mig: `off` or `on`; empty for a GPU that can't be split.
        sharing: `none`, `time-slicing` or `mps`.
        replicas: how many share it; 1 for a GPU that isn't shared.
        unoffered: why it, or a part of it, isn't offered as the agent's options ask; empty where it is.
        users: who it is allotted to.
        occupants: who else is on it.
        parts: its MIG instances.
    """

    index: int
    uuid: str
    model: str = ""
    product: str = ""
    fault: GpuFault | None = None
    pci_bus_id: str = ""
    links: tuple[GpuLink, ...] = ()
    numa_node: int | None = None
    mig: str = ""
    sharing: str = "none"
    replicas: int = 1
    unoffered: str = ""
    load: GpuLoad = GpuLoad()
    users: tuple[GpuUser, ...] = ()
    occupants: tuple[Occupant, ...] = ()
    parts: tuple[GpuPart, ...] = ()

    @property
    def fabric(self) -> str:
        """What joins GPUs of its maker directly."""
        # Only for who asks: the catalogue takes its time to load.
        from gpuyard.gpus.catalogue import vendor_of_product

        return "Infinity Fabric" if vendor_of_product(self.product) == AMD else "NVLink"

    def links_text(self, count: int) -> str:
        """`18 NVLinks`."""
        word = "NVLink" if self.fabric == "NVLink" else f"{self.fabric} link"
        return f"{count} {word}{'' if count == 1 else 's'}"

    def with_users(self, changed: Callable[[GpuUser], GpuUser]) -> NodeGpu:
        """The GPU with other values for its users, and for those of its parts."""
        parts = tuple(replace(part, users=tuple(map(changed, part.users))) for part in self.parts)
        return replace(self, users=tuple(map(changed, self.users)), parts=parts)

    @property
    def all_users(self) -> tuple[GpuUser, ...]:
        """Of the GPU and of its parts, each once."""
        return tuple(dict.fromkeys((*self.users, *(user for part in self.parts for user in part.users))))

    def to_json(self) -> dict[str, Any]:
        """All fields."""
        raw = asdict(self)
        raw["fault"] = self.fault and self.fault.to_json()
        raw["occupants"] = [occupant.to_json() for occupant in self.occupants]
        return raw


@dataclass(frozen=True)
class GpuNode:
    """One node and its GPUs.

    Attributes:
        not_ready: since when, and why; empty when it is ready.
        gpu_count: how many GPUs it has, split ones as one; where they can't be read as its labels say.
        model: of its first GPU.
        driver_version: empty where nobody says.
        occupants: who else is on its GPUs, be it another yard or a process that is no run.
        gpus: in the order of their index; empty where its metrics can't be had.
        unread: why its metrics can't be had; empty when they can.
        none_because: why it has no GPUs, as its agent says; empty where it doesn't.
    """

    name: str
    not_ready: str = ""
    gpu_count: int = 0
    model: str = ""
    simulated: bool = False
    driver_version: str = ""
    cuda_version: str = ""
    faults: tuple[GpuFault, ...] = ()
    occupants: tuple[Occupant, ...] = ()
    gpus: tuple[NodeGpu, ...] = ()
    users: tuple[GpuUser, ...] = ()
    unread: str = ""
    none_because: str = ""

    def to_json(self) -> dict[str, Any]:
        """All fields but the users, who are with their GPUs where these can be read."""
        raw = asdict(self)
        raw["faults"] = [fault.to_json() for fault in self.faults]
        raw["occupants"] = [occupant.to_json() for occupant in self.occupants]
        raw["gpus"] = [gpu.to_json() for gpu in self.gpus]
        return raw


@dataclass(frozen=True)
class RunLoad:
    """What a run, or a pod of somebody else's, does on the GPUs that it has.

    Attributes:
        gpus: how many GPUs and parts of GPUs it has.
        shared: whether others have some of them, too: utilisation and temperature are of all together then,
            memory is its own, as far as it is known, and power nobody's.
    """

    user: GpuUser
    nodes: tuple[str, ...]
    gpus: int
    simulated: bool
    load: GpuLoad
    shared: bool = False

    def to_json(self) -> dict[str, Any]:
        """All fields."""
        named = {"name": self.user.name, "namespace": self.user.namespace, "run": self.user.run or None}
        counted = {"rank": self.user.rank, "nodes": list(self.nodes), "gpus": self.gpus}
        counted["simulated"] = self.simulated
        return {**named, **counted, "shared": self.shared, **self.load.to_json()}


def sum_load(loads: Iterable[GpuLoad]) -> GpuLoad:
    """Of several GPUs: the mean utilisation, the highest temperature, and the sums of the rest."""
    found = list(loads)

    def values(field: str) -> list[float]:
        return [value for load in found if (value := getattr(load, field)) is not None]

    utilisation, temperature = values("utilisation_percent"), values("temperature_c")
    return GpuLoad(
        utilisation_percent=sum(utilisation) / len(utilisation) if utilisation else None,
        temperature_c=max(temperature, default=None),
        **{
            field: sum(of_all) if (of_all := values(field)) else None
            for field in ("memory_used_mib", "memory_mib", "power_w", "energy_j")
        },
    )


def run_loads(nodes: Iterable[GpuNode]) -> list[RunLoad]:
    """Who has GPUs, with what those do; by namespace and name."""
    held: dict[tuple[str, str], list[tuple[GpuNode, GpuUser, GpuLoad, bool]]] = {}
    for node in nodes:
        for gpu in node.gpus:
            for users, load in ((gpu.users, gpu.load), *((part.users, part.load) for part in gpu.parts)):
                shared = len(set(users)) > 1
                for user in users:
                    # What all on it do together is nobody's own.
                    own = replace(load, memory_used_mib=user.memory_mib, power_w=None, energy_j=None)
                    row = (node, user, own if shared else load, shared)
                    held.setdefault((user.namespace, user.name), []).append(row)
    return [
        RunLoad(
            user=rows[0][1],
            nodes=tuple(dict.fromkeys(node.name for node, *_ in rows)),
            gpus=len(rows),
            simulated=all(node.simulated for node, *_ in rows),
            load=sum_load(load for _, _, load, _ in rows),
            shared=any(shared for *_, shared in rows),
        )
        for _, rows in sorted(held.items(), key=lambda item: item[0])
    ]
