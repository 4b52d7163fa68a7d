"""The metrics of one node, from what its GPUs are, what they measure, and who holds them (pure).

A value that is measured on a GPU stands there once. It carries the labels of a pod only where that pod has
the GPU, or the MIG instance, for itself: `scope` is `pod` then, else it says whose the value is, `gpu` or
`instance`. Who shares it is in `gpuyard_allocation`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from gpuyard import __version__
from gpuyard.agent.metrics import families
from gpuyard.agent.metrics.energy import EnergyAccount
from gpuyard.agent.metrics.holdings import Holdings
from gpuyard.agent.metrics.text import MetricsText, label_text
from gpuyard.devices.inventory import Device, Health, Inventory, MigInstance
from gpuyard.devices.readings import THROTTLE_REASONS, Reading


@dataclass(frozen=True)
class NodeScrape:
    """What the metrics are made of.

    Attributes:
        node: its name.
        inventory: what there is; None before that is known.
        readings: by UUID.
        holdings: who has what, as the kubelet said last.
        holdings_age_s: how old that is; None when it never said.
        kubelet_answers: whether it said so just now.
        energy_j: by pod.
        cpu_s, resident_bytes: of the exporter itself.
    """

    node: str
    inventory: Inventory | None = None
    readings: Mapping[str, Reading] = field(default_factory=dict)
    holdings: Holdings = field(default_factory=Holdings)
    holdings_age_s: float | None = None
    kubelet_answers: bool = False
    energy_j: Mapping[EnergyAccount, float] = field(default_factory=dict)
    cpu_s: float = 0.0
    resident_bytes: int = 0

    def text(self) -> str:
        """In Prometheus' format."""
        text = MetricsText()
        node = label_text(dict.fromkeys(families.NODE_LABELS, self.node))
        for gpu in self.inventory.devices if self.inventory else ():
            labels = f"{node},{label_text(_gpu_labels(gpu))}"
            self._add_measured(text, gpu, labels)
            self._add_state(text, gpu, labels)
        if self.inventory is not None:
            _add_links(text, self.inventory, node)
        self._add_pods(text, node)
        self._add_exporter(text, node)
        return str(text)

    def _add_measured(self, text: MetricsText, gpu: Device, labels: str) -> None:
        reading = self.readings.get(gpu.uuid)
        owner = self.holdings.owner(gpu.uuid)
        whose = label_text({**owner, "scope": "pod" if owner else "gpu"})
        if reading is not None:
            _add_reading(text, reading, labels, whose)
            text.add(families.XID_ERRORS, reading.last_xid, labels, whose)
            for xid, count in sorted(reading.xids.items()):
                text.add(families.XIDS, count, labels, f'xid="{xid}"')
            if reading.sm_clock_mhz is not None:
                for reason in THROTTLE_REASONS:
                    value = reason in reading.throttle_reasons
                    text.add(families.THROTTLED, value, labels, f'reason="{reason}"')
        for part in _parts(gpu):
            if (reading := self.readings.get(part.uuid)) is not None:
                owner = self.holdings.owner(part.uuid)
                whose = label_text({**_part_labels(part), **owner, "scope": "pod" if owner else "instance"})
                _add_reading(text, reading, labels, whose)

    def _add_state(self, text: MetricsText, gpu: Device, labels: str) -> None:
        assert self.inventory is not None
        text.add(families.INFO, 1, labels, label_text(_info(gpu, self.inventory)))
        _add_health(text, gpu.health, labels)
        holders = list(self.holdings.by_uuid.get(gpu.uuid, ()))
        for part in _parts(gpu):
            _add_health(text, part.health, labels, label_text(_part_labels(part)))
            text.add(families.MIG, 1, labels, label_text(_part_info(part)))
            holders += self.holdings.by_uuid.get(part.uuid, ())
        text.add(families.HOLDERS, len(holders), labels)
        parts = {part.uuid: _part_labels(part) for part in _parts(gpu)}
        for each in holders:
            owner = {"container": each.container, "namespace": each.namespace, "pod": each.pod}
            named = {"resource": each.resource, "device_id": each.device_id, **parts.get(each.uuid, {})}
            more = {"scope": "share" if each.is_share else "pod"}
            text.add(families.ALLOCATION, 1, labels, label_text({**named, **owner, **more}))

    def _add_pods(self, text: MetricsText, node: str) -> None:
        for account, joules in self.energy_j.items():
            pod = {"namespace": account.namespace, "pod": account.pod}
            labels = label_text({**pod, "scope": account.scope})
            text.add(families.POD_ENERGY, round(joules, 3), node, labels)

    def _add_exporter(self, text: MetricsText, node: str) -> None:
        inventory = self.inventory
        if inventory is not None:
            detail = label_text({"detail": inventory.detail})
            text.add(families.BACKEND_UP, not inventory.detail, node, detail)
            about = {"version": __version__, "backend": str(inventory.backend)}
            text.add(families.AGENT, 1, node, label_text(about))
        text.add(families.POD_RESOURCES_UP, self.kubelet_answers, node)
        if self.holdings_age_s is not None:
            text.add(families.POD_RESOURCES_AGE, round(self.holdings_age_s, 3), node)
        text.add(families.CPU, round(self.cpu_s, 3), node)
        text.add(families.RESIDENT, self.resident_bytes, node)


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


def _add_reading(text: MetricsText, reading: Reading, *labels: str) -> None:
    for family in families.MEASURED:
        value = getattr(reading, family.reading)
        if value is not None:
            text.add(family, value, *labels)


def _add_health(text: MetricsText, health: Health, *labels: str) -> None:
    text.add(families.HEALTHY, health.ok, *labels)
    if not health.ok:
        since_s = health.since.timestamp() if health.since else 0
        text.add(families.FAULT, since_s, *labels, label_text({"reason": health.reason}))


def _add_links(text: MetricsText, inventory: Inventory, node: str) -> None:
    labels = {gpu.uuid: label_text(_gpu_labels(gpu)) for gpu in inventory.devices}
    for (one, other), link in inventory.links.items():
        if one in labels and other in labels:
            pcie = link.pcie.name.lower().replace("_", "-")
            text.add(families.LINK, link.nvlinks, node, labels[one], f'peer="{other}",pcie="{pcie}"')


def _parts(gpu: Device) -> Iterable[MigInstance]:
    return gpu.mig.instances if gpu.mig is not None and gpu.mig.enabled else ()
