"""What images hold, kept by digest: their layers are read once on a machine."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from gpuyard.images.cache import Cache
from gpuyard.images.contents.contents import ImageContents
from gpuyard.images.image import Image
from gpuyard.images.oci import Digest

if TYPE_CHECKING:
    from gpuyard.images.contents.system import BaseSystem

#: The numbers change with what is kept: older entries lack it.
_KIND = "base-contents-6"
#: Large, and few builds need it: no part of what each build reads.
_SYSTEM = "base-system-2"

#: Told the bytes of the layers read so far and in all.
ReadProgress = Callable[[int, int], None]


async def read_contents(image: Image, cache: Cache, progress: ReadProgress) -> ImageContents:
    """What an image holds, from the cache or by reading all its layers once.

    Raises:
        ImageDamaged: a layer can't be read.
    """
    return kept_contents(image.digest, cache) or (await _read(image, cache, progress))[0]


async def read_system(image: Image, cache: Cache, progress: ReadProgress) -> BaseSystem:
    """What an image says of itself as a system, from the cache or by reading all its layers once.

    Raises:
        ImageDamaged: a layer can't be read.
    """
    from gpuyard.images.contents.system import BaseSystem

    kept = cache.read(_SYSTEM, f"{image.digest[7:]}.json")
    try:
        if kept:
            return BaseSystem.of(kept)
    except (KeyError, TypeError, ValueError, AttributeError):  # a damaged entry is as good as none
        pass
    return (await _read(image, cache, progress))[1]


async def _read(image: Image, cache: Cache, progress: ReadProgress) -> tuple[ImageContents, BaseSystem]:
    """Both, by one reading of the layers."""
    from gpuyard.images.contents.reader import read_layers  # Once per image: its imports cost start-up time.

    found = await read_layers(image.store, image.manifest.layers, progress)
    env = image.config.container.environment
    contents, system = found.contents(env), found.system(env)
    cache.write(_SYSTEM, f"{image.digest[7:]}.json", system.to_json())
    cache.write(_KIND, f"{image.digest[7:]}.json", contents.to_json())
    return contents, system


def kept_contents(digest: Digest, cache: Cache) -> ImageContents | None:
    """What an image holds, when its layers were read on this machine before.

    Args:
        digest: of its manifest for one platform.
        cache: where that is kept.
    """
    kept = cache.read(_KIND, f"{digest[7:]}.json")
    try:
        return ImageContents.of(kept) if kept else None
    except (KeyError, TypeError, ValueError):  # a damaged entry is as good as none
        return None
