"""What is written on a node because of its GPUs (pure): labels that describe them, and their faults.

The labels are those of NVIDIA's GPU feature discovery, and two of our own: `tenancy.node_marks.GPU_LABELS`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from gpuyard.agent.marks_file import NodeMarks
from gpuyard.agent.served import Served
from gpuyard.devices.inventory import Health, Inventory
from gpuyard.gpus.cdi import CdiFault, format_cdi_faults
from gpuyard.gpus.exposure import Exposure
from gpuyard.gpus.faults import GpuFault, format_faults, in_one_line
from gpuyard.kube.timestamps import format_time
from gpuyard.kube.wellknown import (
    ANNOTATION_CDI,
    ANNOTATION_GPU_DRIVER,
    ANNOTATION_GPU_EXPOSURE,
    ANNOTATION_GPU_HEALTH,
    ANNOTATION_NO_GPUS,
    LABEL_GPU_COUNT,
    LABEL_GPU_MODEL,
    LABEL_GPU_PRODUCT,
    LABEL_SIMULATED,
)

#: Compute capability → architecture, as GPU feature discovery spells it. The entry that counts is the
#: last one that isn't above the GPU's.
_FAMILIES = (
    ((3, 0), "kepler"),
    ((5, 0), "maxwell"),
    ((6, 0), "pascal"),
    ((7, 0), "volta"),
    ((7, 5), "turing"),
    ((8, 0), "ampere"),
    ((8, 9), "ada-lovelace"),
    ((9, 0), "hopper"),
    ((10, 0), "blackwell"),
    ((10, 7), "rubin"),
    ((11, 0), "blackwell"),
)


def node_marks(
    served: Served, cdi_faults: Sequence[CdiFault] = (), exposure: Exposure | None = None
) -> NodeMarks:
    """Everything that is to be written on the node."""
    inventory = served.inventory
    faults = _faults(inventory)
    return NodeMarks(
        node_labels(inventory),
        {
            ANNOTATION_NO_GPUS: "" if served.resources else served.detail,
            ANNOTATION_GPU_DRIVER: inventory.detail if inventory.devices else "",
            ANNOTATION_GPU_HEALTH: format_faults(faults),
            ANNOTATION_CDI: format_cdi_faults(cdi_faults),
            ANNOTATION_GPU_EXPOSURE: str(exposure or ""),
        },
        {"GpuUnhealthy": {"reason": _word(faults[0].reason), "message": in_one_line(faults)}}
        if faults
        else {},
    )


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


def node_labels(inventory: Inventory) -> dict[str, str]:
    """Every label of ours that the node should have; none without GPUs.

    A node's GPUs are taken to be alike: where they differ the first one is described.
    """
    if not inventory.devices:
        return {}
    gpu = inventory.devices[0]
    major, minor = gpu.compute_capability
    labels = {
        "nvidia.com/gpu.present": "true",
        LABEL_GPU_COUNT: str(len(inventory.devices)),
        LABEL_GPU_PRODUCT: label_value(gpu.product),
        "nvidia.com/gpu.memory": str(gpu.memory_mib),
        "nvidia.com/gpu.replicas": "1",
        "nvidia.com/gpu.sharing-strategy": "none",
        "nvidia.com/gpu.family": family(gpu.compute_capability),
        "nvidia.com/gpu.compute.major": str(major),
        "nvidia.com/gpu.compute.minor": str(minor),
        LABEL_GPU_MODEL: gpu.model,
        LABEL_SIMULATED: "true" if inventory.simulated else "",
        **_versions(inventory),
    }
    return {name: value for name, value in labels.items() if value}


def family(compute_capability: tuple[int, int]) -> str:
    """The architecture of a compute capability; empty when it is older than any known."""
    return next((name for first, name in reversed(_FAMILIES) if first <= compute_capability), "")


def label_value(text: str) -> str:
    """`text` as a label value: what isn't allowed becomes a hyphen, at most 63 characters."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", text)[:63].strip("-_.")


def _versions(inventory: Inventory) -> dict[str, str]:
    driver = [*inventory.driver_version.split("."), "", ""][:3] if inventory.driver_version else ["", "", ""]
    cuda_major, cuda_minor = inventory.cuda_version
    cuda = (
        {
            "nvidia.com/cuda.runtime-version.full": f"{cuda_major}.{cuda_minor}",
            "nvidia.com/cuda.runtime-version.major": str(cuda_major),
            "nvidia.com/cuda.runtime-version.minor": str(cuda_minor),
        }
        if cuda_major
        else {}
    )
    return {
        "nvidia.com/cuda.driver-version.full": inventory.driver_version,
        "nvidia.com/cuda.driver-version.major": driver[0],
        "nvidia.com/cuda.driver-version.minor": driver[1],
        "nvidia.com/cuda.driver-version.revision": driver[2],
        **cuda,
    }
