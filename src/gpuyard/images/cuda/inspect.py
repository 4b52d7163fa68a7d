"""Reads what the verdict needs of an image from where it is: manifest and config, layers only when told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager

from gpuyard.images.base_image import BaseImage, ReadProgress, kept_contents, read_contents
from gpuyard.images.cache import Cache, cache_folder
from gpuyard.images.cuda.facts import load_facts
from gpuyard.images.cuda.installed import Installed
from gpuyard.images.cuda.need import Image, need_of
from gpuyard.images.layout import LayoutReference, open_layout
from gpuyard.images.oci import Config, Descriptor, Digest, Manifest, parse_manifest
from gpuyard.images.places import Place
from gpuyard.images.reference import ImageReference
from gpuyard.images.registry.settings import RegistrySettings
from gpuyard.images.store import read_blob

#: A check before a submit must not hold it up for long.
_SETTINGS = RegistrySettings(attempts=2, timeout_s=10.0)
_BASE_NAME = "org.opencontainers.image.base.name"


async def read_images(
    reference: str,
    environ: Mapping[str, str],
    machines: Collection[str] = (),
    *,
    layers: ReadProgress | None = None,
) -> tuple[Image, ...]:
    """The image behind a reference, once per platform that it was made for.

    Args:
        reference: in a registry, or `oci:PATH[:TAG]` or `oci-archive:PATH[:TAG]`.
        environ: where Docker's credentials are looked for, and what is said of registries.
        machines: CPU architectures that are wanted; all when empty, or when it has none of them.
        layers: told how it goes on when layers are read, which happens where nothing else tells of torch;
            None: they aren't.

    Raises:
        ImageError: it isn't there, can't be read, or the registry doesn't answer.
    """
    cache = Cache(cache_folder(environ))
    async with _open(reference, environ, patient=layers is not None) as place:
        found, content = await place.store.get_manifest(place.target)
        document = parse_manifest(content, found.media_type)
        if isinstance(document, Manifest):
            return (await _read(place, found.digest, document, cache, layers),)
        entries = [e for e in document.manifests if e.platform and e.platform.os == "linux"]
        wanted = [e for e in entries if e.platform and e.platform.architecture in machines]
        images = await asyncio.gather(*(_entry(place, entry, cache, layers) for entry in wanted or entries))
        return tuple(image for image in images if image is not None)


async def read_machines(reference: str, environ: Mapping[str, str]) -> tuple[Image, ...]:
    """As `read_images`, with the CPU architectures alone, which for an index needs one request."""
    async with _open(reference, environ) as place:
        found, content = await place.store.get_manifest(place.target)
        document = parse_manifest(content, found.media_type)
        if isinstance(document, Manifest):
            config = Config.parse(await read_blob(place.store, document.config))
            return (Image(reference, config.platform.architecture),)
        platforms = [entry.platform for entry in document.manifests if entry.platform]
        return tuple(Image(reference, p.architecture) for p in platforms if p.os == "linux")


def image_of(reference: str, digest: Digest, base: str, config: Config, cache: Cache) -> Image:
    """What is known of one platform's image without reading its layers now.

    Args:
        reference: as the user named it.
        digest: of the manifest.
        base: name of the image that it was built on, as the manifest has it.
        config: the manifest's.
        cache: tells what is in it where its layers were read before.
    """
    contents = kept_contents(digest, cache)
    return Image(
        reference=reference,
        machine=config.platform.architecture,
        env=config.container.environment,
        labels=config.container.labels,
        installed=Installed.seen({}, contents.packages, contents.torch) if contents else None,
        # What a build added keeps the base's environment; only the base's tag says which container it was.
        base=base,
        entrypoint=config.container.entrypoint,
    )


@asynccontextmanager
async def _open(reference: str, environ: Mapping[str, str], *, patient: bool = False) -> AsyncIterator[Place]:
    if layout := LayoutReference.parse(reference):
        async with open_layout(layout.path, archive=layout.archive) as store:
            yield Place(store, layout.tag, layout.tag, None, reference)
        return
    from gpuyard.images.registry.client import RegistryClient

    parsed = ImageReference.parse(reference)
    settings = RegistrySettings() if patient else _SETTINGS
    async with RegistryClient.from_environ(environ, settings) as client:
        yield Place(client.repository(parsed), parsed.target, parsed.tag, parsed, reference)


async def _entry(place: Place, entry: Descriptor, cache: Cache, layers: ReadProgress | None) -> Image | None:
    described, inner = await place.store.get_manifest(entry.digest)
    manifest = parse_manifest(inner, described.media_type)
    return (
        await _read(place, entry.digest, manifest, cache, layers) if isinstance(manifest, Manifest) else None
    )


async def _read(
    place: Place, digest: Digest, manifest: Manifest, cache: Cache, layers: ReadProgress | None
) -> Image:
    config = Config.parse(await read_blob(place.store, manifest.config))
    base = manifest.annotations.get(_BASE_NAME, "")
    image = image_of(place.text, digest, base, config, cache)
    if layers is not None and not need_of(image, load_facts()).torch:
        await read_contents(place, BaseImage(digest, manifest, config), cache, layers)
        image = image_of(place.text, digest, base, config, cache)
    return image
