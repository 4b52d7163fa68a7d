"""Says which layouts of this machine hold another image by now than the lock keeps to."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

from gpuyard import errors
from gpuyard.building.lock import Lock
from gpuyard.building.work import BuildWork
from gpuyard.images.image import open_images
from gpuyard.images.oci import Digest, Platform
from gpuyard.images.places import Place


async def tell_moved(lock: Lock, work: BuildWork) -> None:
    """Tells of the base and of images to copy from: who has just built one expects it to be taken.

    Only of layouts. A registry's tags move at any time, and to ask for each would cost every build a request.
    """
    places = {work.base.text: work.base} | {copied.image: place for copied, place in work.copies}
    for name, place in places.items():
        if place.reference is not None or not place.tag:
            continue
        kept = {
            platform: digest
            for platform in work.request.platforms
            if (digest := _locked(lock, name, platform, work))
        }
        now = await _now(place, kept, work)
        if moved := next(((was, now[each]) for each, was in kept.items() if now.get(each, was) != was), None):
            was, is_now = moved
            work.reporter.say(
                f"{work.request.lock_path.name} keeps to {name} as it was, {was[7:19]}, and it is "
                f"{is_now[7:19]} now; --upgrade takes the newer one"
            )


def _locked(lock: Lock, name: str, platform: Platform, work: BuildWork) -> Digest | None:
    locked = lock.platforms[str(platform)]
    return locked.copied.get(name) or (locked.base_digest if name == work.base.text else None)


async def _now(place: Place, platforms: Mapping[Platform, Digest], work: BuildWork) -> dict[Platform, Digest]:
    # What isn't there any more is in the way of nothing: the build follows the lock.
    with suppress(errors.ImageError):
        opened = await open_images(place, list(platforms), cache=work.cache)
        return {each: image.digest for each in platforms if (image := opened.find(each))}
    return {}
