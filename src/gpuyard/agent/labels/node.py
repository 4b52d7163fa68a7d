"""What is written on a node because of its GPUs (pure): labels that describe them, and their faults.

The labels are those of NVIDIA's GPU feature discovery and of AMD's node labeller, and some of our own; which
names that can be says `tenancy.node_marks.is_gpu_label`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from gpuyard.agent.labels.amd import amd_labels
from gpuyard.agent.labels.nvidia import nvidia_labels
from gpuyard.agent.marks_file import NodeMarks
from gpuyard.agent.served import Served
from gpuyard.devices.inventory import Device, Health, Inventory, Link, PcieLevel
from gpuyard.gpus.cdi import CdiFault, format_cdi_faults
from gpuyard.gpus.exposure import Exposure
from gpuyard.gpus.faults import GpuFault, format_faults, in_one_line
from gpuyard.gpus.occupants import Occupant, format_occupants
from gpuyard.kube.names import label_value
from gpuyard.kube.timestamps import format_time
from gpuyard.kube.wellknown import (
    AMD,
    ANNOTATION_CDI,
    ANNOTATION_GPU_DRIVER,
    ANNOTATION_GPU_EXPOSURE,
    ANNOTATION_GPU_HEALTH,
    ANNOTATION_GPU_OCCUPANTS,
    ANNOTATION_NO_GPUS,
    ANNOTATION_UNOFFERED,
    LABEL_GPU_COUNT_OF,
    LABEL_GPU_MODEL,
    LABEL_NUMA_ISLAND,
    LABEL_NVLINK_DOMAIN,
    LABEL_NVLINK_ISLAND,
    LABEL_PCIE_ISLAND,
    LABEL_SIMULATED,
    MIXED_MODELS,
    NVIDIA,
)

#: Of one node.
_MAX_UNOFFERED = 4


def node_marks(
    served: Served,
    cdi_faults: Sequence[CdiFault] = (),
    exposure: Exposure | None = None,
    *,
    made_s: int = 0,
) -> NodeMarks:
    """Everything that is to be written on the node."""
    inventory = served.inventory
    faults = _faults(inventory)
    occupants = [occupant for gpu in inventory.devices for occupant in gpu.occupants]
    return NodeMarks(
        node_labels(served, made_s),
        {
            ANNOTATION_NO_GPUS: "" if served.resources else served.detail,
            ANNOTATION_UNOFFERED: _unoffered(served) if served.resources else "",
            ANNOTATION_GPU_DRIVER: inventory.detail if inventory.devices else "",
            ANNOTATION_GPU_HEALTH: format_faults(faults),
            ANNOTATION_GPU_OCCUPANTS: format_occupants(occupants),
            ANNOTATION_CDI: format_cdi_faults(cdi_faults),
            ANNOTATION_GPU_EXPOSURE: str(exposure or ""),
        },
        _problems(faults, [occupant for occupant in occupants if occupant.pid]),
        _offers(served),
    )


def _unoffered(served: Served) -> str:
    more = len(served.faults) - _MAX_UNOFFERED
    told = "; ".join(map(str, served.faults[:_MAX_UNOFFERED]))
    return f"{told}; and {more} more" if more > 0 else told


def _offers(served: Served) -> dict[str, dict[str, str]]:
    """How GPUs and parts of them are shared, and what isn't offered."""
    found: dict[str, dict[str, str]] = {}
    for device in served.devices:
        if rule := device.sharing:
            found[device.uuid] = {"sharing": str(rule.strategy), "replicas": str(rule.replicas)}
    for fault in served.faults:
        of_gpu = found.setdefault(fault.gpu.uuid, {})
        of_gpu["unoffered"] = "; ".join(filter(None, (of_gpu.get("unoffered", ""), fault.reason)))
    return found


def _problems(faults: Sequence[GpuFault], foreign: Sequence[Occupant]) -> dict[str, dict[str, str]]:
    """Conditions of the node that are true."""
    found = {}
    if faults:
        found["GpuUnhealthy"] = {"reason": _word(faults[0].reason), "message": in_one_line(faults)}
    if foreign:
        found["GpuForeignProcess"] = {"reason": "ForeignProcess", "message": in_one_line(foreign)}
    return found


def _faults(inventory: Inventory) -> list[GpuFault]:
    """Of each GPU that is unhealthy, and of each MIG instance that is while its GPU isn't."""
    found = []
    for gpu in inventory.devices:
        if not gpu.health.ok:
            found.append(_fault(gpu.index, gpu.uuid, gpu.health))
            continue
        parts = gpu.mig.instances if gpu.mig else ()
        found += [_fault(gpu.index, part.uuid, part.health) for part in parts if not part.health.ok]
    return found


def _fault(index: int, uuid: str, health: Health) -> GpuFault:
    return GpuFault(index, uuid, health.reason, format_time(health.since) if health.since else "")


def _word(reason: str) -> str:
    """A reason as conditions have it: `XID 79` → `XID79`, `too hot` → `TooHot`."""
    words = re.findall(r"[A-Za-z0-9]+", reason)
    return "".join(word[0].upper() + word[1:] for word in words)


def node_labels(served: Served, made_s: int = 0) -> dict[str, str]:
    """Every label of ours that the node should have; none without GPUs.

    Args:
        served: what the node offers.
        made_s: what `gfd.timestamp` says: when they were made, seconds since 1970.
    """
    inventory = served.inventory
    gpus = inventory.devices
    if not gpus:
        return {}
    labels = {
        **nvidia_labels(served, made_s),
        **amd_labels(gpu for gpu in gpus if gpu.vendor == AMD),
        **_others(gpu for gpu in gpus if gpu.vendor not in (NVIDIA, AMD)),
        **_models(gpus),
        LABEL_NVLINK_DOMAIN: label_value(inventory.clique),
        LABEL_NVLINK_ISLAND: str(_largest(inventory, lambda link: link.nvlinks > 0)),
        LABEL_PCIE_ISLAND: str(_largest(inventory, lambda link: link.pcie >= PcieLevel.HOST_BRIDGE)),
        LABEL_NUMA_ISLAND: str(max(Counter(gpu.numa_node for gpu in gpus).values())),
        LABEL_SIMULATED: "true" if inventory.simulated else "",
    }
    return {name: value for name, value in labels.items() if value}


def _models(gpus: Sequence[Device]) -> dict[str, str]:
    """One model's name, or of several `mixed`, which no run asks for; then how many there are of each."""
    counts = Counter(gpu.model for gpu in gpus)
    if len(counts) == 1:
        return {LABEL_GPU_MODEL: gpus[0].model}
    each = {f"{LABEL_GPU_COUNT_OF}{model}": str(count) for model, count in counts.items() if model}
    return {LABEL_GPU_MODEL: MIXED_MODELS, **each}


def _others(gpus: Iterable[Device]) -> dict[str, str]:
    """What can be said of a GPU of any vendor, under the vendor's own domain."""
    by_vendor: dict[str, list[Device]] = {}
    for gpu in gpus:
        by_vendor.setdefault(gpu.vendor, []).append(gpu)
    labels: dict[str, str] = {}
    for vendor, of_it in by_vendor.items():
        products = {gpu.product for gpu in of_it}
        labels |= {
            f"{vendor}/gpu.present": "true",
            f"{vendor}/gpu.count": str(len(of_it)),
            f"{vendor}/gpu.product": label_value(products.pop()) if len(products) == 1 else "",
            f"{vendor}/gpu.memory": str(min(gpu.memory_mib for gpu in of_it)),
        }
    return labels


def _largest(inventory: Inventory, joined: Callable[[Link], bool]) -> int:
    """How many GPUs the largest set has that such links join."""
    rest = [gpu.uuid for gpu in inventory.devices]
    largest = 0
    while rest:
        island = [rest.pop()]
        for member in island:  # It grows while it is read.
            near = [uuid for uuid in rest if joined(inventory.link(member, uuid))]
            island += near
            rest = [uuid for uuid in rest if uuid not in near]
        largest = max(largest, len(island))
    return largest
