"""A device plugin for each resource that the node offers, made and ended as resources come and go."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from gpuyard.agent.options.device_lists import Handover
from gpuyard.agent.plugin.mps import MpsFolders
from gpuyard.agent.plugin.registration import keep_registered
from gpuyard.agent.plugin.server import Plugin, Scrub
from gpuyard.agent.plugin.sockets import OwnSockets
from gpuyard.agent.served import Served, ServedDevice

#: Until the kubelet has heard that a resource has no devices any more, if there is a kubelet.
_END_S = 5.0
_LOG = logging.getLogger(__name__)


class Plugins:
    """Those of one agent.

    Args:
        group: owns their tasks.
        plugins_dir: the kubelet's folder of device plugin sockets.
        sockets: of this process, in that folder.
        handover, find_fault, find_mps, scrub: see `Plugin`.
        on_ready: called once the kubelet knows every resource, and when there are none.
    """

    def __init__(
        self,
        group: asyncio.TaskGroup,
        plugins_dir: Path,
        sockets: OwnSockets,
        *,
        handover: Handover,
        find_fault: Callable[[], str],
        find_mps: Callable[[ServedDevice], MpsFolders | None],
        scrub: Scrub | None,
        on_ready: Callable[[], None],
    ) -> None:
        self._group = group
        self._plugins_dir = plugins_dir
        self._sockets = sockets
        self._handover = handover
        self._find_fault = find_fault
        self._find_mps = find_mps
        self._scrub = scrub
        self._on_ready = on_ready
        self._plugins: dict[str, tuple[Plugin, asyncio.Task[None]]] = {}
        self._unregistered: set[str] = set()

    def update(self, served: Served) -> None:
        """Serves this from now on."""
        for resource in served.resources.keys() - self._plugins.keys():
            self._start(resource, served)
        for plugin, _ in self._plugins.values():
            plugin.update(served)
        for resource in self._plugins.keys() - served.resources.keys():
            plugin, task = self._plugins.pop(resource)
            self._group.create_task(_end(plugin, task), name=f"end of {resource}")
        self._unregistered &= served.resources.keys()
        if not self._unregistered:
            self._on_ready()

    def _start(self, resource: str, served: Served) -> None:
        plugin = Plugin(
            resource,
            served,
            handover=self._handover,
            find_fault=self._find_fault,
            find_mps=self._find_mps,
            scrub=self._scrub,
        )
        serving = keep_registered(
            plugin, self._plugins_dir, self._sockets, on_registered=lambda: self._registered(resource)
        )
        task = self._group.create_task(serving, name=f"device plugin of {resource}")
        self._plugins[resource] = plugin, task
        self._unregistered.add(resource)
        _LOG.info("serving %d %s (%s)", len(served.resources[resource]), resource, served.inventory.backend)

    def _registered(self, resource: str) -> None:
        self._unregistered.discard(resource)
        if not self._unregistered:
            self._on_ready()


async def _end(plugin: Plugin, task: asyncio.Task[None]) -> None:
    _LOG.info("%s is no more", plugin.resource)
    await asyncio.wait([task], timeout=_END_S)
    task.cancel()
