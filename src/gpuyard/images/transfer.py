"""Moving content between stores: look first, mount where possible, else stream, a few at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from enum import Enum

from gpuyard import errors
from gpuyard.images import oci
from gpuyard.images.oci import Descriptor, Digest, Platform
from gpuyard.images.store import Content, ImageStore

#: Told (blob, bytes so far, bytes in all) as a transfer goes on; after a restart the count is lower again.
Progress = Callable[[Digest, int, int], None]


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
    if await target.has_blob(digest):
        return Transferred.PRESENT
    if blob.mount_from and await target.mount_blob(digest, blob.mount_from):
        return Transferred.MOUNTED
    await target.put_blob(digest, size, _counted(blob, progress) if progress else blob.open)
    return Transferred.UPLOADED


async def ensure_blobs(
    target: ImageStore, blobs: Sequence[Blob], *, parallel: int = 4, progress: Progress | None = None
) -> dict[Digest, Transferred]:
    """Has all blobs in the target; the first failure stops the others and is raised as it is."""
    slots = asyncio.Semaphore(parallel)
    outcomes: dict[Digest, Transferred] = {}

    async def ensure(blob: Blob) -> None:
        async with slots:
            outcomes[blob.descriptor.digest] = await ensure_blob(target, blob, progress)

    unique = {blob.descriptor.digest: blob for blob in blobs}
    try:
        async with asyncio.TaskGroup() as tasks:
            for digest, blob in unique.items():
                tasks.create_task(ensure(blob), name=f"blob {digest[7:19]}")
    except* errors.GpuyardError as group:
        raise _first(group) from None
    return outcomes


async def copy_image(
    source: ImageStore,
    target: ImageStore,
    reference: str,
    tag: str | None = None,
    *,
    platforms: Sequence[Platform] = (),
    mount_from: str = "",
    to_oci: bool = False,
    parallel: int = 4,
    progress: Progress | None = None,
) -> Descriptor:
    """Copies an image or index with all that it names; the tag is written last.

    Args:
        source: where it is.
        target: where it shall be.
        reference: tag or digest at the source.
        tag: at the target; by digest alone when None.
        platforms: those wanted of an index; all when empty. Fewer than all make a new index.
        mount_from: the source's repository when both are of one registry.
        to_oci: write Docker's manifests as OCI's, under another digest; podman reads no others in a layout.
        parallel: blobs at once.
        progress: told of bytes.
    """
    found, content = await source.get_manifest(reference)
    document = oci.parse_manifest(content, found.media_type)
    if to_oci and document.media_type in (oci.DOCKER_LIST, oci.DOCKER_MANIFEST):
        document = _as_oci(document)
        content = document.to_bytes()
    if isinstance(document, oci.Index):
        entries = [e for e in document.manifests if not platforms or _wanted(e, platforms)]
        if not entries:
            raise errors.ImageNotFound(
                f"{source.name}: {reference} has no image for {', '.join(map(str, platforms))}",
                remedy="choose one of: " + ", ".join(map(str, document.platforms)),
            )
        copied = []
        for entry in entries:
            there = await copy_image(
                source,
                target,
                entry.digest,
                mount_from=mount_from,
                to_oci=to_oci,
                parallel=parallel,
                progress=progress,
            )
            copied.append(replace(entry, media_type=there.media_type, digest=there.digest, size=there.size))
        if tuple(copied) != document.manifests:
            content = replace(document, manifests=tuple(copied)).to_bytes()
        return await target.put_manifest(content, document.media_type, tag)
    blobs = [Blob(blob, _opener(source, blob), mount_from) for blob in (document.config, *document.layers)]
    await ensure_blobs(target, blobs, parallel=parallel, progress=progress)
    return await target.put_manifest(content, document.media_type, tag)


def _as_oci(document: oci.Manifest | oci.Index) -> oci.Manifest | oci.Index:
    if isinstance(document, oci.Index):
        return replace(document, media_type=oci.OCI_INDEX)
    return replace(
        document,
        config=document.config.as_oci(),
        layers=tuple(layer.as_oci() for layer in document.layers),
        media_type=oci.OCI_MANIFEST,
    )


def _wanted(entry: Descriptor, platforms: Sequence[Platform]) -> bool:
    return entry.platform is not None and any(entry.platform.runs(platform) for platform in platforms)


def _opener(source: ImageStore, blob: Descriptor) -> Content:
    return lambda: source.open_blob(blob)


def _counted(blob: Blob, progress: Progress) -> Content:
    async def pieces() -> AsyncIterator[bytes]:
        sent = 0
        async for piece in blob.open():
            yield piece
            sent += len(piece)
            progress(blob.descriptor.digest, sent, blob.descriptor.size)

    return pieces


def _first(group: BaseExceptionGroup[errors.GpuyardError]) -> errors.GpuyardError:
    """The error that stopped the others; those that it stopped are cancellations and not in the group."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, errors.GpuyardError)
    return error
