"""What NVML measures on the GPUs of a node at one moment.

Drivers, GPUs and MIG instances differ in what they answer. A getter that fails, however it does, leaves its
value out; whether the GPU is well is `health`'s to say.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any, Literal, TypeVar

import pynvml

from gpuyard.devices.nvml.activity import ActivityMeter
from gpuyard.devices.nvml.fields import field_values
from gpuyard.devices.nvml.library import GONE, gone
from gpuyard.devices.readings import THROTTLE_REASONS, GpuProcess, Reading

_MIB = 1 << 20
_T = TypeVar("_T")
#: nvmlClocksEventReasons of nvml.h; the bits below say that it is idle, or that somebody chose its clocks.
_THROTTLE_BITS = {0x04 << place: name for place, name in enumerate(THROTTLE_REASONS)}
#: What the driver says for the GPU instance of a process on a whole GPU.
_WHOLE_GPU = (0, 0xFFFFFFFF)
_ALL_LINKS = 0xFFFFFFFF
_FIELDS = (
    pynvml.NVML_FI_DEV_MEMORY_TEMP,
    pynvml.NVML_FI_DEV_TEMPERATURE_SLOWDOWN_TLIMIT,
    (pynvml.NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_TX, _ALL_LINKS),
    (pynvml.NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_RX, _ALL_LINKS),
)
#: The newest first: drivers of before 510 and before 470 lack them.
_COMPUTE = (pynvml.nvmlDeviceGetComputeRunningProcesses_v3, pynvml.nvmlDeviceGetComputeRunningProcesses_v2)
_GRAPHICS = (pynvml.nvmlDeviceGetGraphicsRunningProcesses_v3, pynvml.nvmlDeviceGetGraphicsRunningProcesses_v2)
_MPS = (
    pynvml.nvmlDeviceGetMPSComputeRunningProcesses_v3,
    pynvml.nvmlDeviceGetMPSComputeRunningProcesses_v2,
)


def read_all(uuids: Collection[str], meter: ActivityMeter) -> dict[str, Reading]:
    """By UUID, of GPUs and MIG instances; without those that don't answer.

    NVML has to be open. May block on the driver: call it in a thread, the one that the meter belongs to.

    Raises:
        DriverGone: NVML has to be started anew.
    """
    meter.keep(uuids)
    return {uuid: _read(uuid, handle, meter) for uuid, handle in _handles(uuids)}


def read_processes(uuids: Iterable[str]) -> dict[str, tuple[GpuProcess, ...]]:
    """Which have each GPU or MIG instance open; else as `read_all`."""
    return {uuid: _processes(handle) for uuid, handle in _handles(uuids)}


def _handles(uuids: Iterable[str]) -> Iterator[tuple[str, Any]]:
    for uuid in uuids:
        try:
            yield uuid, pynvml.nvmlDeviceGetHandleByUUID(uuid)
        except GONE as error:
            raise gone(error) from error
        except pynvml.NVMLError:
            continue


def _read(uuid: str, handle: Any, meter: ActivityMeter) -> Reading:
    busy = _ask(pynvml.nvmlDeviceGetUtilizationRates, handle)
    encoder = _ask(pynvml.nvmlDeviceGetEncoderUtilization, handle)
    decoder = _ask(pynvml.nvmlDeviceGetDecoderUtilization, handle)
    power_mw = _ask(pynvml.nvmlDeviceGetPowerUsage, handle)
    rows = _ask(pynvml.nvmlDeviceGetRemappedRows, handle) or (None, None, None, None)
    used_mib, free_mib, reserved_mib = _memory(handle)
    celsius = _ask(pynvml.nvmlDeviceGetTemperature, handle, pynvml.NVML_TEMPERATURE_GPU)
    memory_c, slowdown_c, sent_kib, received_kib = _ask(field_values, handle, _FIELDS) or (None,) * 4
    carried_kib = None if sent_kib is None or received_kib is None else sent_kib + received_kib
    return Reading(
        utilisation_percent=busy.gpu if busy else None,
        memory_busy_percent=busy.memory if busy else None,
        encoder_percent=encoder[0] if encoder else None,
        decoder_percent=decoder[0] if decoder else None,
        memory_used_mib=used_mib,
        memory_free_mib=free_mib,
        memory_reserved_mib=reserved_mib,
        temperature_c=celsius,
        memory_temperature_c=memory_c,
        temperature_limit_c=_slowdown_c(handle, celsius, slowdown_c),
        power_w=None if power_mw is None else power_mw / 1000,
        energy_mj=_ask(pynvml.nvmlDeviceGetTotalEnergyConsumption, handle),
        sm_clock_mhz=_ask(pynvml.nvmlDeviceGetClockInfo, handle, pynvml.NVML_CLOCK_SM),
        memory_clock_mhz=_ask(pynvml.nvmlDeviceGetClockInfo, handle, pynvml.NVML_CLOCK_MEM),
        pcie_replays=_ask(pynvml.nvmlDeviceGetPcieReplayCounter, handle),
        correctable_remapped_rows=rows[0],
        uncorrectable_remapped_rows=rows[1],
        row_remap_failed=None if rows[3] is None else bool(rows[3]),
        throttle_reasons=_throttle_reasons(handle),
        nvlink_mib_per_s=meter.link_mib_per_s(uuid, carried_kib),
        vgpu_licensed=None if uuid.startswith("MIG-") else _vgpu_licensed(handle),
        **meter.measure(uuid, handle),
    )


def _slowdown_c(handle: Any, celsius: int | None, margin_then: int | None) -> int | None:
    """From where on the GPU slows down; from Ada on drivers say how far away it is, in their own zero."""
    threshold = pynvml.NVML_TEMPERATURE_THRESHOLD_SLOWDOWN
    limit = _ask(pynvml.nvmlDeviceGetTemperatureThreshold, handle, threshold)
    if limit is not None or celsius is None or margin_then is None:
        return limit
    margin = _ask(pynvml.nvmlDeviceGetMarginTemperature, handle)
    return None if margin is None else celsius + margin - margin_then


def _vgpu_licensed(handle: Any) -> bool | None:
    """Whether any feature of vGPU has its license; a GPU that needs none has none."""
    found = pynvml.c_nvmlGridLicensableFeatures_v4_t()
    try:
        # pynvml doesn't have it.
        outcome = pynvml.nvmlLib.nvmlDeviceGetGridLicensableFeatures_v4(handle, ctypes.byref(found))
    except AttributeError:
        return None
    features = found.gridLicensableFeatures[: found.licensableFeaturesCount]
    return any(each.featureState for each in features) if outcome == pynvml.NVML_SUCCESS else None


def _ask(getter: Callable[..., _T], *args: Any) -> _T | None:
    try:
        return getter(*args)
    except pynvml.NVMLError:
        return None


def _first(getters: Iterable[Callable[..., _T]], handle: Any) -> _T | None:
    """What the first getter answers that this driver has."""
    for getter in getters:
        try:
            return getter(handle)
        except pynvml.NVMLError_FunctionNotFound:
            continue
        except pynvml.NVMLError:
            return None
    return None


def _memory(handle: Any) -> tuple[int | None, int | None, int | None]:
    """What is used, free and reserved."""
    # Without its second version, from driver 510 on, what is reserved counts as used.
    found = _ask(pynvml.nvmlDeviceGetMemoryInfo, handle, pynvml.nvmlMemory_v2)
    memory = found or _ask(pynvml.nvmlDeviceGetMemoryInfo, handle)
    if memory is None:
        return None, None, None
    reserved = None if found is None else found.reserved // _MIB
    return memory.used // _MIB, memory.free // _MIB, reserved


def _throttle_reasons(handle: Any) -> tuple[str, ...]:
    # The same by its name of before driver 535.
    getters = (
        pynvml.nvmlDeviceGetCurrentClocksEventReasons,
        pynvml.nvmlDeviceGetCurrentClocksThrottleReasons,
    )
    mask = _first(getters, handle) or 0
    return tuple(name for bit, name in _THROTTLE_BITS.items() if mask & bit)


def _processes(handle: Any) -> tuple[GpuProcess, ...]:
    """Each process once for each GPU instance, though several lists have it."""
    found: dict[tuple[int, int | None], GpuProcess] = {}
    for process in _listed(handle):
        found.setdefault((process.pid, process.gi_id), process)
    return tuple(found.values())


def _listed(handle: Any) -> Iterator[GpuProcess]:
    kinds: tuple[tuple[Literal["compute", "graphics"], Any], ...]
    kinds = (("compute", _COMPUTE), ("compute", _MPS), ("graphics", _GRAPHICS))
    for kind, getters in kinds:
        for each in _first(getters, handle) or ():
            used, instance = each.usedGpuMemory, each.gpuInstanceId
            yield GpuProcess(
                pid=each.pid,
                memory_mib=None if used is None else used // _MIB,
                kind=kind,
                gi_id=None if instance in _WHOLE_GPU else instance,
            )
