"""Counting what pods use for as long as the exporter runs, into a file that outlives it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Set
from pathlib import Path
from typing import TypeAlias

from gpuyard import errors
from gpuyard.agent.gpu_use.ledger import HeldDevice, PodName, PodUse
from gpuyard.agent.gpu_use.use_file import UseRecord, read_use, write_use
from gpuyard.devices.readings import Reading
from gpuyard.kube.ages import seconds_since_boot

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_EVERY_S = 2.0
_LOG = logging.getLogger(__name__)

#: Who holds which devices, and what is measured on these, now. Raises DeviceError when that can't be told.
UseLook: TypeAlias = Callable[[], Awaitable[tuple[Mapping[PodName, Set[HeldDevice]], Mapping[str, Reading]]]]


async def count_use(
    look: UseLook,
    file: Path,
    *,
    every_s: float = _EVERY_S,
    seconds: Callable[[], float] = seconds_since_boot,
    boot_id: Callable[[], str] = lambda: _BOOT_ID.read_text().strip(),
) -> None:
    """Looks again and again until cancelled, and writes what it adds up to.

    Args:
        look: what it looks at.
        file: see `use_file`; what it says of this boot of the node is continued.
        every_s: between two looks.
        seconds: a steady clock that other processes of this boot share.
        boot_id: of the node.
    """
    record, said = _continued(file, boot_id()), ""
    ledger = record.ledger()
    written: tuple[PodUse, ...] | None = None if file.exists() else ()
    while True:
        try:
            held, readings = await look()
            ledger.note(seconds(), held, readings)
            record = record.of(ledger)
            # Who holds a device uses it for longer with each look. Where nobody does there is nothing new.
            if record.pods != written:
                write_use(file, record)
                written = record.pods
            said = ""
        except errors.DeviceError as error:
            # What is used meanwhile is added with the next look: counters go on.
            if error.message != said:
                said = error.message
                _LOG.warning("what pods use isn't counted now: %s", said)
        await asyncio.sleep(every_s)


def _continued(file: Path, boot_id: str) -> UseRecord:
    try:
        record = read_use(file)
    except errors.DeviceError as error:
        _LOG.warning("%s; counting begins anew", error.message)
        record = None
    return record if record is not None and record.boot_id == boot_id else UseRecord.begun(boot_id)
