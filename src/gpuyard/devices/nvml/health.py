"""Which GPUs of the NVML backend are healthy, from the driver's events and from asking them.

A GPU is unhealthy once the driver reports an XID (or an uncorrectable ECC error) that isn't the
application's fault, and as long as it doesn't answer, can't be opened, or is as hot as it may ever get. It is
healthy again when it has answered for a while without another fault and needs no reset.

With MIG a fault that the driver reports of one GPU instance makes what is in that instance unhealthy, and
leaves the GPU's others alone, unless it is of a kind that all of the GPU has.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import pynvml

from gpuyard.devices.driver_thread import DriverThread
from gpuyard.devices.health import GpuState, HealthTracker, Pace, log_changes
from gpuyard.devices.inventory import Device, Health
from gpuyard.devices.nvml.fields import field_values
from gpuyard.devices.nvml.library import GONE, ask, gone
from gpuyard.devices.nvml.mig import mig_changed
from gpuyard.devices.nvml.presence import Presence
from gpuyard.gpus import faults

#: Faults of the application, not of the GPU, as NVIDIA's own device plugin has them.
#: https://docs.nvidia.com/deploy/xid-errors: 13 graphics engine exception, 31 memory page fault, 43 reset
#: by the application, 45 preemptive cleanup, 68 video processor exception, 109 context switch timeout.
IGNORED_XIDS = frozenset({13, 31, 43, 45, 68, 109})

#: Faults that all of a GPU has, in whichever instance they were noticed, of the same source: its firmware and
#: micro-controllers (38, 46, 61, 62, 110, 119, 120, 143), memory that is no longer contained or needs a reset
#: (48, 63, 64, 92, 95, 140), power, bus and links (54, 74, 79, 121, 136).
GPU_WIDE_XIDS = frozenset({38, 46, 48, 54, 61, 62, 63, 64, 74, 79, 92, 95, 110, 119, 120, 121, 136, 140, 143})
#: gpuInstanceId of an event that is no instance's.
_NO_INSTANCE = frozenset({0, 0xFFFFFFFF})

_LOG = logging.getLogger(__name__)


class _GpuEvent(NamedTuple):
    """What the driver reported. `xid` is None for an uncorrectable ECC error."""

    uuid: str
    xid: int | None
    gi_id: int = 0


async def watch_health(
    gpus: Sequence[Device],
    presence: Presence,
    thread: DriverThread,
    health: HealthTracker,
    pace: Pace,
    *,
    for_s: float | None = None,
) -> AsyncGenerator[Mapping[str, Health], None]:
    """What is unhealthy by UUID, GPUs and MIG instances, with the reason, whenever that has changed.

    NVML has to be open, and to stay so until closed. It ends when the GPUs have to be read anew: there are
    others, or one is split in another way.

    Args:
        gpus: as they were read.
        presence: taken just before.
        thread: makes all calls into the driver.
        health: what is known of the GPUs; the first yield says how that has changed.
        pace: how often the driver is asked.
        for_s: ends after so long at the latest; None for never.

    Raises:
        DriverGone: NVML has to be started anew.
        DriverHangs: a call hasn't come back.
    """
    loop = asyncio.get_running_loop()
    health.forget_others(uuid for gpu in gpus for uuid in _uuids(gpu))
    shown, begun, said = health.unhealthy, loop.time(), ""
    last_probe = begun - pace.probe_s
    events = await thread.call(_subscribe, heard := [gpu.uuid for gpu in gpus])
    try:
        while for_s is None or loop.time() - begun < for_s:
            found, fault = await _next_events(thread, events, pace.wait_s)
            if fault and fault != said:
                _LOG.warning("waiting for GPU events failed (%s): asking each GPU", fault)
            said = fault
            for event in found:
                if event is not None:
                    _take(event, gpus, health, loop.time())
                if event is None or event.xid not in IGNORED_XIDS:
                    # Each is asked below: after None, which stands for all, it is all that is known.
                    last_probe = loop.time() - pace.probe_s
            # Before they are asked: that may take longer than it takes to be well again.
            if health.unhealthy != shown:
                log_changes(shown, health.unhealthy)
                shown = health.unhealthy
                yield shown
            if loop.time() - last_probe >= pace.probe_s:
                last_probe = loop.time()
                answering = await _ask_each(gpus, presence, thread, health)
                if events is not None and answering != heard:
                    # While a lost GPU is among those that are waited for, no event of another comes.
                    old, events = events, await thread.call(_subscribe, heard := answering)
                    await thread.call(_free, old)
                if await thread.call(presence.has_changed) or await thread.call(mig_changed, gpus):
                    return
    finally:
        if events is not None:
            await thread.finish(_free, events)


async def _ask_each(
    gpus: Iterable[Device], presence: Presence, thread: DriverThread, health: HealthTracker
) -> list[str]:
    """The UUIDs of those that aren't lost."""
    loop = asyncio.get_running_loop()
    answering = []
    for gpu in gpus:
        answer = await thread.call(_probe, gpu, presence)
        for uuid in _uuids(gpu):
            # What isn't well in its own right is as well as its GPU.
            if uuid == gpu.uuid or uuid in health.unhealthy:
                health.probed(uuid, answer, loop.time())
        if answer.fault != faults.LOST:
            answering.append(gpu.uuid)
    return answering


def _uuids(gpu: Device) -> Iterator[str]:
    """Of a GPU and of its parts."""
    yield gpu.uuid
    for instance in gpu.mig.instances if gpu.mig else ():
        yield instance.uuid


def _take(event: _GpuEvent, gpus: Iterable[Device], health: HealthTracker, now_s: float) -> None:
    hit = {event.uuid}
    if event.gi_id not in _NO_INSTANCE and event.xid is not None and event.xid not in GPU_WIDE_XIDS:
        splits = [gpu.mig for gpu in gpus if gpu.uuid == event.uuid and gpu.mig]
        # An instance that isn't known is one of before, or of a moment ago: then all of the GPU counts.
        hit = {each.uuid for mig in splits for each in mig.instances if each.gi_id == event.gi_id} or hit
    if event.xid is not None:
        for uuid in hit | {event.uuid}:
            health.xids.add(uuid, event.xid)
    if event.xid not in IGNORED_XIDS:
        for uuid in sorted(hit):
            health.fault(uuid, faults.ECC if event.xid is None else faults.xid(event.xid), now_s)


async def _next_events(
    thread: DriverThread, events: Any, wait_s: float
) -> tuple[Sequence[_GpuEvent | None], str]:
    """The next events, none after a while; and why there can't be any."""
    if events is None:
        await asyncio.sleep(wait_s)
        return (), ""
    try:
        return await thread.call(_wait, events, int(wait_s * 1000)), ""
    except pynvml.NVMLError as error:
        await asyncio.sleep(wait_s)
        return [None], str(error)


def _subscribe(uuids: Iterable[str]) -> Any:
    """An event set for the faults of these GPUs; None when the driver has no events."""
    try:
        events = pynvml.nvmlEventSetCreate()
    except pynvml.NVMLError as error:
        _LOG.warning("the driver has no events (%s): GPUs are only asked whether they answer", error)
        return None
    wanted = pynvml.nvmlEventTypeXidCriticalError | pynvml.nvmlEventTypeDoubleBitEccError
    for uuid in uuids:
        try:
            handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)
            kinds = ask(wanted, pynvml.nvmlDeviceGetSupportedEventTypes, handle) & wanted
            if kinds:
                pynvml.nvmlDeviceRegisterEvents(handle, kinds, events)
        except pynvml.NVMLError as error:
            _LOG.warning("GPU %s has no fault events: %s", uuid, error)
    return events


def _free(events: Any) -> None:
    try:
        pynvml.nvmlEventSetFree(events)
    except pynvml.NVMLError as error:
        _LOG.warning("the driver doesn't take back its events: %s", error)


def _wait(events: Any, wait_ms: int) -> list[_GpuEvent | None]:
    try:
        event = pynvml.nvmlEventSetWait(events, wait_ms)
    except pynvml.NVMLError_Timeout:
        return []
    except GONE as error:
        raise gone(error) from error
    is_xid = event.eventType == pynvml.nvmlEventTypeXidCriticalError
    try:
        uuid: str = pynvml.nvmlDeviceGetUUID(event.device)
    except (pynvml.NVMLError, UnicodeDecodeError):
        return [None]
    return [_GpuEvent(uuid, event.eventData if is_xid else None, event.gpuInstanceId)]


def _probe(gpu: Device, presence: Presence) -> GpuState:
    try:
        handle = pynvml.nvmlDeviceGetHandleByUUID(gpu.uuid)
        ask(None, pynvml.nvmlDeviceGetPciInfo, handle)
        ask(None, pynvml.nvmlDeviceGetMemoryInfo, handle)
        pages = ask(0, pynvml.nvmlDeviceGetRetiredPagesPendingStatus, handle)
        _, _, pending, failed = ask((0, 0, 0, 0), pynvml.nvmlDeviceGetRemappedRows, handle)
    except GONE as error:
        raise gone(error) from error
    except pynvml.NVMLError_ResetRequired:
        return GpuState(fault=faults.RESET_REQUIRED)
    except pynvml.NVMLError_NoPermission:
        return GpuState(fault=faults.NO_PERMISSION)
    except (pynvml.NVMLError_GpuIsLost, pynvml.NVMLError_NotFound):
        return GpuState(fault=faults.LOST)
    except pynvml.NVMLError as error:
        return GpuState(fault=f"no answer: {error}")
    if failed:
        return GpuState(fault=faults.ROW_REMAP_FAILED)
    if fault := presence.node_fault(gpu) or _heat(handle):
        return GpuState(fault=fault)
    if pending:
        return GpuState(pending=faults.ROW_REMAP_PENDING)
    return GpuState(pending=faults.PAGES_PENDING) if pages else GpuState()


def _heat(handle: Any) -> str:
    """HOT at the temperature at which the GPU switches itself off.

    At the slowdown temperature below it the GPU runs slower by itself, and nothing is unsafe: metrics show
    that. One that doesn't say how warm it is isn't faulty for that.
    """
    try:
        return faults.HOT if _is_past_margin(handle) or _is_past_threshold(handle) else ""
    except GONE as error:
        raise gone(error) from error


def _is_past_margin(handle: Any) -> bool:
    """From Ada on: how far it is to the highest temperature to work at, and how far beyond it goes off."""
    try:
        (shutdown,) = field_values(handle, [pynvml.NVML_FI_DEV_TEMPERATURE_SHUTDOWN_TLIMIT])
        # A driver that answers 0 doesn't know: the end of what it may work at isn't where it goes off.
        return bool(shutdown and pynvml.nvmlDeviceGetMarginTemperature(handle) <= shutdown)
    except GONE:
        raise
    except pynvml.NVMLError:
        return False


def _is_past_threshold(handle: Any) -> bool:
    shutdown = pynvml.NVML_TEMPERATURE_THRESHOLD_SHUTDOWN
    try:
        limit_c = pynvml.nvmlDeviceGetTemperatureThreshold(handle, shutdown)
        return (
            bool(limit_c) and pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU) >= limit_c
        )
    except GONE:
        raise
    except pynvml.NVMLError:
        return False
