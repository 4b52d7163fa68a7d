"""Simulated GPUs as they change: a control file says which are unhealthy, and how they are split."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import AsyncGenerator, Collection, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from gpuyard.devices.inventory import Health, Inventory
from gpuyard.devices.readings import GpuProcess, Reading, XidCounts
from gpuyard.devices.simulated.load import SimulatedLoad
from gpuyard.devices.simulated.simulation import Simulation, simulate
from gpuyard.devices.simulated.state import SimulatedProcess, SimulatedState, read_state
from gpuyard.gpus import faults

_POLL_S = 0.2
_XID = re.compile(r"XID (\d{1,9})")
#: A GPU with one of these doesn't answer.
_SILENT = (faults.LOST, faults.xid(79))
_LOG = logging.getLogger(__name__)


class SimulatedBackend:
    """The make-believe GPUs of one node.

    Args:
        simulation: what to simulate.
        seed: see `simulate`.
        control: a JSON file, see `state`; all GPUs are healthy and whole when it isn't there.
    """

    def __init__(self, simulation: Simulation, *, seed: str, control: Path | None) -> None:
        self._inventory = simulate(simulation, seed=seed)
        self._control = control
        self._shown: Inventory | None = None
        self._load = SimulatedLoad(time.monotonic)
        self._xids = XidCounts()
        self._processes: Mapping[str, tuple[GpuProcess, ...]] = {}
        self._idle: frozenset[str] = frozenset()

    async def readings(self, held: Collection[str] = ()) -> Mapping[str, Reading]:
        """What would be measured now, by UUID; of none before there is an inventory.

        Of a GPU that is lost there is no more than the XIDs.

        Args:
            held: UUIDs of the GPUs and MIG instances that are busy; all others are idle.
        """
        self._load.set_busy(set(held) - self._idle)
        lost = self._lost()
        return self._xids.put_into(
            {uuid: each for uuid, each in self._load.readings().items() if uuid not in lost}
        )

    async def processes(self) -> Mapping[str, tuple[GpuProcess, ...]]:
        """Which make-believe processes have each GPU and MIG instance open."""
        uuids, lost = self._shown.uuids if self._shown is not None else (), self._lost()
        return {uuid: self._processes.get(uuid, ()) for uuid in uuids if uuid not in lost}

    def _lost(self) -> Collection[str]:
        gpus = self._shown.devices if self._shown is not None else ()
        return {gpu.uuid for gpu in gpus if gpu.health.reason in _SILENT}

    def _show(self, inventory: Inventory) -> Inventory:
        """This is what there is now."""
        before = {gpu.uuid: gpu.health for gpu in self._shown.devices} if self._shown else {}
        for gpu in inventory.devices:
            xid = _XID.fullmatch(gpu.health.reason)
            if xid and before.get(gpu.uuid) != gpu.health:
                self._xids.add(gpu.uuid, int(xid[1]))
        self._load.follow(inventory.devices)
        self._shown = inventory
        return inventory

    async def inventories(self) -> AsyncGenerator[Inventory, None]:
        """The inventory at once, and again whenever the control file changes it."""
        control, inventory = self._control, self._inventory
        shown: Inventory | None = None
        stamp: tuple[int, int, int] | None = None
        while True:
            found = _stamp(control)
            if shown is None or found != stamp:
                stamp = found
                state, mistakes = read_state(control, inventory) if control else (SimulatedState(), ())
                for mistake in mistakes:
                    _LOG.warning("%s: %s", control, mistake)
                self._processes, self._idle = _by_gpu(state.processes), state.idle
                split = inventory.with_mig(state.mig)
                current = split.with_health(_unhealthy(state.unhealthy, shown or inventory))
                if current != shown:
                    shown = current
                    yield self._show(current)
            # Without a control file nothing ever changes.
            await (asyncio.sleep(_POLL_S) if control else asyncio.Event().wait())


def _stamp(path: Path | None) -> tuple[int, int, int] | None:
    try:
        found = path.stat() if path else None
    except OSError:  # What is the matter is said by whoever reads it.
        return None
    return (found.st_ino, found.st_mtime_ns, found.st_size) if found else None


def _by_gpu(processes: Iterable[SimulatedProcess]) -> dict[str, tuple[GpuProcess, ...]]:
    found: dict[str, tuple[GpuProcess, ...]] = {}
    for each in processes:
        process = GpuProcess(
            each.pid, each.memory_mib, "compute", simulated=True, user=each.user, command=each.command
        )
        found[each.gpu] = (*found.get(each.gpu, ()), process)
    return found


def _unhealthy(reasons: Mapping[str, str], shown: Inventory) -> dict[str, Health]:
    now = datetime.now(UTC)
    before = {gpu.uuid: gpu.health.since for gpu in shown.devices}
    return {uuid: Health(why, before[uuid] or now) for uuid, why in reasons.items()}
