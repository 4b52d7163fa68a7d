"""An image that is opened: index, platform, manifest and config in one value, read by one walk.

    opened = await open_images(place, (Platform("linux", "amd64"),))
    image = opened.find(Platform("linux", "amd64"))

Whoever wants to know something of an image takes it from here: nobody else goes from an index to its
manifests and their configs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass

from gpuyard import errors
from gpuyard.images.cache import Cache
from gpuyard.images.oci import (
    Config,
    Descriptor,
    Digest,
    Index,
    Manifest,
    Platform,
    damage_named,
    parse_manifest,
)
from gpuyard.images.places import Place
from gpuyard.images.store import ImageStore, read_blob
from gpuyard.images.transfer import first_error

BASE_NAME = "org.opencontainers.image.base.name"
BASE_DIGEST = "org.opencontainers.image.base.digest"

_KIND = "bases"


@dataclass(frozen=True)
class Image:
    """One platform's image.

    Attributes:
        store: what it is in.
        digest: of its manifest.
        manifest, config: parsed.
    """

    store: ImageStore
    digest: Digest
    manifest: Manifest
    config: Config

    @property
    def platform(self) -> Platform:
        """What it runs on, by its config."""
        return self.config.platform

    @property
    def size(self) -> int:
        """All layers as they travel, in bytes."""
        return sum(layer.size for layer in self.manifest.layers)

    @property
    def layers(self) -> tuple[tuple[Descriptor, str], ...]:
        """Each with what the image's history says of it, as far as it says something."""
        made = [entry.created_by or entry.comment for entry in self.config.history if not entry.empty_layer]
        made += [""] * (len(self.manifest.layers) - len(made))
        return tuple((layer, _plain(text)) for layer, text in zip(self.manifest.layers, made, strict=False))

    @property
    def base_name(self) -> str:
        """Name of the image that it was built on; empty when it doesn't say."""
        return self.manifest.annotations.get(BASE_NAME, "")

    @property
    def base(self) -> str:
        """The same with its digest where that is known."""
        digest = self.manifest.annotations.get(BASE_DIGEST, "")
        return f"{self.base_name}@{digest}" if self.base_name and digest else self.base_name


@dataclass(frozen=True)
class OpenedImages:
    """What one name leads to.

    Attributes:
        digest: of the index, or of the only manifest.
        images: those that were read, in the index's order.
        others: platforms of those that weren't.
    """

    digest: Digest
    images: tuple[Image, ...]
    others: tuple[Platform, ...] = ()

    @property
    def platforms(self) -> tuple[Platform, ...]:
        """All that there is to choose from."""
        return (*(image.platform for image in self.images), *self.others)

    def find(self, wanted: Platform) -> Image | None:
        """The first that runs on a platform, of those that were read."""
        return next((image for image in self.images if image.platform.runs(wanted)), None)

    def fitting(self, wanted: Platform, called: str, remedy: str) -> Image:
        """The same, where there must be one.

        Args:
            called: the image in messages.
            remedy: what the user can do.

        Raises:
            ImageNotFound: there is none.
        """
        if found := self.find(wanted):
            return found
        there = ", ".join(map(str, self.platforms)) or "unnamed platforms"
        raise errors.ImageNotFound(f"{called} is not there for {wanted}, only for {there}", remedy=remedy)


async def open_images(
    place: Place,
    platforms: Collection[Platform] | None = None,
    *,
    cache: Cache | None = None,
    called: str = "",
) -> OpenedImages:
    """Reads the images behind a name: each manifest and config once.

    Args:
        place: where they are.
        platforms: those that are read of an index, where an empty architecture means any; None: all. A
            manifest without an index is read in any case. Attestations are left out.
        cache: keeps manifests and configs by digest, and gives them without a request.
        called: the image in messages; as the user wrote it unless given.

    Raises:
        ImageNotFound: there is no such image.
        ImageDamaged: a document isn't what it should be.
    """
    reader = _DocumentReader(place.store, called or place.text, cache)
    if ":" in place.target and (kept := reader.kept(Digest(place.target))):
        return OpenedImages(kept.digest, (kept,))
    found, content = await place.store.get_manifest(place.target)
    document = reader.parse(content, found.media_type)
    if isinstance(document, Manifest):
        return OpenedImages(found.digest, (await reader.image(found.digest, content, document),))
    wanted = [entry for entry in _real(document) if _is_wanted(entry.platform, platforms)]
    try:
        async with asyncio.TaskGroup() as tasks:
            reading = [
                tasks.create_task(reader.entry(entry), name=f"read {entry.digest}") for entry in wanted
            ]
    except BaseExceptionGroup as group:
        raise first_error(group) from None
    images = tuple(image for task in reading if (image := task.result()))
    if wanted and not images:
        raise errors.ImageDamaged(f"{reader.called} is an index of indexes, which nothing can run")
    others = (entry.platform for entry in _real(document) if entry not in wanted)
    return OpenedImages(found.digest, images, tuple(filter(None, others)))


@dataclass(frozen=True)
class _DocumentReader:
    """Reads documents of one store, and names it in errors."""

    store: ImageStore
    called: str
    cache: Cache | None

    async def entry(self, entry: Descriptor) -> Image | None:
        """None for an index in the index, which nothing could pull."""
        if kept := self.kept(entry.digest):
            return kept
        found, content = await self.store.get_manifest(entry.digest)
        document = self.parse(content, found.media_type)
        if isinstance(document, Index):
            return None
        return await self.image(found.digest, content, document)

    async def image(self, digest: Digest, content: bytes, manifest: Manifest) -> Image:
        config = await read_blob(self.store, manifest.config)
        with damage_named(self.called):
            image = Image(self.store, digest, manifest, Config.parse(config))
        if self.cache:
            entry = {"manifest": content.decode("utf-8"), "config": config.decode("utf-8")}
            self.cache.write(_KIND, f"{digest[7:]}.json", entry)
        return image

    def kept(self, digest: Digest) -> Image | None:
        kept = self.cache.read(_KIND, f"{digest[7:]}.json") if self.cache else None
        # What is kept was whole when it was written, and is no more than a cache.
        with suppress(errors.ImageDamaged):
            if kept and isinstance(manifest := parse_manifest(str(kept.get("manifest")).encode()), Manifest):
                return Image(self.store, digest, manifest, Config.parse(str(kept.get("config")).encode()))
        return None

    def parse(self, content: bytes, media_type: str) -> Manifest | Index:
        with damage_named(self.called):
            return parse_manifest(content, media_type)


def _real(index: Index) -> Iterator[Descriptor]:
    """The entries that are images; one without a platform may be."""
    return (e for e in index.manifests if e.platform is None or e.platform.os not in ("", "unknown"))


def _is_wanted(platform: Platform | None, wanted: Collection[Platform] | None) -> bool:
    if wanted is None:
        return True
    return platform is not None and any(
        platform.runs(each) if each.architecture else platform.os == each.os for each in wanted
    )


def _plain(text: str) -> str:
    """What a history entry says, without the shell and the markers that builders put around it."""
    text = text.removeprefix("/bin/sh -c ").removeprefix("#(nop) ").removesuffix(" # buildkit")
    return " ".join(text.split())
