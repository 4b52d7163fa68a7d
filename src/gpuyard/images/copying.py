"""An image that is in one store, had in another: its platforms, their blobs, and what refers to them."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial

from gpuyard.images.oci import Descriptor, Index, Manifest, parse_manifest
from gpuyard.images.places import Place
from gpuyard.images.transfer import Blob, Progress, ensure_blobs


async def copy_contents(
    source: Place,
    target: Place,
    image: Descriptor,
    *,
    artifacts: Collection[str],
    progress: Progress | None = None,
    trusting: bool = True,
) -> None:
    """Has in the target all that an image's manifest names; that itself is the caller's to put.

    Blobs are mounted where both are repositories of one registry, and nothing is sent that is there.

    Args:
        source: where the image is.
        target: where it shall be.
        image: its manifest, or the index over several platforms.
        artifacts: types of what refers to an image and goes with it.
        progress: told of blobs that have to be sent.
        trusting: whether a registry that has a manifest has what it names; a layout is always looked through.
    """
    if source.store.name == target.store.name:
        return
    if trusting and target.reference and await target.store.find_manifest(image.digest):
        return
    document = parse_manifest((await source.store.get_manifest(image.digest))[1], image.media_type)
    inner = list(document.manifests) if isinstance(document, Index) else []
    if isinstance(document, Manifest):
        mount_from = target.mount_from(source)
        blobs = [
            Blob(blob, partial(source.store.open_blob, blob), mount_from)
            for blob in (document.config, *document.layers)
        ]
        await ensure_blobs(target.store, blobs, progress=progress)
    referring = await source.store.referrers(image.digest) if artifacts else ()
    inner += [entry for entry in referring if entry.artifact_type in artifacts]
    for entry in inner:
        await copy_contents(source, target, entry, artifacts=artifacts, progress=progress, trusting=trusting)
        found, content = await source.store.get_manifest(entry.digest)
        await target.store.put_manifest(content, found.media_type)
