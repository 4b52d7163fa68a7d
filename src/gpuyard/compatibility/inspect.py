"""Reads what the verdict needs of an image from where it is: manifest and config, layers only when told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager

from gpuyard import errors
from gpuyard.compatibility.facts import load_facts
from gpuyard.compatibility.need import Image, need_of
from gpuyard.images.cache import Cache, cache_folder
from gpuyard.images.contents.torch import Installed
from gpuyard.images.image import BaseImage, ReadProgress, kept_contents, read_contents
from gpuyard.images.layout.reference import LayoutReference
from gpuyard.images.layout.store import open_layout
from gpuyard.images.oci import Config, Descriptor, Digest, Manifest, damage_named, parse_manifest
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
    machines: Collection[str] | None = None,
    *,
    layers: ReadProgress | None = None,
) -> tuple[Image, ...]:
    """The image behind a reference, once per platform that it was made for.

    Args:
        reference: in a registry, or `oci:PATH[:TAG]` or `oci-archive:PATH[:TAG]`.
        environ: where Docker's credentials are looked for, and what is said of registries.
        machines: CPU architectures whose images are read; of the others an index tells the name alone, at
            no cost. None: all are.
        layers: told how it goes on when layers are read, which happens where nothing else tells of torch;
            None: they aren't.

    Raises:
        ImageError: it isn't there, can't be read, or the registry doesn't answer.
    """
    cache = Cache(cache_folder(environ))
    async with _open(reference, environ, patient=layers is not None) as place:
        found, content = await place.store.get_manifest(place.target)
        with damage_named(place.text):
            document = parse_manifest(content, found.media_type)
        if isinstance(document, Manifest):
            return (await _read(place, found.digest, document, cache, layers),)
        there = [
            (e, e.platform.architecture)
            for e in document.manifests
            if e.platform and e.platform.os == "linux"
        ]
        near = [entry for entry, machine in there if machines is None or machine in machines]
        far = (Image(reference, machine) for entry, machine in there if entry not in near)
        try:
            async with asyncio.TaskGroup() as tasks:
                reading = [
                    tasks.create_task(_read_entry(place, entry, cache, layers), name=f"read {entry.digest}")
                    for entry in near
                ]
        except* errors.GpuyardError as group:
            raise group.exceptions[0] from None
        return (*(image for task in reading if (image := task.result())), *far)


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


async def _read_entry(
    place: Place, entry: Descriptor, cache: Cache, layers: ReadProgress | None
) -> Image | None:
    described, inner = await place.store.get_manifest(entry.digest)
    with damage_named(place.text):
        manifest = parse_manifest(inner, described.media_type)
    # An index of indexes is nothing that a node could pull.
    if not isinstance(manifest, Manifest):
        return None
    return await _read(place, entry.digest, manifest, cache, layers)


async def _read(
    place: Place, digest: Digest, manifest: Manifest, cache: Cache, layers: ReadProgress | None
) -> Image:
    content = await read_blob(place.store, manifest.config)
    with damage_named(place.text):
        config = Config.parse(content)
    base = manifest.annotations.get(_BASE_NAME, "")
    image = image_of(place.text, digest, base, config, cache)
    if layers is not None and not need_of(image, load_facts()).torch:
        await read_contents(place, BaseImage(digest, manifest, config), cache, layers)
        image = image_of(place.text, digest, base, config, cache)
    return image
