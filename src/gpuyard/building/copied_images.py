"""Files of other images: what the user names, and the image behind the name, by digest."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from gpuyard import errors
from gpuyard.building.environment import PREFIX
from gpuyard.images.cache import Cache
from gpuyard.images.image import Image, open_images
from gpuyard.images.oci import Digest, Platform
from gpuyard.images.places import Place

_LAYOUTS = ("oci-archive:", "oci:")
_OWN = posixpath.dirname(PREFIX)


@dataclass(frozen=True)
class CopiedPath:
    """A file or folder of another image.

    Attributes:
        image: as the user names it.
        path: absolute in that image.
        destination: absolute in the new image; a folder for it when it ends in a slash.
        opened: what leads to the image from here, where that is more than its name.
    """

    image: str
    path: str
    destination: str
    opened: str = ""

    @classmethod
    def parse(cls, text: str) -> CopiedPath:
        """`IMAGE:/path` or `IMAGE:/path:/destination`; raises UsageError."""
        head = next((layout for layout in _LAYOUTS if text.startswith(layout)), "")
        rest = text[len(head) :]
        at = rest.find(":/", 1)
        image, paths = rest[:at], rest[at + 1 :]
        path, other, destination = paths.partition(":/")
        if at < 0 or not image or not _plain(path):
            raise errors.UsageError(
                f"{text!r} names no file or folder of an image",
                remedy="write IMAGE:/path, or IMAGE:/path:/destination",
            )
        copied = cls(head + image, _plain(path), "/" + destination if other else _plain(path))
        place = _plain(copied.destination)
        if place == _OWN or place.startswith(f"{_OWN}/"):
            raise errors.UsageError(
                f"{text!r} would lie in {_OWN}, which is gpuyard's own", remedy="choose another destination"
            )
        return copied

    def place(self, *, is_folder: bool) -> str:
        """Where it goes, without a leading slash; a slash at the end means what it means to COPY and `cp`."""
        place = _plain(self.destination).strip("/")
        if is_folder or not self.destination.endswith("/"):
            return place
        return posixpath.join(place, posixpath.basename(self.path))

    def __str__(self) -> str:
        return f"{self.path} of {self.image}"


def _plain(path: str) -> str:
    """A path without dots and doubled slashes; empty for the root."""
    return posixpath.normpath("/" + path).rstrip("/").replace("//", "/")


async def open_copied(
    copies: Sequence[tuple[CopiedPath, Place]],
    platform: Platform,
    locked: Mapping[str, Digest],
    cache: Cache,
) -> dict[str, Image]:
    """The images for one platform, by their names.

    Args:
        copies: each with where its image is.
        platform: of the image that is built.
        locked: digests of manifests for that platform, by the images' names.
        cache: keeps what was read of an image.

    Raises:
        ImageNotFound: there is no such image for the platform.
    """
    found: dict[str, Image] = {}
    for copied, place in copies:
        if copied.image in found:
            continue
        target, called = (
            replace(place, target=locked.get(copied.image, place.target)),
            f"the image {copied.image}",
        )
        opened = await open_images(target, [platform], cache=cache, called=called)
        remedy = "name another image, or build for what there is with --platform"
        found[copied.image] = opened.fitting(platform, called, remedy)
    return found
