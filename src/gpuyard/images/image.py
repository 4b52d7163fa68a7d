"""A base image for one platform: its manifest, its config, and what it holds."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from gpuyard import errors
from gpuyard.images.cache import Cache
from gpuyard.images.contents.contents import ImageContents
from gpuyard.images.oci import Config, Digest, Index, Manifest, Platform, damage_named, parse_manifest
from gpuyard.images.places import Place
from gpuyard.images.store import read_blob

_KIND = "bases"
#: The number changes with what is kept: older entries lack it.
_CONTENTS_KIND = "base-contents-2"

#: Told the bytes of the base read so far and in all.
ReadProgress = Callable[[int, int], None]


@dataclass(frozen=True)
class BaseImage:
    """The base as it is in a registry or layout.

    Attributes:
        digest: of its manifest for the platform.
        manifest, config: parsed.
    """

    digest: Digest
    manifest: Manifest
    config: Config


async def find_base(place: Place, platform: Platform, cache: Cache, locked: Digest | None) -> BaseImage:
    """The base's manifest and config; from the cache when its digest is locked.

    Args:
        place: where it is.
        platform: the one wanted.
        cache: keeps manifests and configs by digest.
        locked: digest of the platform's manifest, when it is known.

    Raises:
        ImageNotFound: no such image, or none for the platform.
    """
    if locked and (kept := cache.read(_KIND, f"{locked[7:]}.json")):
        manifest, config = str(kept.get("manifest")).encode(), str(kept.get("config")).encode()
        # What is kept was whole when it was written, and is no more than a cache.
        with suppress(errors.ImageDamaged):
            return _base(locked, manifest, config, place)
    found, content = await place.store.get_manifest(locked or place.target)
    with damage_named(f"the base {place.text}"):
        document = parse_manifest(content, found.media_type)
    if isinstance(document, Index):
        chosen = document.select(platform)
        if chosen is None:
            raise _wrong_platform(place, platform, ", ".join(map(str, document.platforms)))
        found, content = await place.store.get_manifest(chosen.digest)
        with damage_named(f"the base {place.text}"):
            document = parse_manifest(content, found.media_type)
    if not isinstance(document, Manifest):
        raise errors.ImageDamaged(f"the base {place.text} is an index of indexes, which nothing can run")
    config = await read_blob(place.store, document.config)
    base = _base(found.digest, content, config, place)
    if not base.config.platform.runs(platform):
        raise _wrong_platform(place, platform, str(base.config.platform))
    entry = {"manifest": content.decode("utf-8"), "config": config.decode("utf-8")}
    cache.write(_KIND, f"{found.digest[7:]}.json", entry)
    return base


def _base(digest: Digest, manifest: bytes, config: bytes, place: Place) -> BaseImage:
    with damage_named(f"the base {place.text}"):
        document, parsed = parse_manifest(manifest), Config.parse(config)
    if not isinstance(document, Manifest):
        raise errors.ImageDamaged(f"the base {place.text} is an index where an image was")
    if len(parsed.diff_ids) != len(document.layers):
        raise errors.ImageDamaged(
            f"the base {place.text} lists {len(document.layers)} layers and names others"
        )
    return BaseImage(digest, document, parsed)


def _wrong_platform(place: Place, platform: Platform, there: str) -> errors.ImageNotFound:
    return errors.ImageNotFound(
        f"the base {place.text} is not there for {platform}, only for {there or 'unnamed platforms'}",
        remedy="choose another --base, or build for what there is with --platform",
    )


async def read_contents(
    place: Place, base: BaseImage, cache: Cache, progress: ReadProgress | None = None
) -> ImageContents:
    """What the base holds, from the cache or by reading all its layers once.

    Raises:
        ImageDamaged: a layer can't be read.
    """
    if kept := kept_contents(base.digest, cache):
        return kept
    from gpuyard.images.contents.reader import read_base  # Once per base: its imports cost start-up time.

    environment = base.config.container.environment
    contents = await read_base(place.store, base.manifest.layers, environment, progress or _untold)
    cache.write(_CONTENTS_KIND, f"{base.digest[7:]}.json", contents.to_json())
    return contents


def kept_contents(digest: Digest, cache: Cache) -> ImageContents | None:
    """What an image holds, when its layers were read on this machine before.

    Args:
        digest: of its manifest for one platform.
        cache: where that is kept.
    """
    kept = cache.read(_CONTENTS_KIND, f"{digest[7:]}.json")
    try:
        return ImageContents.of(kept) if kept else None
    except (KeyError, TypeError, ValueError):  # a damaged entry is as good as none
        return None


def _untold(done: int, total: int) -> None:
    """Nobody wants to hear of progress."""
