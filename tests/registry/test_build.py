"""A build into a registry: one that refuses a request, and what an edit costs."""

from __future__ import annotations

import asyncio
import re
import sys
from collections import Counter

import pytest

from gpuyard import errors
from gpuyard.images.oci import Platform
from tests.e2e.shell import GPUYARD
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


@pytest.mark.parametrize("count", [1, 2], ids=["one platform", "two platforms"])
async def test_a_registry_that_lost_a_blob_gets_it_again(
    workshop: Workshop, fake: FakeRegistry, base: str, count: int
) -> None:
    wanted = {
        "base": base,
        "target": f"{fake.name}/app:v1",
        "tags": (f"{fake.name}/more:v1",),
        "platforms": _PLATFORMS[:count],
    }
    first = await workshop.build(**wanted)
    before = dict(fake.blobs)
    for image in first.platforms.values():
        for _, layer in image.layers:
            for repository in ("app", "more"):
                fake.blobs.pop((repository, layer.blob.digest), None)
    assert fake.blobs != before
    second = await workshop.build(**wanted)
    assert (second.digest, second.unchanged) == (first.digest, False)
    assert fake.blobs == before


#: None of these is needed to build an image again after an edit, and each costs more than the packing.
_HEAVY = frozenset(
    {"anyio", "bz2", "cryptography", "decimal", "email", "google", "grpc", "h11", "http", "httpcore", "httpx",
     "idna", "lzma", "numpy", "packaging", "pathspec", "pysequoia", "resolvelib", "rich", "ruamel", "shutil",
     "tarfile", "tempfile", "uvicorn", "zipfile", "zstandard"}
)  # fmt: skip
#: Modules of ours (folders among them), for a build without a spec.
_MOST_MODULES = 107


async def test_an_edit_imports_and_asks_no_more_than_it_needs(
    workshop: Workshop, fake: FakeRegistry, base: str
) -> None:
    """Counted, since time depends on the machine."""
    words = ("-X", "importtime", GPUYARD, "build", "--base", base, "-t", f"{fake.name}/edited:v1")
    imported: set[str] = set()
    for number in range(3):
        (workshop.app / "train.py").write_text(f"print({number})\n")
        fake.log.clear()
        process = await asyncio.create_subprocess_exec(
            sys.executable, *words, cwd=workshop.app, env=workshop.environ,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        _, said = await process.communicate()
        assert process.returncode == 0, said[-2000:]
        imported = set(re.findall(r"(?m)^import time: +\d+ \| +\d+ \| +(\S+)$", said.decode()))
    assert {name.partition(".")[0] for name in imported} & _HEAVY == set()
    ours = sorted(name for name in imported if name.partition(".")[0] == "gpuyard")
    assert len(ours) <= _MOST_MODULES, ours
    asked = Counter(line.partition(" ")[0] for line in fake.log)
    # Whether image and blobs are there; config and application; SBOM, what lists it, tag.
    assert asked == {"HEAD": 6, "POST": 2, "PUT": 2 + 3, "GET": 1}, fake.log
