"""A build into a registry that refuses one of its requests."""

from __future__ import annotations

import pytest

from gpuyard import errors
from gpuyard.images.oci import Platform
from tests.registry.fake import FakeRegistry, Fault, Response
from tests.registry.test_image_requests import base
from tests.unit.building.test_revision import git_commit
from tests.unit.images.conftest import Workshop, workshop

__all__ = ["base", "workshop"]

_PLATFORMS = (Platform("linux", "amd64"), Platform("linux", "arm64"))


@pytest.mark.parametrize("count", [1, 2], ids=["one platform", "two platforms"])
async def test_nothing_is_under_the_tag_unless_all_documents_were_taken(
    workshop: Workshop, fake: FakeRegistry, base: str, count: int
) -> None:
    """Also those that only refer to the image: its packages, and the commit that it is of."""
    git_commit(workshop.app)
    platforms = _PLATFORMS[:count]
    await workshop.build(base=base, target=f"{fake.name}/whole:v1", platforms=platforms)
    documents = [line for line in fake.log if line.startswith("PUT /v2/whole/manifests/")]
    assert documents[-1] == "PUT /v2/whole/manifests/v1"
    # Of each image its packages and a list of what refers to it; of the whole a commit, and so a list.
    assert len(set(documents)) == (4 if count == 1 else 2 * 2 + 2 + 2 + 1)
    for number, line in enumerate(dict.fromkeys(documents)):
        repository = f"part-{number}"
        fake.faults = [Fault(f"{line.replace('whole', repository)}$", answer=Response(403))]
        with pytest.raises(errors.ImageUnauthorized):
            await workshop.build(base=base, target=f"{fake.name}/{repository}:v1", platforms=platforms)
        assert (repository, "v1") not in fake.manifests, line
