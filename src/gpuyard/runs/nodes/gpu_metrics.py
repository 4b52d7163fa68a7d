"""A node's GPUs as its agent's metrics tell of them (pure).

The names are dcgm-exporter's, and ours where that has none: see docs/reference/metrics.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from gpuyard.gpus.faults import GpuFault
from gpuyard.runs.nodes.gpu_node import GpuLoad, GpuPart, GpuUser, NodeGpu
from gpuyard.runs.nodes.metrics_text import MetricSample

#: Which run a pod belongs to, by its namespace and name.
RunsOfPods = Mapping[tuple[str, str], str]

_MILLIJOULES = "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION"
#: Metric → field of a load.
_MEASURED = {
    "DCGM_FI_DEV_GPU_UTIL": "utilisation_percent",
    "DCGM_FI_DEV_FB_USED": "memory_used_mib",
    "DCGM_FI_DEV_POWER_USAGE": "power_w",
    "DCGM_FI_DEV_GPU_TEMP": "temperature_c",
}
_MEMORY = ("DCGM_FI_DEV_FB_USED", "DCGM_FI_DEV_FB_FREE", "DCGM_FI_DEV_FB_RESERVED")


def gpus_of(
    samples: Iterable[MetricSample], faults: Sequence[GpuFault] = (), runs: RunsOfPods | None = None
) -> tuple[NodeGpu, ...]:
    """The GPUs that the samples are about, by index.

    Args:
        samples: of one node.
        faults: of the node's GPUs.
        runs: for the names of those that the GPUs are allotted to.
    """
    by_uuid: dict[str, list[MetricSample]] = {}
    for sample in samples:
        if uuid := sample.labels.get("UUID"):
            by_uuid.setdefault(uuid, []).append(sample)
    found = (_gpu(uuid, of_gpu, faults, runs or {}) for uuid, of_gpu in by_uuid.items())
    return tuple(sorted(found, key=lambda gpu: (gpu.index, gpu.uuid)))


def _gpu(uuid: str, samples: Sequence[MetricSample], faults: Sequence[GpuFault], runs: RunsOfPods) -> NodeGpu:
    own = [sample for sample in samples if not sample.labels.get("GPU_I_ID")]
    parts: dict[str, list[MetricSample]] = {}
    for sample in samples:
        if part := sample.labels.get("GPU_I_ID"):
            parts.setdefault(part, []).append(sample)
    index = _whole(_label(samples, "gpu"))
    return NodeGpu(
        index=-1 if index is None else index,
        uuid=uuid,
        product=_label(samples, "modelName"),
        pci_bus_id=_label(samples, "pci_bus_id"),
        fault=next((fault for fault in faults if fault.uuid == uuid), None),
        load=_load(own),
        users=_users(own, runs),
        parts=tuple(_part(name, of_part, runs) for name, of_part in sorted(parts.items())),
    )


def _part(gi_id: str, samples: Sequence[MetricSample], runs: RunsOfPods) -> GpuPart:
    return GpuPart(gi_id, _label(samples, "GPU_I_PROFILE"), users=_users(samples, runs), load=_load(samples))


def _load(samples: Iterable[MetricSample]) -> GpuLoad:
    values = {sample.name: sample.value for sample in samples}
    memory = [values[name] for name in _MEMORY if name in values]
    millijoules = values.get(_MILLIJOULES)
    return replace(
        GpuLoad(**{field: values.get(name) for name, field in _MEASURED.items()}),
        memory_mib=sum(memory) if len(memory) > 1 else None,
        energy_j=None if millijoules is None else millijoules / 1000,
    )


def _users(samples: Iterable[MetricSample], runs: RunsOfPods) -> tuple[GpuUser, ...]:
    found: dict[GpuUser, None] = {}
    for sample in samples:
        namespace, pod = sample.labels.get("namespace", ""), sample.labels.get("pod", "")
        if pod:
            user = GpuUser(namespace, pod, sample.labels.get("container", ""), runs.get((namespace, pod), ""))
            found[user] = None
    return tuple(found)


def _label(samples: Iterable[MetricSample], name: str) -> str:
    return next((text for sample in samples if (text := sample.labels.get(name))), "")


def _whole(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() else None
