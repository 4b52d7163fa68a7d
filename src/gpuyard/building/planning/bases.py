"""The base of each platform: which image it is, by the lock or by its name, and what it holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from gpuyard import errors
from gpuyard.building.lock import Lock
from gpuyard.building.work import BuildWork
from gpuyard.building.workdir.base_folders import python_of
from gpuyard.images.contents.contents import ImageContents
from gpuyard.images.contents.kept import read_contents, read_system
from gpuyard.images.image import Image, OpenedImages, open_images
from gpuyard.images.oci import Digest, Platform

if TYPE_CHECKING:
    from gpuyard.images.contents.system import BaseSystem


@dataclass(frozen=True)
class Bases:
    """The base of each platform, and the digest of what its name leads to."""

    digest: Digest
    images: Mapping[Platform, Image]


async def open_bases(work: BuildWork, platforms: Sequence[Platform], locked: Lock | None) -> Bases:
    """The bases: by the lock's digest where it has one for the platform, else what the base's name leads to.

    A platform that is new to the lock gets its base from the index that the others' are of.

    Raises:
        ImageNotFound: there is no base for a platform.
        ImageDamaged: it can't be read.
    """
    images: dict[Platform, Image] = {}
    for platform in platforms:
        if locked and (was := locked.platforms.get(str(platform))):
            opened = await _open(work, [platform], was.base_digest)
            images[platform] = _fitting(work, opened, platform)
    missing = [platform for platform in platforms if platform not in images]
    if not missing:
        assert locked is not None  # each platform's base was in it
        return Bases(locked.base_digest, images)
    opened = await _open(work, missing, locked.base_digest if locked else None)
    images |= {platform: _fitting(work, opened, platform) for platform in missing}
    return Bases(locked.base_digest if locked else opened.digest, images)


async def base_contents(work: BuildWork, base: Image) -> ImageContents:
    """What each build needs to know of a base; raises BuildError when it has no Python."""
    contents = await read_contents(base, work.cache, _reading(work, base))
    python_of(contents, work.base_called)
    return contents


async def base_system(work: BuildWork, base: Image) -> BaseSystem:
    """What only some builds need to know of a base."""
    return await read_system(base, work.cache, _reading(work, base))


async def _open(work: BuildWork, platforms: Sequence[Platform], digest: Digest | None) -> OpenedImages:
    place = replace(work.base, target=digest) if digest else work.base
    return await open_images(place, platforms, cache=work.cache, called=work.base_called)


def _fitting(work: BuildWork, opened: OpenedImages, platform: Platform) -> Image:
    remedy = "choose another --base, or build for what there is with --platform"
    found = opened.fitting(platform, work.base_called, remedy)
    if len(found.config.diff_ids) != len(found.manifest.layers):
        raise errors.ImageDamaged(
            f"{work.base_called} lists {len(found.manifest.layers)} layers and names others",
            remedy="push or copy the image again",
        )
    return found


def _reading(work: BuildWork, base: Image) -> Callable[[int, int], None]:
    return lambda done, total: work.reporter.bytes(f"reading the base {base.digest[7:19]}", done, total)
