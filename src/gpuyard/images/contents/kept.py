"""What images hold, kept by digest: their layers are read once on a machine."""

from __future__ import annotations

from collections.abc import Callable

from gpuyard.images.cache import Cache
from gpuyard.images.contents.contents import ImageContents
from gpuyard.images.image import Image
from gpuyard.images.oci import Digest

#: The number changes with what is kept: older entries lack it.
_KIND = "base-contents-2"

#: Told the bytes of the layers read so far and in all.
ReadProgress = Callable[[int, int], None]


async def read_contents(image: Image, cache: Cache, progress: ReadProgress) -> ImageContents:
    """What an image holds, from the cache or by reading all its layers once.

    Raises:
        ImageDamaged: a layer can't be read.
    """
    if kept := kept_contents(image.digest, cache):
        return kept
    from gpuyard.images.contents.reader import read_layers  # Once per image: its imports cost start-up time.

    contents = await read_layers(
        image.store, image.manifest.layers, image.config.container.environment, progress
    )
    cache.write(_KIND, f"{image.digest[7:]}.json", contents.to_json())
    return contents


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
