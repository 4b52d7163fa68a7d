"""Reads what the verdict needs of an image from where it is: manifest and config, layers only when told."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from gpuyard.compatibility.facts import load_facts
from gpuyard.compatibility.need import Traits, need_of
from gpuyard.images.cache import Cache
from gpuyard.images.contents.kept import ReadProgress, kept_contents, read_contents
from gpuyard.images.contents.torch import Installed
from gpuyard.images.image import Image, open_images
from gpuyard.images.oci import Platform
from gpuyard.images.places import Places
from gpuyard.images.registry.settings import RegistrySettings

#: A check before a submit must not hold it up for long.
_HASTY = RegistrySettings(attempts=2, timeout_s=10.0)
_ANY = ("",)


async def read_images(
    reference: str,
    environ: Mapping[str, str],
    machines: Collection[str] | None = None,
    *,
    layers: ReadProgress | None = None,
) -> tuple[Traits, ...]:
    """The image behind a reference, once per Linux platform that it was made for.

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
    cache = Cache.from_environ(environ)
    wanted = [Platform("linux", machine) for machine in (_ANY if machines is None else machines)]
    async with Places(environ, None if layers else _HASTY) as places:
        opened = await open_images(await places.open(reference), wanted, called=reference)
        found = [traits_of(reference, image, cache) for image in opened.images]
        for number, image in enumerate(opened.images):
            if layers is not None and not need_of(found[number], load_facts()).torch:
                await read_contents(image, cache, layers)
                found[number] = traits_of(reference, image, cache)
    far = (Traits(reference, other.architecture) for other in opened.others if other.os == "linux")
    return (*found, *far)


def traits_of(reference: str, image: Image, cache: Cache) -> Traits:
    """What is known of an image without reading its layers now.

    Args:
        reference: as the user named it.
        image: for one platform.
        cache: tells what is in it where its layers were read before.
    """
    contents = kept_contents(image.digest, cache)
    container = image.config.container
    return Traits(
        reference=reference,
        machine=image.platform.architecture,
        env=container.environment,
        labels=container.labels,
        installed=Installed.seen({}, contents.packages, contents.torch) if contents else None,
        # What a build added keeps the base's environment; only the base's tag says which container it was.
        base=image.base_name,
        entrypoint=container.entrypoint,
    )
