"""Every metric of the exporter: its name, its kind, and what it says (pure).

Those of dcgm-exporter have its names, units and labels, so that dashboards and alerts for it work; ours begin
with `gpuyard_`. docs/reference/metrics.md is made of this table.
Source of the names: NVIDIA/dcgm-exporter etc/default-counters.csv, and dcgm_fields.h.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


# Each is itself alone: comparing them by their texts would take a third of the time of a scrape.
@dataclass(frozen=True, eq=False)
class Family:
    """One metric.

    Attributes:
        name: as Prometheus knows it.
        kind: a counter only grows, until its process or driver starts anew.
        help: what a value of it is, with the unit.
        labels: that it has beside those that name the node and the GPU.
        reading: the field of a `Reading` that is its value; empty for others.
    """

    name: str
    kind: Literal["gauge", "counter"]
    help: str
    labels: tuple[str, ...] = ()
    reading: str = ""


def _measured(name: str, kind: Literal["gauge", "counter"], reading: str, text: str) -> Family:
    return Family(f"DCGM_FI_DEV_{name}", kind, text, reading=reading)


def _profiled(name: str, reading: str, text: str) -> Family:
    return Family(f"DCGM_FI_PROF_{name}", "gauge", text, reading=reading)


#: Of every GPU, and of every MIG instance that the driver says them of.
MEASURED = (
    _measured("SM_CLOCK", "gauge", "sm_clock_mhz", "Clock of the multiprocessors (MHz)."),
    _measured("MEM_CLOCK", "gauge", "memory_clock_mhz", "Clock of the memory (MHz)."),
    _measured("MEMORY_TEMP", "gauge", "memory_temperature_c", "Temperature of the memory (Celsius)."),
    _measured("GPU_TEMP", "gauge", "temperature_c", "Temperature of the GPU (Celsius)."),
    _measured("POWER_USAGE", "gauge", "power_w", "Power draw of the board (W)."),
    _measured(
        "TOTAL_ENERGY_CONSUMPTION", "counter", "energy_mj", "Energy used since the driver was loaded (mJ)."
    ),
    _measured("PCIE_REPLAY_COUNTER", "counter", "pcie_replays", "PCIe packets that were sent again."),
    _measured("GPU_UTIL", "gauge", "utilisation_percent", "Part of the time in which a kernel ran (%)."),
    _measured(
        "MEM_COPY_UTIL", "gauge", "memory_busy_percent", "Part of the time in which memory was used (%)."
    ),
    _measured("ENC_UTIL", "gauge", "encoder_percent", "How busy the video encoders are (%)."),
    _measured("DEC_UTIL", "gauge", "decoder_percent", "How busy the video decoders are (%)."),
    _measured("FB_FREE", "gauge", "memory_free_mib", "Memory that can be allocated (MiB)."),
    _measured("FB_USED", "gauge", "memory_used_mib", "Memory that processes hold (MiB)."),
    _measured("FB_RESERVED", "gauge", "memory_reserved_mib", "Memory that driver and firmware keep (MiB)."),
    _measured(
        "UNCORRECTABLE_REMAPPED_ROWS",
        "counter",
        "uncorrectable_remapped_rows",
        "Memory rows replaced for errors that couldn't be corrected.",
    ),
    _measured(
        "CORRECTABLE_REMAPPED_ROWS",
        "counter",
        "correctable_remapped_rows",
        "Memory rows replaced for errors that were corrected.",
    ),
    _measured(
        "ROW_REMAP_FAILURE", "gauge", "row_remap_failed", "Whether a bad memory row couldn't be replaced."
    ),
    _measured(
        "NVLINK_BANDWIDTH_TOTAL",
        "gauge",
        "nvlink_mib_per_s",
        "What its NVLinks carry, both ways together (MiB/s); a rate, which dcgm-exporter calls counter.",
    ),
    _measured(
        "VGPU_LICENSE_STATUS",
        "gauge",
        "vgpu_licensed",
        "Whether a virtual GPU has its license; 0 of GPUs that need none.",
    ),
    _profiled("GR_ENGINE_ACTIVE", "engine_active", "Ratio of time the graphics engine is active."),
    _profiled("SM_ACTIVE", "sm_active", "The ratio of cycles an SM has at least 1 warp assigned."),
    _profiled("SM_OCCUPANCY", "sm_occupancy", "The ratio of number of warps resident on an SM."),
    _profiled("PIPE_TENSOR_ACTIVE", "tensor_active", "Ratio of cycles the tensor cores are active."),
    _profiled(
        "DRAM_ACTIVE",
        "memory_active",
        "Ratio of cycles the device memory interface is active sending or receiving data.",
    ),
    _profiled(
        "PCIE_TX_BYTES",
        "pcie_sent_bytes_per_s",
        "What the GPU sent over PCIe, protocol headers and data (bytes per second).",
    ),
    _profiled(
        "PCIE_RX_BYTES",
        "pcie_received_bytes_per_s",
        "What the GPU received over PCIe, protocol headers and data (bytes per second).",
    ),
    Family(
        "gpuyard_gpu_temperature_limit_celsius",
        "gauge",
        "Temperature from which on the GPU slows down (Celsius).",
        reading="temperature_limit_c",
    ),
)
XID_ERRORS = Family(
    "DCGM_FI_DEV_XID_ERRORS",
    "gauge",
    "The last XID that the driver reported since the exporter started; 0 for none.",
)
XIDS = Family(
    "gpuyard_gpu_xids_total",
    "counter",
    "XIDs that the driver reported since the exporter started, the application's own faults too.",
    ("xid",),
)
THROTTLED = Family(
    "gpuyard_gpu_throttled", "gauge", "Whether this holds the GPU's clocks down now.", ("reason",)
)
HEALTHY = Family("gpuyard_gpu_healthy", "gauge", "Whether pods are given the GPU, or the part of it.")
FAULT = Family(
    "gpuyard_gpu_fault_since_seconds",
    "gauge",
    "Since when it is unhealthy (Unix time); only while it is.",
    ("reason",),
)
INFO = Family(
    "gpuyard_gpu_info",
    "gauge",
    "What the GPU is; the value is 1.",
    (
        *("model", "memory_mib", "compute_capability", "numa_node", "driver_version", "cuda_version"),
        *("mig", "simulated", "sharing", "replicas"),
    ),
)
LINK = Family(
    "gpuyard_gpu_nvlinks",
    "gauge",
    "NVLinks to another GPU of the node; `pcie` is how near the two are on PCIe.",
    ("peer", "pcie"),
)
MIG = Family(
    "gpuyard_mig_instance_info",
    "gauge",
    "A part of a GPU; the value is 1.",
    (
        *("instance", "index", "GPU_I_PROFILE", "GPU_I_ID", "start", "size", "memory_mib", "multiprocessors"),
        *("sharing", "replicas"),
    ),
)
UNOFFERED = Family(
    "gpuyard_gpu_unoffered",
    "gauge",
    "The GPU, or a part of it, isn't offered as the agent's options ask; the value is 1.",
    ("reason",),
)
FOREIGN_PROCESSES = Family(
    "gpuyard_gpu_foreign_processes",
    "gauge",
    "Processes on the GPU that no yard and no kubelet started. Only where the agent sees processes.",
)
FOREIGN_MEMORY = Family(
    "gpuyard_gpu_foreign_process_memory_bytes",
    "gauge",
    "Memory of the GPU that these hold (bytes), to the next 64 MiB, or GiB above one.",
)
HOLDERS = Family(
    "gpuyard_gpu_holders",
    "gauge",
    "Containers that were given the GPU, or a part or a share of it; 0: it is free.",
)
ALLOCATION = Family(
    "gpuyard_allocation",
    "gauge",
    "A device that a container was given; the value is 1. Not there while the kubelet never said.",
    ("resource", "device_id", "GPU_I_PROFILE", "GPU_I_ID", "container", "namespace", "pod", "scope"),
)
POD_MEMORY = Family(
    "gpuyard_pod_gpu_memory_bytes",
    "gauge",
    "Memory of a GPU, or of a part of it, that a pod's processes have where several pods share it (bytes); "
    "`DCGM_FI_DEV_FB_USED` is what all of them have. Only where the agent sees processes.",
    ("GPU_I_PROFILE", "GPU_I_ID", "namespace", "pod", "scope"),
)
POD_ENERGY = Family(
    "gpuyard_pod_energy_joules_total",
    "counter",
    "Energy of the GPUs that a pod holds while it does (J), since the exporter started. `scope` is `pod`, or "
    "`share` where others hold the same GPU: then it is a part of the GPU's, by memory or in equal parts.",
    ("namespace", "pod", "scope"),
)
BACKEND_UP = Family(
    "gpuyard_driver_up",
    "gauge",
    "Whether the GPUs' driver answers; else what was known is served.",
    ("detail",),
)
POD_RESOURCES_UP = Family(
    "gpuyard_pod_resources_up",
    "gauge",
    "Whether the kubelet says which pods hold GPUs; else what it said last is served.",
)
POD_RESOURCES_AGE = Family(
    "gpuyard_pod_resources_age_seconds", "gauge", "How old that is (s); not there while it never said."
)
AGENT = Family("gpuyard_agent_info", "gauge", "The exporter; the value is 1.", ("version", "backend"))
CPU = Family("process_cpu_seconds_total", "counter", "Processor time of the exporter (s).")
RESIDENT = Family("process_resident_memory_bytes", "gauge", "Memory of the exporter (bytes).")

FAMILIES = (
    *MEASURED,
    *(XID_ERRORS, XIDS, THROTTLED, HEALTHY, FAULT, INFO, LINK, MIG, UNOFFERED, HOLDERS, ALLOCATION),
    *(FOREIGN_PROCESSES, FOREIGN_MEMORY, POD_MEMORY, POD_ENERGY),
    *(BACKEND_UP, POD_RESOURCES_UP, POD_RESOURCES_AGE, AGENT, CPU, RESIDENT),
)
#: Of the node itself, in both spellings that are about.
NODE_LABELS = ("Hostname", "hostname")
#: Of a GPU; those of a part of it are its GPU's.
GPU_LABELS = ("gpu", "UUID", "pci_bus_id", "device", "modelName")
#: Of what was measured, beside these.
MEASURED_LABELS = ("GPU_I_PROFILE", "GPU_I_ID", "container", "namespace", "pod", "scope")
