"""Reads what the verdict needs of an image from where it is: manifest and config, never a layer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace

from gpuyard.images import oci
from gpuyard.images.cuda.need import Image
from gpuyard.images.layout import LayoutReference, open_layout
from gpuyard.images.reference import ImageReference
from gpuyard.images.registry.settings import RegistrySettings
from gpuyard.images.store import ImageStore, read_blob

#: A check before a submit must not hold it up for long.
_SETTINGS = RegistrySettings(attempts=2, timeout_s=10.0)


async def read_images(reference: str, environ: Mapping[str, str]) -> tuple[Image, ...]:
    """The image behind a reference, once per platform that it was made for.

    Args:
        reference: in a registry, or `oci:PATH[:TAG]` or `oci-archive:PATH[:TAG]`.
        environ: where Docker's credentials are looked for.

    Raises:
        ImageError: it isn't there, can't be read, or the registry doesn't answer.
    """
    async with _open(reference, environ) as (store, target):
        found, content = await store.get_manifest(target)
        document = oci.parse_manifest(content, found.media_type)
        if isinstance(document, oci.Manifest):
            return (await _read(store, document, reference),)
        images = []
        for entry in document.manifests:
            if entry.platform is None or entry.platform.os != "linux":
                continue
            described, inner = await store.get_manifest(entry.digest)
            manifest = oci.parse_manifest(inner, described.media_type)
            if isinstance(manifest, oci.Manifest):
                images.append(await _read(store, manifest, reference))
        return tuple(images)


@asynccontextmanager
async def _open(reference: str, environ: Mapping[str, str]) -> AsyncIterator[tuple[ImageStore, str]]:
    if layout := LayoutReference.parse(reference):
        async with open_layout(layout.path, archive=layout.archive) as store:
            yield store, layout.tag
        return
    from gpuyard.images.registry.client import RegistryClient

    parsed = ImageReference.parse(reference)
    async with RegistryClient.from_environ(environ, _SETTINGS) as client:
        yield client.repository(parsed), parsed.target


async def _read(store: ImageStore, manifest: oci.Manifest, reference: str) -> Image:
    config = oci.Config.parse(await read_blob(store, manifest.config))
    image = Image(
        reference=reference,
        machine=config.platform.architecture,
        env=config.container.environment,
        labels=config.container.labels,
        entrypoint=config.container.entrypoint,
    )
    base = manifest.annotations.get("org.opencontainers.image.base.name", "")
    # What a build added keeps the base's environment; only the base's tag says which container it was.
    return replace(image, base=base) if base else image
