"""How many requests reading an image takes: each document once, and none that isn't needed."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial

import pytest

from gpuyard.building.image_summary import summarise
from gpuyard.compatibility.inspect import read_images
from gpuyard.images.oci import OCI_INDEX, Descriptor, Index, Manifest, Platform, parse_manifest
from gpuyard.images.places import Places
from gpuyard.images.store import ImageStore
from gpuyard.images.transfer import Blob, ensure_blobs
from tests.registry.fake import FakeRegistry
from tests.unit.images.conftest import Workshop, workshop

__all__ = ["workshop"]

_AMD64, _ARM64 = Platform("linux", "amd64"), Platform("linux", "arm64")


@pytest.fixture
async def base(workshop: Workshop, fake: FakeRegistry) -> AsyncIterator[str]:
    """An image for two platforms in the registry; its name. What was asked until then is forgotten."""
    name = f"{fake.name}/base:v1"
    await workshop.make_base(platform="linux/arm64", name="arm")
    async with Places({}) as places:
        target = await places.open(name, write=True)
        entries = []
        for tag, platform in (("12", _AMD64), ("arm", _ARM64)):
            source = await places.open(f"oci:{workshop.folder / 'base'}:{tag}")
            copied = await _copy(source.store, target.store, tag)
            entries.append(replace(copied, platform=platform))
        await target.store.put_manifest(Index(tuple(entries)).to_bytes(), OCI_INDEX, "v1")
    fake.log.clear()
    yield name


async def _copy(source: ImageStore, target: ImageStore, tag: str) -> Descriptor:
    """An image of one platform; by digest alone."""
    found, content = await source.get_manifest(tag)
    manifest = parse_manifest(content, found.media_type)
    assert isinstance(manifest, Manifest)
    blobs = [Blob(blob, partial(source.open_blob, blob)) for blob in (manifest.config, *manifest.layers)]
    await ensure_blobs(target, blobs)
    return await target.put_manifest(content, found.media_type, None)


def _asked(fake: FakeRegistry) -> Counter[str]:
    """Requests for documents, by method and kind; what was asked until then is forgotten."""
    lines = (line.split("/") for line in fake.log)
    found = Counter(f"{words[0].strip()} {words[3]}" for words in lines)
    fake.log.clear()
    return found


async def test_an_image_is_shown_by_one_request_for_each_document(base: str, fake: FakeRegistry) -> None:
    async with Places({}) as places:
        shown = await summarise(await places.open(base))
    assert len(shown) == 2
    # One manifest is looked for in vain, as referrers of a registry without their API are under a tag.
    assert _asked(fake) == {"GET manifests": 3 + 1, "GET blobs": 2, "GET referrers": 1}


@pytest.mark.parametrize(("machines", "manifests", "configs"), [(None, 3, 2), (("amd64",), 2, 1), ((), 1, 0)])
async def test_a_check_reads_the_platforms_that_it_is_for(
    base: str,
    fake: FakeRegistry,
    workshop: Workshop,
    machines: tuple[str, ...] | None,
    manifests: int,
    configs: int,
) -> None:
    images = await read_images(base, workshop.environ, machines)
    assert [(image.reference, image.machine) for image in images] == [(base, "amd64"), (base, "arm64")]
    assert [bool(image.env) for image in images] == [number < configs for number in range(2)]
    assert _asked(fake) == Counter({"GET manifests": manifests, "GET blobs": configs})


async def test_a_build_reads_its_base_once(base: str, fake: FakeRegistry, workshop: Workshop) -> None:
    both = (_AMD64, _ARM64)
    await workshop.build(base=base, platforms=(_AMD64,))
    # The config; the layer to see what is in it, and once more to copy it.
    assert _asked(fake) == {"GET manifests": 2, "GET blobs": 3}
    await workshop.build(base=base, platforms=both)
    # The new platform is taken from the index that is locked; the layer is in the target by now.
    assert _asked(fake) == {"GET manifests": 2, "GET blobs": 2}
    await workshop.build(base=base, platforms=both)
    assert _asked(fake) == {}
    await workshop.build(base=base, platforms=both, upgrade=True)
    assert _asked(fake) == {"GET manifests": 1}
