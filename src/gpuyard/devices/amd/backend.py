"""The AMD GPUs of a node as they change: sysfs has no events, so it is read every few seconds.

Once GPUs were found they stay the node's, with their indexes. One that is gone later is unhealthy.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from gpuyard import errors
from gpuyard.devices.amd.gpus import board_folder, read_gpus
from gpuyard.devices.amd.health import probe, uncorrectable_errors
from gpuyard.devices.amd.readings import read_all, read_processes
from gpuyard.devices.driver_thread import CALL_LIMIT_S, DriverThread
from gpuyard.devices.health import GpuState, HealthTracker, Pace, log_changes
from gpuyard.devices.inventory import Absence, Backend, Device, Inventory
from gpuyard.devices.readings import GpuProcess, Reading
from gpuyard.gpus import faults

_LOG = logging.getLogger(__name__)
_T = TypeVar("_T")


class AmdBackend:
    """The AMD GPUs of one node.

    Args:
        sys_root: where sysfs is mounted.
        host_root: where the node's own file system is seen.
        pace: how often it is looked at.
        call_limit_s: reading that takes longer hangs.
    """

    def __init__(
        self,
        sys_root: Path,
        host_root: Path = Path("/"),
        pace: Pace | None = None,
        call_limit_s: float = CALL_LIMIT_S,
    ) -> None:
        self._roots = (sys_root, host_root)
        self._pace = pace or Pace()
        self._thread = DriverThread(call_limit_s, driver="AMD", tool="amd-smi")
        #: Readings don't wait for what is looked at meanwhile, nor keep it waiting.
        self._reader = DriverThread(call_limit_s, driver="AMD", tool="amd-smi")
        self._health = HealthTracker(self._pace.quiet_s, lambda: datetime.now(UTC))
        #: The last reading with GPUs, as far as health goes all well.
        self._known: Inventory | None = None
        #: What each GPU's counters stood at when they could be read last, by UUID.
        self._counted: dict[str, Mapping[str, int]] = {}

    async def inventories(self) -> AsyncGenerator[Inventory, None]:
        """What there is at once, and again after every change; never ends by itself."""
        shown: Inventory | None = None
        said = ""
        try:
            while True:
                before = dict(self._health.unhealthy)
                inventory = await self._look()
                log_changes(before, self._health.unhealthy)
                if inventory.devices and inventory.detail != said:
                    said = inventory.detail
                    _LOG.warning("%s", said or "AMD's driver answers again")
                if inventory != shown:
                    shown = inventory
                    yield inventory
                await asyncio.sleep(self._pace.probe_s if self._known else self._pace.look_again_s)
        finally:
            self._thread.end()
            self._reader.end()

    async def readings(self, held: Collection[str] = ()) -> Mapping[str, Reading]:
        """What is measured now; none while sysfs doesn't answer."""
        return await self._ask(read_all)

    async def processes(self) -> Mapping[str, tuple[GpuProcess, ...]]:
        """Which processes have each GPU open; none while sysfs doesn't answer."""
        return await self._ask(read_processes)

    async def _ask(self, read: Callable[[Path, Iterable[Device]], dict[str, _T]]) -> Mapping[str, _T]:
        if self._known is None:
            return {}
        with suppress(errors.DeviceError, OSError):  # Who follows the inventories says it.
            return await self._reader.call(read, self._roots[0], self._known.devices)
        return {}

    async def _look(self) -> Inventory:
        now_s = asyncio.get_running_loop().time()
        try:
            found, states = await self._thread.call(self._read)
        except errors.DriverHangs as error:
            return self._as_known(Absence.FAILED, error)
        except OSError as error:
            failed = errors.DeviceError(f"can't read the AMD GPUs: {error}", remedy="see the kernel log")
            return self._as_known(Absence.FAILED, failed)
        except errors.DeviceError as error:
            for gpu in self._known.devices if self._known else ():
                self._health.probed(gpu.uuid, GpuState(fault=faults.NO_PERMISSION), now_s)
            return self._as_known(Absence.FAILED, error)
        if self._known is not None:
            present = {gpu.uuid for gpu in found.devices}
            # With all of them it is the driver that went.
            fault = faults.LOST if present else faults.DRIVER_GONE
            for gpu in self._known.devices:
                if gpu.uuid not in present:
                    self._health.probed(gpu.uuid, GpuState(fault=fault), now_s)
            found = found.after(self._known)
        if not found.devices:
            return found
        self._known = found
        for uuid, (state, errors_counted) in states.items():
            self._health.probed(uuid, state, now_s)
            before = self._counted.get(uuid, {})
            if any(count > before.get(name, count) for name, count in errors_counted.items()):
                self._health.fault(uuid, faults.RAS, now_s)
            self._counted[uuid] = {**before, **errors_counted}
        return found.with_health(self._health.unhealthy)

    def _read(self) -> tuple[Inventory, dict[str, tuple[GpuState, Mapping[str, int]]]]:
        """In the driver's thread: sysfs waits for a driver that hangs."""
        sys_root, host_root = self._roots
        inventory = read_gpus(sys_root, host_root)
        return inventory, {
            gpu.uuid: (probe(board, gpu, host_root), uncorrectable_errors(board))
            for gpu in inventory.devices
            for board in (board_folder(sys_root, gpu.pci_bus_id),)
        }

    def _as_known(self, absence: Absence, error: errors.DeviceError) -> Inventory:
        why = "; ".join(filter(None, (error.message, error.remedy)))
        if self._known is None:
            return Inventory(Backend.NONE, absence=absence, detail=why)
        return replace(self._known.with_health(self._health.unhealthy), detail=why)
