"""The agent's work: follow the GPUs, serve them to the kubelet, label the node."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from gpuyard.agent.cdi import publish
from gpuyard.agent.labels import node_labels
from gpuyard.agent.labels_file import write_labels
from gpuyard.agent.plugin.registration import keep_registered
from gpuyard.agent.plugin.server import Plugin
from gpuyard.devices.inventory import Inventory

_RETRY_S = 5.0
#: A look costs a third of a second of one core, in a process of its own.
_CHECK_S = 60.0
_LOG = logging.getLogger(__name__)
#: The node's labels, and why there are no GPUs to serve (empty when there are).
_Marks: TypeAlias = tuple[dict[str, str], str]


@dataclass(frozen=True)
class LabelTarget:
    """The node to label and the API's socket."""

    node: str
    api_socket: Path


async def run_agent(
    inventories: AsyncIterator[Inventory],
    plugins_dir: Path,
    target: LabelTarget | None,
    cdi_dir: Path | None = None,
    labels_file: Path | None = None,
) -> None:
    """Serves each inventory as it comes, until cancelled; serves nothing until there is a first GPU.

    Args:
        inventories: the GPUs now, and again after every change.
        plugins_dir: the kubelet's folder of device plugin sockets.
        target: what to label; None to label nothing.
        cdi_dir: where container runtimes look for CDI specs; None to write none.
        labels_file: where a labeller in another container reads the labels; None to write none.

    Raises:
        DeviceError: the CDI spec or the labels can't be written.
    """
    plugin: Plugin | None = None
    labels: asyncio.Queue[_Marks] = asyncio.Queue()
    async with asyncio.TaskGroup() as group:
        if target is not None:
            group.create_task(keep_labelled(target, labels), name="labels")
        async for inventory in inventories:
            labels.put_nowait((node_labels(inventory), "" if inventory.gpus else inventory.detail))
            if labels_file is not None:
                write_labels(labels_file, node_labels(inventory))
            if cdi_dir is not None:
                # First the spec, then its names: a container may be started right after.
                await asyncio.to_thread(publish, cdi_dir, inventory)
            if plugin is not None:
                plugin.update(inventory)
            elif inventory.gpus:
                plugin = Plugin(inventory, by_cdi=cdi_dir is not None)
                group.create_task(keep_registered(plugin, plugins_dir), name="device plugin")
                _LOG.info("serving %d GPUs (%s)", len(inventory.gpus), inventory.backend)
            else:
                _LOG.warning("no GPUs to serve: %s", inventory.detail)


async def keep_labelled(
    target: LabelTarget, wanted: asyncio.Queue[_Marks], *, check_s: float = _CHECK_S
) -> None:
    """Writes the labels each time that they change; the newest ones win.

    Every `check_s` it looks whether they are still there: the node may be deleted and registered anew.
    """
    marks = await wanted.get()
    while True:
        while not wanted.empty():
            marks = wanted.get_nowait()
        pause_s = check_s if await _label(target, *marks) == 0 else _RETRY_S
        with suppress(TimeoutError):
            marks = await asyncio.wait_for(wanted.get(), pause_s)


async def _label(target: LabelTarget, labels: dict[str, str], no_gpus: str) -> int:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gpuyard.agent.labelling"),
        *("--node", target.node, "--api-socket", str(target.api_socket), "--labels", json.dumps(labels)),
        *("--no-gpus", no_gpus),
        stdin=asyncio.subprocess.PIPE,
    )
    try:
        return await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
