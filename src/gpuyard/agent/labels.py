"""The labels that describe a node's GPUs (pure): NVIDIA's GPU feature discovery names, and our own two."""

from __future__ import annotations

import re
from collections.abc import Mapping

from gpuyard.devices.inventory import Inventory
from gpuyard.kube.wellknown import LABEL_GPU_COUNT, LABEL_GPU_MODEL, LABEL_GPU_PRODUCT, LABEL_SIMULATED

_OWN = (
    "nvidia.com/gpu.",
    "nvidia.com/cuda.",
    "nvidia.com/mig.",
    "nvidia.com/mps.",
    LABEL_GPU_MODEL,
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
)


def node_labels(inventory: Inventory) -> dict[str, str]:
    """Every label of ours that the node should have; none without GPUs.

    A node's GPUs are taken to be alike: where they differ the first one is described.
    """
    if not inventory.gpus:
        return {}
    gpu = inventory.gpus[0]
    major, minor = gpu.compute_capability
    labels = {
        LABEL_GPU_COUNT: str(len(inventory.gpus)),
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


def is_own(name: str) -> bool:
    """Whether a label is one of those that describe GPUs."""
    return name.startswith(_OWN)


def label_patch(current: Mapping[str, str], wanted: Mapping[str, str]) -> dict[str, str | None]:
    """A merge patch of `metadata.labels` that sets what is wanted and removes what is ours and isn't.

    Empty when nothing is to be done.
    """
    stale = [name for name in current if is_own(name) and name not in wanted]
    changed = {name: value for name, value in wanted.items() if current.get(name) != value}
    return {**changed, **dict.fromkeys(stale)}


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
