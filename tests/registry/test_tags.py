"""One build under several names: of one repository, of several, of several registries, of a folder."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gpuyard import errors
from gpuyard.building.documents.sbom import MEDIA_TYPE
from gpuyard.building.image_summary import summarise
from gpuyard.images.oci import Platform
from gpuyard.images.places import Places
from tests.registry.fake import FakeRegistry, Fault, Response
from tests.registry.test_image_requests import base
from tests.unit.building.test_revision import git_commit
from tests.unit.images.conftest import MakeWheel, Workshop, make_wheel, workshop

__all__ = ["base", "make_wheel", "workshop"]


@pytest.fixture
async def other() -> AsyncIterator[FakeRegistry]:
    registry = FakeRegistry()
    await registry.start()
    yield registry
    await registry.stop()


async def test_tags_of_one_repository_cost_one_request_each(
    base: str, fake: FakeRegistry, workshop: Workshop
) -> None:
    once = f"{fake.name}/once:v1"
    await workshop.build(base=base, target=once)
    few = len(fake.log)
    fake.log.clear()
    names = [f"{fake.name}/app:{tag}" for tag in ("v1", "v1.2", "latest")]
    result = await workshop.build(base=base, target=names[0], tags=tuple(names[1:]))
    # The base was read before.
    assert len(fake.log) <= few + 2
    assert [fake.manifests["app", tag] for tag in ("v1.2", "latest")] == [fake.manifests["app", "v1"]] * 2
    assert result.tags == tuple(names)
    assert result.reference == f"{fake.name}/app@{result.digest}" and result.elsewhere == ()


async def test_other_repositories_get_it_by_mounts(base: str, fake: FakeRegistry, workshop: Workshop) -> None:
    git_commit(workshop.app)
    first, second = f"{fake.name}/app:v1", f"{fake.name}/mirror/app:v1"
    result = await workshop.build(base=base, target=first, tags=(second,))
    assert fake.manifests["mirror/app", "v1"] == fake.manifests["app", "v1"]
    assert result.elsewhere == (f"{fake.name}/mirror/app@{result.digest}",)
    # Two small documents of what refers to it (its packages and their empty config) are mounted, too.
    assert fake.count("PUT /v2/mirror/app/blobs") == 0
    async with Places({}) as places:
        place = await places.open(second)
        shown = await summarise(place)
        kinds = {entry.artifact_type for entry in await place.store.referrers(result.digest)}
    assert shown[0].revision and MEDIA_TYPE in kinds
    fake.log.clear()
    await workshop.build(base=base, target=first, tags=(second,))
    assert not [line for line in fake.log if "blobs/uploads" in line]


@pytest.mark.parametrize("count", [1, 2], ids=["one platform", "two platforms"])
async def test_another_registry_gets_it_whole(
    base: str, fake: FakeRegistry, other: FakeRegistry, workshop: Workshop, make_wheel: MakeWheel, count: int
) -> None:
    make_wheel("demo")
    platforms = (Platform("linux", "amd64"), Platform("linux", "arm64"))[:count]
    result = await workshop.build(
        base=base,
        target=f"{fake.name}/app:v1",
        tags=(f"{other.name}/app:v1", f"{other.name}/app:new", f"oci:{workshop.folder / 'copy'}:v1"),
        platforms=platforms,
        requirements=workshop.require("demo"),
    )
    assert other.manifests["app", "v1"] == fake.manifests["app", "v1"] == other.manifests["app", "new"]
    here = {digest for repository, digest in fake.blobs if repository == "app"}
    assert {digest for _, digest in other.blobs} == here
    assert result.elsewhere == (
        f"{other.name}/app@{result.digest}",
        f"oci:{workshop.folder / 'copy'}:v1",
    )
    async with Places({}) as places:
        shown = await summarise(await places.open(f"oci:{workshop.folder / 'copy'}:v1"))
    assert len(shown) == count


async def test_no_name_moves_where_one_place_fails(
    base: str, fake: FakeRegistry, other: FakeRegistry, workshop: Workshop
) -> None:
    other.faults = [Fault("POST .*/blobs/uploads/", times=99, answer=Response(403))]
    with pytest.raises(errors.ImageUnauthorized):
        await workshop.build(base=base, target=f"{fake.name}/app:v1", tags=(f"{other.name}/app:v1",))
    assert ("app", "v1") not in fake.manifests and ("app", "v1") not in other.manifests


async def test_tags_of_one_archive(workshop: Workshop, tmp_path: Path) -> None:
    archive = f"oci-archive:{tmp_path / 'out.tar'}"
    await workshop.build(target=f"{archive}:a", tags=(f"{archive}:b", f"oci:{tmp_path / 'folder'}:c"))
    assert await workshop.read(f"{archive}:a") == await workshop.read(f"{archive}:b")
    assert await workshop.read(f"{archive}:a") == await workshop.read(f"oci:{tmp_path / 'folder'}:c")


async def test_a_digest_is_no_name_for_a_further_one_either(workshop: Workshop) -> None:
    with pytest.raises(errors.UsageError, match="is a digest"):
        await workshop.build(tags=(f"reg.example/app@sha256:{'0' * 64}",))


async def test_another_variable_sends_the_config_alone(
    base: str, fake: FakeRegistry, workshop: Workshop
) -> None:
    target = f"{fake.name}/app:v1"
    await workshop.build(base=base, target=target, env={"A": "1"})
    fake.log.clear()
    await workshop.build(base=base, target=target, env={"A": "2"}, labels={"b": "c"})
    assert fake.count("PUT /v2/app/blobs/uploads/") == 1
