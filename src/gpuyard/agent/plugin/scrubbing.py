"""Has GPUs' memory overwritten before a container starts on them, within the time that a kubelet gives."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from gpuyard import errors
from gpuyard.agent.plugin import memory_scrub
from gpuyard.agent.served import ServedDevice
from gpuyard.kube.wellknown import NVIDIA

#: A kubelet gives PreStartContainer 30 s.
_LIMIT_S = 25.0
_END_S = 1.0
_MAX_SAID = 300
_REMEDY = "flags.plugin.preStart: check starts containers without it"
_LOG = logging.getLogger(__name__)


class MemoryScrubber:
    """It belongs to one event loop.

    Args:
        find_libcuda: where the driver has its library; None where it can't be found.
        limit_s: for all devices of a container.
    """

    def __init__(self, find_libcuda: Callable[[], Path | None], limit_s: float = _LIMIT_S) -> None:
        self._find_libcuda = find_libcuda
        self._limit_s = limit_s
        #: One that doesn't end, whatever it is told: the driver hangs in it.
        self._stuck: asyncio.subprocess.Process | None = None

    async def scrub(self, devices: Iterable[ServedDevice]) -> None:
        """Overwrites what is free of them; leaves alone what containers share, which would miss it.

        Raises:
            DeviceError: it couldn't be done in time.
        """
        alone = [device for device in devices if device.sharing is None]
        if others := [device for device in alone if device.gpu.vendor != NVIDIA]:
            raise _failed(others[0].uuid, f"only NVIDIA's can be, and it is one of {others[0].gpu.vendor}'s")
        wholes = [device.uuid for device in alone if device.instance is None]
        parts = [[device.uuid] for device in alone if device.instance is not None]
        try:
            async with asyncio.timeout(self._limit_s):
                for uuids in [wholes, *parts] if wholes else parts:
                    await self._scrub(uuids)
        except TimeoutError:
            raise _failed(" ".join(each.uuid for each in alone), "the driver takes too long") from None

    async def _scrub(self, uuids: list[str]) -> None:
        names = " ".join(uuids)
        if self._stuck is not None and self._stuck.returncode is None:
            raise _failed(names, f"process {self._stuck.pid} hangs in the driver since it tried so before")
        library = self._find_libcuda()
        if library is None:
            raise _failed(names, "the driver's libcuda.so.1 isn't among what the agent sees")
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", memory_scrub.__file__, str(library), *uuids),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env={**os.environ, "CUDA_DEVICE_ORDER": "PCI_BUS_ID"},
            )
        except OSError as error:
            raise _failed(names, f"its process can't be started: {error.strerror}") from error
        try:
            told, said = await process.communicate()
        finally:
            await self._end(process)
        if process.returncode:
            why = " ".join(said.decode(errors="replace").split())[-_MAX_SAID:]
            raise _failed(names, why or f"its process ended with code {process.returncode}")
        _LOG.info("overwrote the free memory of %s: %s", names, " ".join(told.decode().split("\n")).strip())

    async def _end(self, process: asyncio.subprocess.Process) -> None:
        if process.returncode is not None:
            return
        with suppress(ProcessLookupError):
            process.kill()
        await asyncio.wait([asyncio.ensure_future(process.wait())], timeout=_END_S)
        if process.returncode is None:
            self._stuck = process


def _failed(devices: str, why: str) -> errors.DeviceError:
    return errors.DeviceError(f"the memory of {devices} couldn't be overwritten: {why}", remedy=_REMEDY)
