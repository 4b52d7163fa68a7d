"""Which of the GPUs that this yard's containers hold it has locked against the machine's other yards."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence

from gpuyard import errors
from gpuyard.devices.gpu_locks import GpuLocks, gpu_of
from gpuyard.gpus.resources import is_gpu

_LOG = logging.getLogger(__name__)


class DeviceLocks:
    """Takes and releases them. Calls are made one at a time, see `DeviceManager`.

    Args:
        locks: None where nothing is shared with other yards, as with simulated GPUs.
    """

    def __init__(self, locks: GpuLocks | None) -> None:
        self._locks = locks

    async def take(self, device_ids: Mapping[str, Sequence[str]], run: str) -> None:
        """Locks the GPUs among these; nothing happens to those that are locked already.

        Raises:
            GpuHeld: another yard has one; those before it are locked now.
            CheckpointError: a lock can't be written.
        """
        if self._locks is not None:
            for gpu in _gpus(device_ids):
                await asyncio.to_thread(self._locks.take, gpu, run)

    async def restore(self, device_ids: Mapping[str, Sequence[str]], run: str) -> None:
        """The same for what an earlier process gave out: what isn't to be had now is asked for again before
        the next start."""
        try:
            await self.take(device_ids, run)
        except errors.DeviceError as error:
            _LOG.warning("%s", error.message)

    async def release(
        self, dropped: Iterable[Mapping[str, Sequence[str]]], kept: Iterable[Mapping[str, Sequence[str]]]
    ) -> None:
        """Releases the GPUs of what is dropped that nothing of what is kept has."""
        if self._locks is not None:
            gone = {gpu for ids in dropped for gpu in _gpus(ids)}
            for gpu in sorted(gone - {gpu for ids in kept for gpu in _gpus(ids)}):
                await asyncio.to_thread(self._locks.release, gpu)

    def descriptors(self, device_ids: Mapping[str, Sequence[str]]) -> Sequence[int]:
        """For the processes beside a container that holds these, see `GpuLocks.descriptors`."""
        return self._locks.descriptors(_gpus(device_ids)) if self._locks is not None else ()

    def close(self) -> None:
        """Leaves the locks to those processes."""
        if self._locks is not None:
            self._locks.close()


def _gpus(device_ids: Mapping[str, Sequence[str]]) -> list[str]:
    named = (one for resource, ids in device_ids.items() if is_gpu(resource) for one in ids)
    return sorted({gpu_of(one) for one in named})
