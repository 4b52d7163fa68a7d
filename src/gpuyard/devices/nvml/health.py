"""Which GPUs of the NVML backend are healthy, from the driver's events and from asking them.

A GPU is unhealthy once the driver reports an XID (or an uncorrectable ECC error) that isn't the
application's fault, and as long as it doesn't answer. It is healthy again when it has answered for a
while without another fault and needs no reset.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import pynvml

from gpuyard.devices.driver_thread import DriverThread
from gpuyard.devices.health import GpuState, HealthTracker, Pace, log_changes
from gpuyard.devices.inventory import Health
from gpuyard.devices.nvml.library import GONE, ask, gone
from gpuyard.gpus import faults

#: Faults of the application, not of the GPU, as NVIDIA's own device plugin has them.
#: https://docs.nvidia.com/deploy/xid-errors: 13 graphics engine exception, 31 memory page fault, 43 reset
#: by the application, 45 preemptive cleanup, 68 video processor exception, 109 context switch timeout.
IGNORED_XIDS = frozenset({13, 31, 43, 45, 68, 109})

_LOG = logging.getLogger(__name__)
#: UUID and the XID; None for an uncorrectable ECC error.
_Event: TypeAlias = tuple[str, int | None]


async def watch_health(
    uuids: Iterable[str],
    thread: DriverThread,
    health: HealthTracker,
    pace: Pace,
    *,
    changed: Callable[[], bool] = lambda: False,
    for_s: float | None = None,
) -> AsyncGenerator[Mapping[str, Health], None]:
    """The unhealthy GPUs by UUID, with the reason, whenever that has changed.

    NVML has to be open, and to stay so until closed.

    Args:
        uuids: of the GPUs.
        thread: makes all calls into the driver.
        health: what is known of the GPUs; the first yield says how that has changed.
        pace: how often the driver is asked.
        changed: whether the GPUs aren't any more what they were; ends then. Asked as often as the GPUs are.
        for_s: ends after so long; None for never.

    Raises:
        DriverGone: NVML has to be started anew.
        DriverHangs: a call hasn't come back.
    """
    gpus = tuple(uuids)
    loop = asyncio.get_running_loop()
    shown = health.unhealthy
    begun = loop.time()
    last_probe = begun - pace.probe_s
    said = ""
    events = await thread.call(_subscribe, gpus)
    try:
        while for_s is None or loop.time() - begun < for_s:
            found, fault = await _next_events(thread, events, pace.wait_s)
            if fault and fault != said:
                _LOG.warning("waiting for GPU events failed (%s): asking each GPU", fault)
            said = fault
            for event in found:
                if event is not None:
                    _take(event, health, loop.time())
                if event is None or event[1] not in IGNORED_XIDS:
                    # Each is asked below: after None, which stands for all, it is all that is known.
                    last_probe = loop.time() - pace.probe_s
            if loop.time() - last_probe >= pace.probe_s:
                last_probe = loop.time()
                for uuid in gpus:
                    health.probed(uuid, await thread.call(_probe, uuid), loop.time())
                if await thread.call(changed):
                    return
            if health.unhealthy != shown:
                log_changes(shown, health.unhealthy)
                shown = health.unhealthy
                yield shown
    finally:
        if events is not None:
            await thread.finish(_free, events)


def _take(event: _Event, health: HealthTracker, now_s: float) -> None:
    uuid, xid = event
    if xid is None:
        health.fault(uuid, faults.ECC, now_s)
        return
    health.xids.add(uuid, xid)
    if xid not in IGNORED_XIDS:
        health.fault(uuid, faults.xid(xid), now_s)


async def _next_events(
    thread: DriverThread, events: Any, wait_s: float
) -> tuple[Sequence[_Event | None], str]:
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


def _wait(events: Any, wait_ms: int) -> list[_Event | None]:
    try:
        event = pynvml.nvmlEventSetWait(events, wait_ms)
    except pynvml.NVMLError_Timeout:
        return []
    except GONE as error:
        raise gone(error) from error
    is_xid = event.eventType == pynvml.nvmlEventTypeXidCriticalError
    # A fault of a MIG instance (gpuInstanceId other than 0 and 0xFFFFFFFF) is one of its GPU, too: whole
    # GPUs are what we serve.
    try:
        uuid: str = pynvml.nvmlDeviceGetUUID(event.device)
    except (pynvml.NVMLError, UnicodeDecodeError):
        return [None]
    return [(uuid, event.eventData if is_xid else None)]


def _probe(uuid: str) -> GpuState:
    try:
        handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)
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
    if pending:
        return GpuState(pending=faults.ROW_REMAP_PENDING)
    return GpuState(pending=faults.PAGES_PENDING) if pages else GpuState()
