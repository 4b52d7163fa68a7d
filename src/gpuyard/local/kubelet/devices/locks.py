"""Which of the GPUs that this yard's containers hold it has locked against the machine's other yards."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

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
            GpuHeld: another yard has one; those before it are locked now, as when this is cancelled.
            CheckpointError: a lock can't be written.
        """
        if self._locks is not None:
            await _to_its_end(_take_all, self._locks, _gpus(device_ids), run)

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
            gone -= {gpu for ids in kept for gpu in _gpus(ids)}
            await _to_its_end(_release_all, self._locks, sorted(gone))

    def descriptors(self, device_ids: Mapping[str, Sequence[str]]) -> Sequence[int]:
        """For the processes beside a container that holds these, see `GpuLocks.descriptors`."""
        return self._locks.descriptors(_gpus(device_ids)) if self._locks is not None else ()

    def close(self) -> None:
        """Leaves the locks to those processes."""
        if self._locks is not None:
            self._locks.close()


def _take_all(locks: GpuLocks, gpus: Sequence[str], run: str) -> None:
    for gpu in gpus:
        locks.take(gpu, run)


def _release_all(locks: GpuLocks, gpus: Sequence[str]) -> None:
    for gpu in gpus:
        locks.release(gpu)


async def _to_its_end(call: Callable[..., None], *arguments: Any) -> None:
    """In a thread. One that is cancelled goes on there: nothing else may be done with the locks meanwhile."""
    doing = asyncio.ensure_future(asyncio.to_thread(call, *arguments))
    cancelled: asyncio.CancelledError | None = None
    while not doing.done():
        try:
            await asyncio.wait([doing])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        doing.exception()
        raise cancelled
    doing.result()


def _gpus(device_ids: Mapping[str, Sequence[str]]) -> list[str]:
    named = (one for resource, ids in device_ids.items() if is_gpu(resource) for one in ids)
    return sorted({gpu_of(one) for one in named})
