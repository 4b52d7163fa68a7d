"""The agent's work: follow the GPUs, serve them to the kubelet, say what is to be written on the node.

What can't be written takes no GPU away: it is logged, and written as soon as that works.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path

from gpuyard import errors
from gpuyard.agent.cdi import publish
from gpuyard.agent.labels import node_marks
from gpuyard.agent.marks_file import write_marks
from gpuyard.agent.plugin.registration import keep_registered
from gpuyard.agent.plugin.server import Plugin
from gpuyard.devices.inventory import Inventory

_LOG = logging.getLogger(__name__)

_RETRY_S = 1.0
_RETRY_MAX_S = 30.0


class _NodeFiles:
    """The marks and the CDI spec of the last inventory."""

    def __init__(self, cdi_dir: Path | None, marks_file: Path | None) -> None:
        #: Why the CDI spec isn't that of the last inventory; empty when it is.
        self.cdi_fault = ""
        self._cdi_dir = cdi_dir
        self._marks_file = marks_file
        self._inventory: Inventory | None = None
        self._writing = asyncio.Lock()
        self._unwritten = asyncio.Event()

    async def write(self, inventory: Inventory) -> None:
        """Writes both; what fails is left to `keep`."""
        self._inventory = inventory
        await self._write()

    async def keep(self) -> None:
        """Tries again, until cancelled, what couldn't be written."""
        retry_s = _RETRY_S
        while True:
            await self._unwritten.wait()
            await asyncio.sleep(retry_s)
            await self._write()
            retry_s = min(retry_s * 2, _RETRY_MAX_S) if self._unwritten.is_set() else _RETRY_S

    async def _write(self) -> None:
        async with self._writing:
            inventory = self._inventory
            assert inventory is not None
            marks_fault = cdi_fault = ""
            if self._marks_file is not None:
                try:
                    write_marks(self._marks_file, node_marks(inventory))
                except errors.DeviceError as error:
                    marks_fault = error.message
            if self._cdi_dir is not None:
                try:
                    await asyncio.to_thread(publish, self._cdi_dir, inventory)
                except errors.DeviceError as error:
                    cdi_fault = error.message
            self.cdi_fault = cdi_fault
        faults = [fault for fault in (marks_fault, cdi_fault) if fault]
        if faults:
            _LOG.warning("%s; trying again", "; ".join(faults))
            self._unwritten.set()
        else:
            self._unwritten.clear()


async def run_agent(
    inventories: AsyncIterator[Inventory],
    plugins_dir: Path,
    *,
    cdi_dir: Path | None = None,
    marks_file: Path | None = None,
) -> None:
    """Serves each inventory as it comes, until cancelled; serves nothing until there is a first GPU.

    Args:
        inventories: the GPUs now, and again after every change.
        plugins_dir: the kubelet's folder of device plugin sockets.
        cdi_dir: where container runtimes look for CDI specs; None to write none.
        marks_file: where the follower reads what to write on the node, see `labelling`; None to write none.
    """
    files = _NodeFiles(cdi_dir, marks_file)
    plugin: Plugin | None = None
    async with asyncio.TaskGroup() as group:
        keeping = group.create_task(files.keep(), name="files")
        async for inventory in inventories:
            # First the marks: whoever sees fewer GPUs is to find the reason there. And first the CDI spec,
            # then its names: a container may be started right after.
            await files.write(inventory)
            if plugin is not None:
                plugin.update(inventory)
            elif inventory.devices:
                plugin = Plugin(inventory, by_cdi=cdi_dir is not None, find_fault=lambda: files.cdi_fault)
                group.create_task(keep_registered(plugin, plugins_dir), name="device plugin")
                _LOG.info("serving %d GPUs (%s)", len(inventory.devices), inventory.backend)
            else:
                _LOG.warning("no GPUs to serve: %s", inventory.detail)
        keeping.cancel()
