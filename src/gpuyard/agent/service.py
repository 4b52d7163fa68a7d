"""The agent's work: follow the GPUs, serve them to the kubelet, say what is to be written on the node.

What can't be written takes no GPU away: it is logged, and written as soon as that works.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from itertools import count
from pathlib import Path

from gpuyard import errors
from gpuyard.agent.cdi_file import CdiFile
from gpuyard.agent.labels import node_marks
from gpuyard.agent.marks_file import NodeMarks, write_marks
from gpuyard.agent.plugin.registration import keep_registered
from gpuyard.agent.plugin.server import Plugin
from gpuyard.agent.plugin.sockets import OwnSockets
from gpuyard.devices.inventory import Inventory
from gpuyard.gpus.exposure import Exposure

_LOG = logging.getLogger(__name__)

#: What something else did to our files is mended within twice that.
_LOOK_S = 0.5
#: Of so many looks one is at what the node's runtime is told, too: administrators change that.
_LOOKS_PER_EXPOSURE = 120


class _NodeFiles:
    """The marks and the CDI spec of the last inventory."""

    def __init__(
        self,
        cdi: CdiFile | None,
        marks_file: Path | None,
        find_exposure: Callable[[], Exposure],
        is_superseded: Callable[[], bool],
    ) -> None:
        #: Why the CDI spec isn't that of the last inventory; empty when it is.
        self.cdi_fault = ""
        self._cdi = cdi
        self._marks_file = marks_file
        #: Whether the files are another agent's now.
        self._is_superseded = is_superseded
        self._find_exposure = find_exposure
        self._exposure = Exposure()
        self._marks: NodeMarks | None = None
        self._inventory: Inventory | None = None
        self._published: Inventory | None = None
        self._said = ""

    def write(self, inventory: Inventory) -> None:
        """Writes both; what fails is left to `keep`."""
        self._inventory = inventory
        self._exposure = self._find_exposure()
        self._bring_up_to_date()

    async def keep(self) -> None:
        """Writes again, until cancelled, what something else changed and what couldn't be written.

        Raises:
            CdiFolderGone: this process can't write the spec any more.
        """
        for look in count(1):
            await asyncio.sleep(_LOOK_S)
            if look % _LOOKS_PER_EXPOSURE == 0:
                self._exposure = self._find_exposure()
            self._bring_up_to_date()

    def _bring_up_to_date(self) -> None:
        # In no thread: what one writes after the end of all this nobody would remove.
        inventory = self._inventory
        if inventory is None or self._is_superseded():
            return
        faults: list[str] = []
        cdi_fault = ""
        if self._cdi is not None:
            try:
                if inventory is self._published:
                    self._cdi.look()
                else:
                    self._published = inventory
                    self._cdi.publish(inventory)
            except errors.CdiFolderGone:
                raise
            except errors.DeviceError as error:
                cdi_fault = error.message
        self.cdi_fault = cdi_fault
        cdi_faults = self._cdi.faults() if self._cdi is not None else ()
        marks = node_marks(inventory, cdi_faults, self._exposure)
        if self._marks_file is not None and (marks != self._marks or not self._marks_file.exists()):
            try:
                write_marks(self._marks_file, marks)
                self._marks = marks
            except errors.DeviceError as error:
                faults.append(error.message)
        said = "; ".join([*faults, *map(str, cdi_faults)])
        if said and said != self._said:
            _LOG.warning("%s", said)
        self._said = said


async def run_agent(
    inventories: AsyncIterator[Inventory],
    plugins_dir: Path,
    sockets: OwnSockets,
    *,
    cdi: CdiFile | None = None,
    marks_file: Path | None = None,
    find_exposure: Callable[[], Exposure] = Exposure,
    on_ready: Callable[[], None] = lambda: None,
) -> None:
    """Serves each inventory as it comes, until cancelled; serves nothing until there is a first GPU.

    Args:
        inventories: the GPUs now, and again after every change.
        plugins_dir: the kubelet's folder of device plugin sockets.
        sockets: of this process, in that folder.
        cdi: the spec that container runtimes read; None for none.
        marks_file: where the follower reads what to write on the node, see `labelling`; None to write none.
        find_exposure: says whether images can choose GPUs on this node, as far as its files tell.
        on_ready: called once the kubelet knows the GPUs, and when there are none.

    Raises:
        CdiFolderGone: only a process that starts anew can write the spec.
    """
    files = _NodeFiles(cdi, marks_file, find_exposure, sockets.is_superseded)
    plugin: Plugin | None = None
    async with asyncio.TaskGroup() as group:
        keeping = group.create_task(files.keep(), name="files")
        async for inventory in inventories:
            # First the marks: whoever sees fewer GPUs is to find the reason there. And first the CDI spec,
            # then its names: a container may be started right after.
            files.write(inventory)
            if plugin is not None:
                plugin.update(inventory)
            elif inventory.devices:
                plugin = Plugin(inventory, by_cdi=cdi is not None, find_fault=lambda: files.cdi_fault)
                serving = keep_registered(plugin, plugins_dir, sockets, on_registered=on_ready)
                group.create_task(serving, name="device plugin")
                _LOG.info("serving %d GPUs (%s)", len(inventory.devices), inventory.backend)
            else:
                _LOG.warning("no GPUs to serve: %s", inventory.detail)
                on_ready()
        keeping.cancel()
