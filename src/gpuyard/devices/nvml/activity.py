"""How busy the parts of GPUs were from one look to the next: NVML's GPM, and NVLink's counters.

GPM is what GPUs have from Hopper on. It reads counters of the GPU, which any number of readers may do at a
time; DCGM gets its `PROF` fields from it, too.
Source: nvml.h, "GPM Functions"; NVIDIA/DCGM dcgmlib/src/DcgmGpmManager.cpp.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pynvml

_MIB = 1 << 20
#: Metrics that are parts of a hundred.
_PERCENT = {
    pynvml.NVML_GPM_METRIC_GRAPHICS_UTIL: "engine_active",
    pynvml.NVML_GPM_METRIC_SM_UTIL: "sm_active",
    pynvml.NVML_GPM_METRIC_SM_OCCUPANCY: "sm_occupancy",
    pynvml.NVML_GPM_METRIC_ANY_TENSOR_UTIL: "tensor_active",
    pynvml.NVML_GPM_METRIC_DRAM_BW_UTIL: "memory_active",
}
#: Those that are MiB in a second.
_MIB_PER_S = {
    pynvml.NVML_GPM_METRIC_PCIE_TX_PER_SEC: "pcie_sent_bytes_per_s",
    pynvml.NVML_GPM_METRIC_PCIE_RX_PER_SEC: "pcie_received_bytes_per_s",
}
_METRICS = (*_PERCENT, *_MIB_PER_S)
#: What says that this process will never get it of this GPU and this driver.
_NEVER = (
    pynvml.NVMLError_NotSupported,
    pynvml.NVMLError_FunctionNotFound,
    pynvml.NVMLError_NoPermission,
)


@dataclass
class _Samples:
    """Buffers of NVML's: what was sampled last, and the one before, in whose place the next one goes."""

    last: Any = None
    spare: Any = None


class ActivityMeter:
    """Keeps what each GPU and MIG instance counted at the last look. It belongs to one thread.

    Args:
        seconds: a steady clock.
    """

    def __init__(self, seconds: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._samples: dict[str, _Samples] = {}
        self._links: dict[str, tuple[float, int]] = {}
        self._without: set[str] = set()
        self._asked = pynvml.c_nvmlGpmMetricsGet_t()

    def measure(self, uuid: str, handle: Any) -> dict[str, Any]:
        """Fields of a `Reading`, from the last look to now: none at the first, and where there is no GPM.

        Args:
            uuid: of the GPU or MIG instance.
            handle: NVML's of it.
        """
        if uuid in self._without:
            return {}
        is_part = uuid.startswith("MIG-")
        try:
            if (samples := self._samples.get(uuid)) is None:
                (_check_part if is_part else _check_gpu)(handle)
                samples = self._samples[uuid] = _Samples()
            if samples.spare is None:
                samples.spare = pynvml.nvmlGpmSampleAlloc()
            (_sample_part if is_part else pynvml.nvmlGpmSampleGet)(handle, samples.spare)
            samples.last, samples.spare = samples.spare, samples.last
            return {} if samples.spare is None else self._between(samples.spare, samples.last)
        except pynvml.NVMLError as error:
            if isinstance(error, _NEVER):
                self._without.add(uuid)
            self._forget(uuid)
            return {}

    def link_mib_per_s(self, uuid: str, kib: int | None) -> int | None:
        """How much its NVLinks carried from the last look to now; `kib` is what they have carried so far."""
        now_s = self._seconds()
        before = self._links.pop(uuid, None)
        if kib is None:
            return None
        self._links[uuid] = now_s, kib
        if before is None or kib < before[1] or now_s <= before[0]:
            return None
        return round((kib - before[1]) / 1024 / (now_s - before[0]))

    def keep(self, uuids: Collection[str]) -> None:
        """Forgets all others."""
        for uuid in self._samples.keys() - uuids:
            self._forget(uuid)
        self._without.intersection_update(uuids)
        self._links = {uuid: each for uuid, each in self._links.items() if uuid in uuids}

    def _between(self, one: Any, other: Any) -> dict[str, float]:
        asked = self._asked
        asked.version = pynvml.NVML_GPM_METRICS_GET_VERSION
        asked.numMetrics = len(_METRICS)
        asked.sample1, asked.sample2 = one, other
        for place, number in enumerate(_METRICS):
            asked.metrics[place].metricId = number
        pynvml.nvmlGpmMetricsGet(asked)
        found: dict[str, float] = {}
        for metric in asked.metrics[: len(_METRICS)]:
            value = metric.value
            # It divides by what was counted meanwhile, which may be nothing.
            if metric.nvmlReturn != pynvml.NVML_SUCCESS or not math.isfinite(value) or value < 0:
                continue
            if name := _PERCENT.get(metric.metricId):
                found[name] = round(min(value / 100, 1.0), 6)
            elif name := _MIB_PER_S.get(metric.metricId):
                found[name] = round(value * _MIB)
        return found

    def _forget(self, uuid: str) -> None:
        samples = self._samples.pop(uuid, _Samples())
        for buffer in (samples.last, samples.spare):
            if buffer is not None:
                with suppress(pynvml.NVMLError):
                    pynvml.nvmlGpmSampleFree(buffer)


def _check_gpu(handle: Any) -> None:
    if not pynvml.nvmlGpmQueryDeviceSupport(handle).isSupportedDevice:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)


def _check_part(handle: Any) -> None:
    size = pynvml.nvmlDeviceGetAttributes_v2(handle)
    if size.computeInstanceSliceCount != size.gpuInstanceSliceCount:
        # What is sampled is the GPU instance's, of which this is a piece.
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)


def _sample_part(handle: Any, sample: Any) -> None:
    gpu = pynvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(handle)
    pynvml.nvmlGpmMigSampleGet(gpu, pynvml.nvmlDeviceGetGpuInstanceId(handle), sample)
