"""Which GPUs of the NVML backend are healthy, from the driver's events and from asking them.

A GPU is unhealthy once the driver reports an XID (or an uncorrectable ECC error) that isn't the
application's fault, and as long as it doesn't answer. It is healthy again when it has answered for a
while without another fault and needs no reset.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Iterable
from dataclasses import dataclass, field
from typing import Any

import pynvml

from gpuyard.devices.nvml import ask

#: Faults of the application, not of the GPU, as NVIDIA's own device plugin has them.
#: https://docs.nvidia.com/deploy/xid-errors: 13 graphics engine exception, 31 memory page fault, 43 reset
#: by the application, 45 preemptive cleanup, 68 video processor exception, 109 context switch timeout.
IGNORED_XIDS = frozenset({13, 31, 43, 45, 68, 109})
#: A GPU that answers has to go so long without a fault before it counts as healthy again.
QUIET_S = 30.0

_WAIT_MS = 500
_PROBE_S = 5.0
_LOG = logging.getLogger(__name__)


@dataclass
class Health:
    """What is known about each GPU's health. Times are of one monotonic clock, in seconds."""

    quiet_s: float = QUIET_S
    _silent: set[str] = field(default_factory=set)
    _faults: dict[str, float] = field(default_factory=dict)

    @property
    def unhealthy(self) -> frozenset[str]:
        """UUIDs."""
        return frozenset(self._silent | self._faults.keys())

    def fault(self, uuid: str, now: float) -> None:
        """The driver reported a fault of the GPU."""
        self._faults[uuid] = now

    def probed(self, uuid: str, now: float, *, answers: bool, needs_reset: bool) -> None:
        """The GPU was asked."""
        if not answers:
            self._silent.add(uuid)
            return
        if uuid in self._silent:
            # It was away: it has to show for a while that it is back.
            self._silent.discard(uuid)
            self._faults[uuid] = now
        since = self._faults.get(uuid)
        if since is not None and not needs_reset and now - since >= self.quiet_s:
            del self._faults[uuid]


async def watch_health(
    uuids: Iterable[str], *, quiet_s: float = QUIET_S, probe_s: float = _PROBE_S
) -> AsyncGenerator[frozenset[str], None]:
    """The unhealthy GPUs, whenever that set has changed. NVML has to be open, and to stay so until closed.

    Events are waited for in a thread, at most half a second at a time.
    """
    gpus = tuple(uuids)
    loop = asyncio.get_running_loop()
    health = Health(quiet_s)
    events = await asyncio.to_thread(_subscribe, gpus)
    shown: frozenset[str] = frozenset()
    last_probe = loop.time() - probe_s
    try:
        while True:
            for uuid in await _in_thread(loop, events):
                # None stands for all: the driver didn't say, so each is asked below.
                last_probe = loop.time() - probe_s
                if uuid is not None:
                    health.fault(uuid, loop.time())
            if loop.time() - last_probe >= probe_s:
                last_probe = loop.time()
                for uuid in gpus:
                    answers, needs_reset = await asyncio.to_thread(_probe, uuid)
                    health.probed(uuid, loop.time(), answers=answers, needs_reset=needs_reset)
            if health.unhealthy != shown:
                _say(shown, health.unhealthy)
                shown = health.unhealthy
                yield shown
    finally:
        if events is not None:
            pynvml.nvmlEventSetFree(events)


async def _in_thread(loop: asyncio.AbstractEventLoop, events: Any) -> list[str | None]:
    """Waits for events; when cancelled, until the thread is out of the driver, so that it can be closed."""
    if events is None:
        await asyncio.sleep(_WAIT_MS / 1000)
        return []
    waiting = loop.run_in_executor(None, _wait, events)
    try:
        return await asyncio.shield(waiting)
    except asyncio.CancelledError:
        await asyncio.wait([waiting])
        raise
    except pynvml.NVMLError as error:
        _LOG.warning("waiting for GPU events failed (%s): asking each GPU", error)
        await asyncio.sleep(_WAIT_MS / 1000)
        return [None]


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


def _wait(events: Any) -> list[str | None]:
    try:
        event = pynvml.nvmlEventSetWait(events, _WAIT_MS)
    except pynvml.NVMLError_Timeout:
        return []
    is_xid = event.eventType == pynvml.nvmlEventTypeXidCriticalError
    if is_xid and event.eventData in IGNORED_XIDS:
        return []
    # A fault of a MIG instance (gpuInstanceId other than 0 and 0xFFFFFFFF) is one of its GPU, too: whole
    # GPUs are what we serve.
    try:
        uuid: str = pynvml.nvmlDeviceGetUUID(event.device)
    except pynvml.NVMLError:
        return [None]
    _LOG.warning("GPU %s: %s", uuid, f"XID {event.eventData}" if is_xid else "uncorrectable ECC error")
    return [uuid]


def _probe(uuid: str) -> tuple[bool, bool]:
    """Whether the GPU answers, and whether it says that it needs a reset."""
    try:
        handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)
        ask(None, pynvml.nvmlDeviceGetPciInfo, handle)
        ask(None, pynvml.nvmlDeviceGetMemoryInfo, handle)
        pages = ask(0, pynvml.nvmlDeviceGetRetiredPagesPendingStatus, handle)
        _, _, pending, failed = ask((0, 0, 0, 0), pynvml.nvmlDeviceGetRemappedRows, handle)
    except pynvml.NVMLError_ResetRequired:
        return True, True
    except pynvml.NVMLError:
        return False, False
    return True, bool(pages or pending or failed)


def _say(before: frozenset[str], after: frozenset[str]) -> None:
    for uuid in sorted(after - before):
        _LOG.warning("GPU %s is unhealthy", uuid)
    for uuid in sorted(before - after):
        _LOG.info("GPU %s is healthy again", uuid)
