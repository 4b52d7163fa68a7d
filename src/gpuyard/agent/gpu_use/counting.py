"""Counting what pods use for as long as the exporter runs, into a file that outlives it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Set
from pathlib import Path

from gpuyard import errors
from gpuyard.agent.gpu_use.ledger import HeldDevice, PodName, PodUse
from gpuyard.agent.gpu_use.use_file import UseRecord, read_use, write_use
from gpuyard.devices.readings import Reading
from gpuyard.kube.ages import seconds_since_boot

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_LOG = logging.getLogger(__name__)


class UseCount:
    """Adds up what is noted, and writes it.

    Args:
        file: see `use_file`; what it says of this boot of the node is continued.
        seconds: a steady clock that other processes of this boot share.
        boot_id: of the node.
    """

    def __init__(
        self,
        file: Path,
        *,
        seconds: Callable[[], float] = seconds_since_boot,
        boot_id: Callable[[], str] = lambda: _BOOT_ID.read_text().strip(),
    ) -> None:
        self._file = file
        self._seconds = seconds
        self._record = _continued(file, boot_id())
        self._ledger = self._record.ledger()
        self._written: tuple[PodUse, ...] | None = None if file.exists() else ()
        self._said = ""

    def note(self, held: Mapping[PodName, Set[HeldDevice]], readings: Mapping[str, Reading]) -> None:
        """Who holds which devices now, and what is measured on these.

        Looks in between may be left out: what is used meanwhile is added with the next, for counters go on.
        """
        self._ledger.note(self._seconds(), held, readings)
        self._record = self._record.of(self._ledger)
        # Who holds a device uses it for longer with each look. Where nobody does there is nothing new.
        if self._record.pods == self._written:
            return
        try:
            write_use(self._file, self._record)
        except errors.DeviceError as error:
            if error.message != self._said:
                self._said = error.message
                _LOG.warning("what pods use isn't kept now: %s; %s", error.message, error.remedy)
        else:
            self._written, self._said = self._record.pods, ""


def _continued(file: Path, boot_id: str) -> UseRecord:
    try:
        record = read_use(file)
    except errors.DeviceError as error:
        _LOG.warning("%s; counting begins anew", error.message)
        record = None
    return record if record is not None and record.boot_id == boot_id else UseRecord.begun(boot_id)
