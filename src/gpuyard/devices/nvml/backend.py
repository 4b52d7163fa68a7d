"""The GPUs that NVML finds, as they change: a driver that comes, goes away, hangs and comes back.

Once GPUs were found they stay the node's. While the driver is gone they are unhealthy, and so is one that a
later reading lacks; while it hangs they stay as they were. Whichever it is, nobody else waits for the driver.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Collection, Mapping
from contextlib import aclosing, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from gpuyard import errors
from gpuyard.devices.driver_thread import CALL_LIMIT_S, DriverThread
from gpuyard.devices.health import HealthTracker, Pace
from gpuyard.devices.inventory import Absence, Backend, Inventory
from gpuyard.devices.nvml.activity import ActivityMeter
from gpuyard.devices.nvml.health import watch_health
from gpuyard.devices.nvml.library import NoDriver, Nvml
from gpuyard.devices.nvml.presence import Presence
from gpuyard.devices.nvml.readings import read_all, read_processes
from gpuyard.devices.readings import GpuProcess, Reading

#: Without persistence mode every GPU of the node wakes up when NVML starts.
_START_LIMIT_S = 60.0
#: Whoever asks for readings waits no longer.
_READ_LIMIT_S = 5.0
_LOG = logging.getLogger(__name__)


class NvmlBackend:
    """The NVIDIA GPUs of one node.

    Args:
        driver_root: where the driver is installed.
        sys_root: where sysfs is mounted.
        host_root: where the node's own file system is seen.
        pace: how often the driver is asked.
        call_limit_s: a call that takes longer hangs; None for what suits it.
    """

    def __init__(
        self,
        driver_root: Path,
        sys_root: Path,
        host_root: Path = Path("/"),
        pace: Pace | None = None,
        call_limit_s: float | None = None,
    ) -> None:
        self._roots = (driver_root, sys_root, host_root)
        self._pace = pace or Pace()
        self._start_limit_s = call_limit_s or _START_LIMIT_S
        self._thread = DriverThread(call_limit_s or CALL_LIMIT_S)
        #: Another one, since the first spends its time waiting for events.
        self._reader = DriverThread(call_limit_s or _READ_LIMIT_S, name="gpu readings")
        self._meter = ActivityMeter()
        self._health = HealthTracker(self._pace.quiet_s, lambda: datetime.now(UTC))
        #: The last reading with GPUs, as far as health goes all well.
        self._known: Inventory | None = None
        self._said = ""

    async def inventories(self) -> AsyncGenerator[Inventory, None]:
        """What there is at once, and again after every change; never ends by itself."""
        shown: Inventory | None = None
        async with aclosing(self._sessions()) as inventories:
            async for inventory in inventories:
                if inventory != shown:
                    shown = inventory
                    yield inventory

    async def readings(self, held: Collection[str] = ()) -> Mapping[str, Reading]:
        """What is measured now, by UUID of each GPU and MIG instance that answers.

        Before there is an inventory, and while the driver is gone or hangs, there is no more than the XIDs.
        """
        found: Mapping[str, Reading] = {}
        if self._known is not None:
            # Who follows the inventories says what fails.
            with suppress(errors.DeviceError):
                found = await self._reader.call(read_all, self._known.uuids, self._meter)
        return self._health.xids.put_into(found)

    async def processes(self) -> Mapping[str, tuple[GpuProcess, ...]]:
        """Which processes have each GPU and MIG instance open, of those that answer."""
        if self._known is not None:
            with suppress(errors.DeviceError):
                return await self._reader.call(read_processes, self._known.uuids)
        return {}

    async def _sessions(self) -> AsyncGenerator[Inventory, None]:
        try:
            while True:
                try:
                    async with aclosing(self._session()) as inventories:
                        async for inventory in inventories:
                            yield inventory
                except errors.DriverHangs as error:
                    _LOG.warning("%s; until it does, what it said last is served", error.message)
                    yield self._as_known(Absence.FAILED, error)
                    await self._thread.idle()
                    _LOG.info("the NVIDIA driver answers again")
                    continue
                except errors.DeviceError as error:
                    if self._known is not None:
                        self._say(error.message)
                        uuids = [gpu.uuid for gpu in self._known.devices]
                        self._health.gone(uuids, asyncio.get_running_loop().time())
                    absence = error.absence if isinstance(error, NoDriver) else Absence.FAILED
                    yield self._as_known(absence, error)
                await asyncio.sleep(self._pace.gone_s if self._known else self._pace.look_again_s)
        finally:
            self._thread.end()
            self._reader.end()

    async def _session(self) -> AsyncGenerator[Inventory, None]:
        """From a start of NVML until it has to be started anew, or there are no GPUs."""
        try:
            driver = await self._thread.call(Nvml.open, *self._roots, limit_s=self._start_limit_s)
            while True:
                # Before: what changes meanwhile is read next time.
                presence = await self._thread.call(Presence, driver)
                found = await self._thread.call(driver.inventory, limit_s=self._start_limit_s)
                if self._known is not None:
                    found = found.after(self._known)
                if not found.devices:
                    yield found
                    return
                self._known, self._said = found, ""
                yield self._with_health(found)
                changes = watch_health(
                    found.devices,
                    presence,
                    self._thread,
                    self._health,
                    self._pace,
                    for_s=None if driver.complete else self._pace.look_again_s,
                )
                async with aclosing(changes):
                    async for _ in changes:
                        yield self._with_health(found)
                if await self._thread.call(presence.is_stale):
                    return
        finally:
            # What the meter keeps is this NVML's.
            await self._reader.finish(self._meter.keep, ())
            # Also after a start that came back too late.
            await self._thread.finish(Nvml.close)

    def _say(self, message: str) -> None:
        """Once, however often it is tried."""
        if message != self._said:
            _LOG.warning("%s", message)
        self._said = message

    def _with_health(self, inventory: Inventory) -> Inventory:
        return inventory.with_health(self._health.unhealthy)

    def _as_known(self, absence: Absence, error: errors.DeviceError) -> Inventory:
        """What is served without the driver."""
        why = "; ".join(filter(None, (error.message, error.remedy)))
        if self._known is None:
            return Inventory(Backend.NONE, absence=absence, detail=why)
        return replace(self._with_health(self._known), detail=why)
