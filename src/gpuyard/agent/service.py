"""The agent's work: follow the GPUs, serve them to the kubelet, say what is to be written on the node."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path

from gpuyard.agent.cdi import publish
from gpuyard.agent.labels import node_marks
from gpuyard.agent.marks_file import write_marks
from gpuyard.agent.plugin.registration import keep_registered
from gpuyard.agent.plugin.server import Plugin
from gpuyard.devices.inventory import Inventory

_LOG = logging.getLogger(__name__)


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

    Raises:
        DeviceError: the CDI spec or the marks can't be written.
    """
    plugin: Plugin | None = None
    async with asyncio.TaskGroup() as group:
        async for inventory in inventories:
            if marks_file is not None:
                # Before the kubelet hears of a fault: whoever sees fewer GPUs is to find the reason there.
                write_marks(marks_file, node_marks(inventory))
            if cdi_dir is not None:
                # First the spec, then its names: a container may be started right after.
                await asyncio.to_thread(publish, cdi_dir, inventory)
            if plugin is not None:
                plugin.update(inventory)
            elif inventory.devices:
                plugin = Plugin(inventory, by_cdi=cdi_dir is not None)
                group.create_task(keep_registered(plugin, plugins_dir), name="device plugin")
                _LOG.info("serving %d GPUs (%s)", len(inventory.devices), inventory.backend)
            else:
                _LOG.warning("no GPUs to serve: %s", inventory.detail)
