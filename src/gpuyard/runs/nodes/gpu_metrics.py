"""A node's GPUs as its agent's metrics tell of them (pure).

The names are dcgm-exporter's, and ours where that has none: see `agent.metrics.families`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from gpuyard.gpus.faults import GpuFault
from gpuyard.gpus.occupants import Occupant
from gpuyard.kube.timestamps import format_time
from gpuyard.metrics_text import MetricSample
from gpuyard.runs.nodes.gpu_node import GpuLink, GpuLoad, GpuPart, GpuUser, NodeGpu

#: Which run a pod belongs to, by its namespace and name.
RunsOfPods = Mapping[tuple[str, str], str]

_INFO, _LINK, _PART = "gpuyard_gpu_info", "gpuyard_gpu_nvlinks", "gpuyard_mig_instance_info"
_POD_MEMORY, _MIB = "gpuyard_pod_gpu_memory_bytes", 1 << 20
_UNOFFERED = "gpuyard_gpu_unoffered"
_ALLOCATION, _FAULT = "gpuyard_allocation", "gpuyard_gpu_fault_since_seconds"
_MILLIJOULES = "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION"
#: Metric → field of a load.
_MEASURED = {
    "DCGM_FI_DEV_GPU_UTIL": "utilisation_percent",
    "DCGM_FI_DEV_FB_USED": "memory_used_mib",
    "DCGM_FI_DEV_POWER_USAGE": "power_w",
    "DCGM_FI_DEV_GPU_TEMP": "temperature_c",
}
#: More than a node has. What is drawn and compared grows with their square.
_MAX_GPUS = 128
#: Of one GPU: more than there is room for on any.
_MAX_PARTS = 16
_MIG = {"enabled": "on", "disabled": "off"}


def gpus_of(
    samples: Iterable[MetricSample],
    faults: Sequence[GpuFault] = (),
    runs: RunsOfPods | None = None,
    occupants: Sequence[Occupant] = (),
) -> tuple[NodeGpu, ...]:
    """The GPUs that the samples are about, by index.

    Args:
        samples: of one node.
        faults: as the node's annotation names them; where it doesn't the samples count.
        runs: for the names of those that the GPUs are allotted to.
        occupants: who else is on the node's GPUs.
    """
    by_uuid: dict[str, list[MetricSample]] = {}
    for sample in samples:
        uuid = sample.labels.get("UUID")
        if uuid and (uuid in by_uuid or len(by_uuid) < _MAX_GPUS):
            by_uuid.setdefault(uuid, []).append(sample)
    indexes = {uuid: _index(of_gpu) for uuid, of_gpu in by_uuid.items()}
    links = _links((sample for of_gpu in by_uuid.values() for sample in of_gpu), indexes)
    found = [
        replace(
            _gpu(indexes[uuid], uuid, of_gpu, faults, runs or {}),
            links=tuple(links.get(indexes[uuid], ())),
            occupants=tuple(each for each in occupants if each.index == indexes[uuid]),
        )
        for uuid, of_gpu in by_uuid.items()
    ]
    return tuple(sorted(found, key=lambda gpu: (gpu.index, gpu.uuid)))


def _gpu(
    index: int, uuid: str, samples: Sequence[MetricSample], faults: Sequence[GpuFault], runs: RunsOfPods
) -> NodeGpu:
    own = [sample for sample in samples if not sample.labels.get("GPU_I_ID")]
    parts: dict[str, list[MetricSample]] = {}
    for sample in samples:
        part = sample.labels.get("GPU_I_ID")
        if part and (part in parts or len(parts) < _MAX_PARTS):
            parts.setdefault(part, []).append(sample)
    info = next((sample.labels for sample in own if sample.name == _INFO), {})
    return NodeGpu(
        index=index,
        uuid=uuid,
        model=info.get("model", ""),
        product=_label(samples, "modelName"),
        fault=next((fault for fault in faults if fault.uuid == uuid), None) or _fault(index, uuid, own),
        pci_bus_id=_label(samples, "pci_bus_id"),
        numa_node=_whole(info.get("numa_node", "")),
        mig=_MIG.get(info.get("mig", ""), info.get("mig", "")),
        sharing=info.get("sharing") or "none",
        replicas=_whole(info.get("replicas", "")) or 1,
        unoffered=next((sample.labels.get("reason", "") for sample in own if sample.name == _UNOFFERED), ""),
        load=_load(own, _whole(info.get("memory_mib", ""))),
        users=_users(own, runs),
        parts=tuple(
            _part(name, of_part, runs) for name, of_part in sorted(parts.items(), key=lambda p: _order(p[0]))
        ),
    )


def _part(gi_id: str, samples: Sequence[MetricSample], runs: RunsOfPods) -> GpuPart:
    info = next((sample.labels for sample in samples if sample.name == _PART), {})
    place = f"{info.get('start', '')}:{info.get('size', '')}" if info else ""
    return GpuPart(
        gi_id=gi_id,
        profile=_label(samples, "GPU_I_PROFILE"),
        uuid=info.get("instance", ""),
        index=-1 if (index := _whole(info.get("index", ""))) is None else index,
        placement=place,
        sharing=info.get("sharing") or "none",
        replicas=_whole(info.get("replicas", "")) or 1,
        users=_users(samples, runs),
        load=_load(samples, _whole(info.get("memory_mib", ""))),
    )


def _load(samples: Iterable[MetricSample], memory_mib: int | None) -> GpuLoad:
    values = {sample.name: sample.value for sample in samples}
    millijoules = values.get(_MILLIJOULES)
    return replace(
        GpuLoad(**{field: values.get(name) for name, field in _MEASURED.items()}),
        memory_mib=memory_mib,
        energy_j=None if millijoules is None else millijoules / 1000,
    )


def _users(samples: Sequence[MetricSample], runs: RunsOfPods) -> tuple[GpuUser, ...]:
    memory = {
        (sample.labels.get("namespace", ""), sample.labels.get("pod", "")): sample.value / _MIB
        for sample in samples
        if sample.name == _POD_MEMORY
    }
    found: dict[GpuUser, None] = {}
    for sample in samples:
        labels = sample.labels
        if sample.name == _ALLOCATION and (pod := labels.get("pod")):
            namespace = labels.get("namespace", "")
            run = runs.get((namespace, pod), "")
            user = GpuUser(namespace, pod, labels.get("container", ""), run, memory.get((namespace, pod)))
            found[user] = None
    return tuple(found)


def _fault(index: int, uuid: str, samples: Iterable[MetricSample]) -> GpuFault | None:
    for sample in samples:
        if sample.name == _FAULT:
            return GpuFault(index, uuid, sample.labels.get("reason", ""), _moment(sample.value))
    return None


def _moment(seconds: float) -> str:
    try:
        return format_time(datetime.fromtimestamp(seconds, UTC)) if seconds > 0 else ""
    except (OverflowError, ValueError, OSError):
        return ""


def _links(samples: Iterable[MetricSample], indexes: Mapping[str, int]) -> dict[int, list[GpuLink]]:
    """Of each GPU, by index; agents name each pair once."""
    found: dict[int, list[GpuLink]] = {}
    for sample in samples:
        one, other = (indexes.get(sample.labels.get(name, ""), -1) for name in ("UUID", "peer"))
        if sample.name == _LINK and min(one, other) >= 0:
            nvlinks, pcie = int(sample.value), sample.labels.get("pcie", "")
            found.setdefault(one, []).append(GpuLink(other, nvlinks, pcie))
            found.setdefault(other, []).append(GpuLink(one, nvlinks, pcie))
    return found


def _index(samples: Iterable[MetricSample]) -> int:
    index = _whole(_label(samples, "gpu"))
    return -1 if index is None else index


def _order(text: str) -> tuple[int, str]:
    return _whole(text) or 0, text


def _label(samples: Iterable[MetricSample], name: str) -> str:
    return next((text for sample in samples if (text := sample.labels.get(name))), "")


def _whole(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None
