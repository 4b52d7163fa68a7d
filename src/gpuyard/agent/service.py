"""The agent's work: follow the GPUs, serve them to the kubelet, say what is to be written on the node.

What can't be written takes no GPU away: it is logged, and written as soon as that works.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from itertools import count
from pathlib import Path
from typing import TypeAlias

from gpuyard import errors
from gpuyard.agent.cdi_file import CdiFile
from gpuyard.agent.labels.node import node_marks
from gpuyard.agent.marks_file import NodeMarks, write_marks
from gpuyard.agent.options.device_lists import PLAIN, Handover
from gpuyard.agent.plugin.by_resource import Plugins
from gpuyard.agent.plugin.mps import MpsDaemons
from gpuyard.agent.plugin.server import Scrub
from gpuyard.agent.plugin.sockets import OwnSockets
from gpuyard.agent.served import DEFAULT, Served, Serving, serve
from gpuyard.devices.inventory import Backend, Inventory
from gpuyard.devices.nvml.driver_files import DriverFile
from gpuyard.gpus.exposure import Exposure

_LOG = logging.getLogger(__name__)

FindDriver: TypeAlias = Callable[[str], Sequence[DriverFile]]

#: What something else did to our files is mended within twice that.
_LOOK_S = 0.5
#: Of so many looks one is at the driver's files: it is updated, and its services come and go.
_LOOKS_PER_DRIVER = 10
#: And one at what the node's runtime is told: administrators change that.
_LOOKS_PER_EXPOSURE = 120


class _NodeFiles:
    """The marks and the CDI spec of what is served."""

    def __init__(
        self,
        cdi: CdiFile | None,
        marks_file: Path | None,
        find_exposure: Callable[[], Exposure],
        find_driver: FindDriver | None,
        is_superseded: Callable[[], bool],
    ) -> None:
        #: Why the CDI spec isn't that of the GPUs now; empty when it is.
        self.cdi_fault = ""
        self._cdi = cdi
        self._marks_file = marks_file
        #: Whether the files are another agent's now.
        self._is_superseded = is_superseded
        self._find_exposure = find_exposure
        self._exposure = Exposure()
        self._find_driver = find_driver
        self._driver: Sequence[DriverFile] = ()
        self._marks: NodeMarks | None = None
        self._served: Served | None = None
        self._published: tuple[Inventory, Sequence[DriverFile]] | None = None
        self._said = ""
        #: One for as long as it runs: labels that change by time alone would be written for nothing.
        self._made_s = int(time.time())

    def write(self, served: Served) -> None:
        """Writes both; what fails is left to `keep`."""
        self._served = served
        self._exposure = self._find_exposure()
        self._look_for_driver()
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
            if look % _LOOKS_PER_DRIVER == 0:
                self._look_for_driver()
            self._bring_up_to_date()

    def _look_for_driver(self) -> None:
        inventory = self._served.inventory if self._served else None
        if self._find_driver and inventory and self._wants_driver(inventory):
            self._driver = self._find_driver(inventory.driver_version)
        else:
            self._driver = ()

    def _wants_driver(self, inventory: Inventory) -> bool:
        return self._find_driver is not None and inventory.backend is Backend.NVML and bool(inventory.devices)

    def _bring_up_to_date(self) -> None:
        # In no thread: what one writes after the end of all this nobody would remove.
        served = self._served
        if served is None or self._is_superseded():
            return
        inventory = served.inventory
        faults = [str(fault) for fault in served.faults]
        cdi_fault = ""
        if self._cdi is not None:
            try:
                if self._published == (inventory, self._driver):
                    self._cdi.look()
                else:
                    self._published = inventory, self._driver
                    self._cdi.publish(inventory, self._driver)
            except errors.CdiFolderGone:
                raise
            except errors.DeviceError as error:
                cdi_fault = error.message
        self.cdi_fault = cdi_fault
        if self._wants_driver(inventory) and not self._driver:
            faults.append(
                f"no library of the NVIDIA driver {inventory.driver_version} is found: "
                "containers from images get GPUs without the driver"
            )
        cdi_faults = self._cdi.faults() if self._cdi is not None else ()
        marks = node_marks(served, cdi_faults, self._exposure, made_s=self._made_s)
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
    serving: Serving = DEFAULT,
    handover: Handover = PLAIN,
    cdi: CdiFile | None = None,
    marks_file: Path | None = None,
    find_exposure: Callable[[], Exposure] = Exposure,
    find_driver: FindDriver | None = None,
    make_daemons: Callable[[asyncio.TaskGroup], MpsDaemons] = MpsDaemons,
    scrub: Scrub | None = None,
    on_ready: Callable[[], None] = lambda: None,
) -> None:
    """Serves each inventory as it comes, until cancelled; serves nothing until there is a first GPU.

    Args:
        inventories: the GPUs now, and again after every change.
        plugins_dir: the kubelet's folder of device plugin sockets.
        sockets: of this process, in that folder.
        serving: how the GPUs are offered.
        handover: how they are named to what runs containers.
        cdi: the spec that container runtimes read; None for none.
        marks_file: where the follower reads what to write on the node, see `labelling`; None to write none.
        find_exposure: says whether images can choose GPUs on this node, as far as its files tell.
        find_driver: finds the files of a version of the driver, for the spec; None to bring none.
        make_daemons: makes those of MPS; none run by default.
        scrub: see `Plugin`.
        on_ready: called once the kubelet knows the GPUs, and when there are none.

    Raises:
        CdiFolderGone: only a process that starts anew can write the spec.
    """
    files = _NodeFiles(cdi, marks_file, find_exposure, find_driver, sockets.is_superseded)
    async with asyncio.TaskGroup() as group:
        keeping = group.create_task(files.keep(), name="files")
        daemons = make_daemons(group)
        plugins = Plugins(
            group,
            plugins_dir,
            sockets,
            handover=handover,
            find_fault=lambda: files.cdi_fault,
            find_mps=daemons.folders,
            scrub=scrub,
            on_ready=on_ready,
        )
        async for inventory in inventories:
            served = serve(inventory, serving)
            # First the marks: whoever sees fewer GPUs is to find the reason there. And first the CDI spec,
            # then its names: a container may be started right after.
            files.write(served)
            daemons.update(served)
            plugins.update(served)
            if not served.resources:
                _LOG.warning("no GPUs to serve: %s", served.detail)
        daemons.end()
        keeping.cancel()
