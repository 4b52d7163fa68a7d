"""Moving content between stores: look first, mount where possible, else stream, a few at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from enum import Enum

from gpuyard import errors
from gpuyard.images.oci import Descriptor, Digest
from gpuyard.images.store import Content, ImageStore

#: Told (blob, bytes so far, bytes in all) as a transfer goes on; after a restart the count is lower again.
Progress = Callable[[Digest, int, int], None]

#: Blobs at once.
_PARALLEL = 4


class Transferred(Enum):
    """What it took to have a blob in a store."""

    PRESENT = "present"
    MOUNTED = "mounted"
    UPLOADED = "uploaded"


@dataclass(frozen=True)
class Blob:
    """One blob to have in a store.

    Attributes:
        open: streams its content from the start, as often as called.
        mount_from: a repository of the target's registry that has it, or empty.
    """

    descriptor: Descriptor
    open: Content
    mount_from: str = ""


async def ensure_blob(target: ImageStore, blob: Blob, progress: Progress | None = None) -> Transferred:
    """Has one blob in the target, uploading only when it is neither there nor mountable."""
    digest, size = blob.descriptor.digest, blob.descriptor.size
    if await target.has_blob(digest, size):
        return Transferred.PRESENT
    if blob.mount_from and await target.mount_blob(digest, blob.mount_from):
        return Transferred.MOUNTED
    await target.put_blob(digest, size, _counted(blob, progress) if progress else blob.open)
    return Transferred.UPLOADED


async def ensure_blobs(
    target: ImageStore, blobs: Sequence[Blob], *, progress: Progress | None = None
) -> dict[Digest, Transferred]:
    """Has all blobs in the target; the first failure stops the others and is raised as it is."""
    slots = asyncio.Semaphore(_PARALLEL)
    outcomes: dict[Digest, Transferred] = {}

    async def ensure(blob: Blob) -> None:
        async with slots:
            outcomes[blob.descriptor.digest] = await ensure_blob(target, blob, progress)

    unique = {blob.descriptor.digest: blob for blob in blobs}
    try:
        async with asyncio.TaskGroup() as tasks:
            for digest, blob in unique.items():
                tasks.create_task(ensure(blob), name=f"blob {digest[7:19]}")
    except BaseExceptionGroup as group:
        raise first_error(group) from None
    return outcomes


def _counted(blob: Blob, progress: Progress) -> Content:
    async def pieces() -> AsyncIterator[bytes]:
        sent = 0
        async for piece in blob.open():
            yield piece
            sent += len(piece)
            progress(blob.descriptor.digest, sent, blob.descriptor.size)

    return pieces


def first_error(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error that stopped the others; those that it stopped are cancellations and not in the group.

    A group that began with a mistake of ours stays whole. To be raised in an `except BaseExceptionGroup`:
    what is raised in an `except*` is wrapped in a group again by Python 3.11.2, which is Debian 12's.
    """
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error if isinstance(error, errors.GpuyardError) else group
