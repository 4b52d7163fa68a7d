"""The metrics of one node, from what its GPUs are, what they measure, and who holds them (pure).

A value that is measured on a GPU stands there once. It carries the labels of a pod only where that pod has
the GPU, or the MIG instance, for itself: `scope` is `pod` then, else it says whose the value is, `gpu` or
`instance`. Who shares it is in `gpuyard_allocation`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

from gpuyard import __version__
from gpuyard.agent.marks_file import NodeMarks
from gpuyard.agent.metrics import families
from gpuyard.agent.metrics.energy import EnergyAccount
from gpuyard.agent.metrics.holdings import Holdings
from gpuyard.agent.metrics.shares import PodShare
from gpuyard.agent.metrics.text import MetricsText, joined, label_text
from gpuyard.devices.inventory import Device, Health, Inventory, MigInstance
from gpuyard.devices.readings import THROTTLE_REASONS, Reading
from gpuyard.gpus.occupants import Occupant, node_occupants


@dataclass(frozen=True)
class NodeFacts:
    """What changes seldom: the GPUs, how they are offered, and who has them. Its text is made once.

    Attributes:
        node: its name.
        inventory: what there is; None before that is known.
        holdings: who has what, as the kubelet said last.
        marks: what the agent says of its GPUs; None where it says nothing.
        sees_processes: whether the agent can say which processes are foreign.
    """

    node: str
    inventory: Inventory | None = None
    holdings: Holdings = field(default_factory=Holdings)
    marks: NodeMarks | None = None
    sees_processes: bool = False

    @cached_property
    def labels(self) -> str:
        """Of the node."""
        return label_text(dict.fromkeys(families.NODE_LABELS, self.node))

    @cached_property
    def gpu_labels(self) -> Mapping[str, str]:
        """Of each GPU by UUID, its node's among them."""
        gpus = self.inventory.devices if self.inventory else ()
        return {gpu.uuid: joined(self.labels, label_text(_gpu_labels(gpu))) for gpu in gpus}

    @cached_property
    def part_labels(self) -> Mapping[str, str]:
        """Of each GPU and each part, by UUID: which it is."""
        found = dict(self.gpu_labels)
        for gpu in self.inventory.devices if self.inventory else ():
            for part in _parts(gpu):
                found[part.uuid] = joined(self.gpu_labels[gpu.uuid], label_text(_part_labels(part)))
        return found

    @cached_property
    def measured_labels(self) -> Mapping[str, str]:
        """Of what is measured on each GPU and each part, by UUID: which it is, and whose the value is."""
        found = {}
        for uuid, labels in self.part_labels.items():
            owner = self.holdings.owner(uuid)
            scope = "pod" if owner else "gpu" if uuid in self.gpu_labels else "instance"
            found[uuid] = joined(labels, label_text({**owner, "scope": scope}))
        return found

    @cached_property
    def text(self) -> str:
        """In Prometheus' format."""
        text = MetricsText()
        if self.inventory is None:
            return ""
        for gpu in self.inventory.devices:
            self._add_gpu(text, gpu, self.inventory)
        for (one, other), link in self.inventory.links.items():
            if one in self.gpu_labels and other in self.gpu_labels:
                pcie = link.pcie.name.lower().replace("_", "-")
                text.add(families.LINK, link.nvlinks, self.gpu_labels[one], f'peer="{other}",pcie="{pcie}"')
        detail = label_text({"detail": self.inventory.detail})
        text.add(families.BACKEND_UP, not self.inventory.detail, self.labels, detail)
        about = {"version": __version__, "backend": str(self.inventory.backend)}
        text.add(families.AGENT, 1, self.labels, label_text(about))
        return str(text)

    def _add_gpu(self, text: MetricsText, gpu: Device, inventory: Inventory) -> None:
        labels = self.gpu_labels[gpu.uuid]
        offered = self._offered(gpu.uuid)
        text.add(families.INFO, 1, labels, label_text({**_info(gpu, inventory), **_shared(offered)}))
        if reason := offered.get("unoffered"):
            text.add(families.UNOFFERED, 1, labels, label_text({"reason": reason}))
        _add_health(text, gpu.health, labels)
        holders = list(self.holdings.by_uuid.get(gpu.uuid, ()))
        for part in _parts(gpu):
            _add_health(text, part.health, labels, label_text(_part_labels(part)))
            about = {**_part_info(part), **_shared(self._offered(part.uuid))}
            text.add(families.MIG, 1, labels, label_text(about))
            holders += self.holdings.by_uuid.get(part.uuid, ())
        text.add(families.HOLDERS, len(holders), labels)
        parts = {part.uuid: _part_labels(part) for part in _parts(gpu)}
        for each in holders:
            owner = {"container": each.container, "namespace": each.namespace, "pod": each.pod}
            named = {"resource": each.resource, "device_id": each.device_id, **parts.get(each.uuid, {})}
            more = {"scope": "share" if each.is_share else "pod"}
            text.add(families.ALLOCATION, 1, labels, label_text({**named, **owner, **more}))
        foreign = [each for each in self._occupants if each.pid and each.uuid in {gpu.uuid, *parts}]
        if foreign or (self.marks is not None and self.sees_processes):
            text.add(families.FOREIGN_PROCESSES, len(foreign), labels)
            text.add(families.FOREIGN_MEMORY, sum(each.memory_mib or 0 for each in foreign) << 20, labels)

    def _offered(self, uuid: str) -> Mapping[str, str]:
        return self.marks.gpus.get(uuid, {}) if self.marks else {}

    @cached_property
    def _occupants(self) -> tuple[Occupant, ...]:
        return node_occupants({"metadata": {"annotations": self.marks.annotations}}) if self.marks else ()


@dataclass(frozen=True)
class NodeScrape:
    """What the metrics are made of.

    Attributes:
        state: of the node.
        readings: by UUID.
        holdings_age_s: how old it is what the kubelet said; None when it never said.
        kubelet_answers: whether it said so just now; None where it isn't asked.
        energy_j: by pod.
        shares: of pods on GPUs that several have.
        cpu_s, resident_bytes: of the exporter itself.
    """

    state: NodeFacts
    readings: Mapping[str, Reading] = field(default_factory=dict)
    holdings_age_s: float | None = None
    kubelet_answers: bool | None = False
    energy_j: Mapping[EnergyAccount, float] = field(default_factory=dict)
    shares: tuple[PodShare, ...] = ()
    cpu_s: float = 0.0
    resident_bytes: int = 0

    def text(self) -> str:
        """In Prometheus' format."""
        text = MetricsText()
        for uuid, labels in self.state.measured_labels.items():
            if (reading := self.readings.get(uuid)) is not None:
                _add_reading(text, reading, labels)
                if uuid in self.state.gpu_labels:
                    _add_events(text, reading, self.state.gpu_labels[uuid], labels)
        node = self.state.labels
        for account, joules in self.energy_j.items():
            text.add(families.POD_ENERGY, round(joules, 3), joined(node, _pod_labels(account)))
        for share in self.shares:
            pod = {"namespace": share.pod.namespace, "pod": share.pod.pod, "scope": "share"}
            labels = joined(self.state.part_labels.get(share.uuid, ""), label_text(pod))
            text.add(families.POD_MEMORY, share.memory_mib << 20, labels)
        if self.kubelet_answers is not None:
            text.add(families.POD_RESOURCES_UP, self.kubelet_answers, node)
        if self.holdings_age_s is not None:
            text.add(families.POD_RESOURCES_AGE, round(self.holdings_age_s, 3), node)
        text.add(families.CPU, round(self.cpu_s, 3), node)
        text.add(families.RESIDENT, self.resident_bytes, node)
        return f"{text}{self.state.text}"


def _gpu_labels(gpu: Device) -> dict[str, str]:
    return {
        "gpu": str(gpu.index),
        "UUID": gpu.uuid,
        # As DCGM writes it: `00000000:3B:00.0`.
        "pci_bus_id": f"0000{gpu.pci_bus_id.upper()}" if gpu.pci_bus_id else "",
        "device": gpu.node_name,
        "modelName": gpu.product,
    }


def _part_labels(part: MigInstance) -> dict[str, str]:
    return {"GPU_I_PROFILE": part.profile, "GPU_I_ID": str(part.gi_id)}


def _part_info(part: MigInstance) -> dict[str, str]:
    return {
        "instance": part.uuid,
        "index": str(part.index),
        **_part_labels(part),
        "start": str(part.start),
        "size": str(part.size),
        "memory_mib": str(part.memory_mib),
        "multiprocessors": str(part.multiprocessors),
    }


def _info(gpu: Device, inventory: Inventory) -> dict[str, str]:
    capability, cuda = gpu.compute_capability, inventory.cuda_version
    mig = gpu.mig
    return {
        "model": gpu.model,
        "memory_mib": str(gpu.memory_mib),
        "compute_capability": "{}.{}".format(*capability) if any(capability) else "",
        "numa_node": "" if gpu.numa_node is None else str(gpu.numa_node),
        "driver_version": inventory.driver_version,
        "cuda_version": "{}.{}".format(*cuda) if any(cuda) else "",
        "mig": "" if mig is None else "enabled" if mig.enabled else "disabled",
        "simulated": str(inventory.simulated).lower(),
    }


def _shared(offered: Mapping[str, str]) -> dict[str, str]:
    return {name: offered.get(name, "") for name in ("sharing", "replicas")}


def _add_reading(text: MetricsText, reading: Reading, labels: str) -> None:
    for family in families.MEASURED:
        value = getattr(reading, family.reading)
        if value is not None:
            text.add(family, value, labels)


def _add_events(text: MetricsText, reading: Reading, gpu: str, measured: str) -> None:
    text.add(families.XID_ERRORS, reading.last_xid, measured)
    for xid, count in sorted(reading.xids.items()):
        text.add(families.XIDS, count, gpu, f'xid="{xid}"')
    if reading.sm_clock_mhz is not None:
        for reason in THROTTLE_REASONS:
            text.add(families.THROTTLED, reason in reading.throttle_reasons, gpu, f'reason="{reason}"')


@lru_cache(maxsize=1024)
def _pod_labels(account: EnergyAccount) -> str:
    return label_text({"namespace": account.namespace, "pod": account.pod, "scope": account.scope})


def _add_health(text: MetricsText, health: Health, *labels: str) -> None:
    text.add(families.HEALTHY, health.ok, *labels)
    if not health.ok:
        since_s = health.since.timestamp() if health.since else 0
        text.add(families.FAULT, since_s, *labels, label_text({"reason": health.reason}))


def _parts(gpu: Device) -> Iterable[MigInstance]:
    return gpu.mig.instances if gpu.mig is not None and gpu.mig.enabled else ()
