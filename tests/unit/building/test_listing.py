from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from gpuyard import errors
from gpuyard.building.copied_images import CopiedPath
from gpuyard.building.listing import ListedItem, Listing, list_build
from gpuyard.building.lock import NAME, Lock, PlatformLock, write_lock
from gpuyard.building.python.wheels import Wheel
from gpuyard.building.request import BuildRequest
from gpuyard.building.system_packages.locked import SystemPackage
from gpuyard.images.cache import Cache
from gpuyard.images.oci import Digest, Platform
from tests.unit.images.conftest import Workshop

TORCH = Wheel("torch-2.5.1-cp311-cp311-linux_x86_64.whl", "a" * 64, 800_000_000)
SMALL = [Wheel(f"{name}-1.0-py3-none-any.whl", "b" * 64, 1000 + n) for n, name in enumerate(("six", "idna"))]
LIBGL = SystemPackage("libgl1", "1.6.0-1", "amd64", 2_000_000, "c" * 64, "pool/libgl1_1.6.0-1_amd64.deb")
DIGEST = Digest("sha256:" + "0" * 64)


def listing(root: Path, tmp_path: Path, request: BuildRequest | None = None) -> Listing:
    request = request or BuildRequest("", "", root)
    return list_build(request, Cache(tmp_path / "cache"), os.environ)


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """With large and small files, and what stays out."""
    root = tmp_path / "app"
    (root / "data").mkdir(parents=True)
    (root / "train.py").write_text("x" * 10)
    for name, size in (("weights.pt", 40_000_000), ("a.bin", 1_500_000), ("b.bin", 1_600_000)):
        with (root / "data" / name).open("wb") as file:
            file.truncate(size)
    (root / "a.log").write_text("")
    (root / ".gpuyardignore").write_text("*.log\n.gpuyardignore\n")
    return root


def test_files_are_told_largest_first_with_their_layers(app: Path, tmp_path: Path) -> None:
    found = listing(app, tmp_path)
    assert [(item.what, item.layer, item.size, item.kind) for item in found.items] == [
        ("data/weights.pt", "data/weights.pt", 40_000_000, "file"),
        ("data/b.bin", "2 large files", 1_600_000, "file"),
        ("data/a.bin", "2 large files", 1_500_000, "file"),
        ("train.py", "application", 10, "file"),
    ]
    assert list(found.layers.items()) == [
        ("data/weights.pt", (1, 40_000_000)),
        ("2 large files", (2, 3_100_000)),
        ("application", (1, 10)),
    ]
    assert found.left_out == (
        (".gpuyardignore", ".gpuyardignore:2: .gpuyardignore"),
        ("a.log", ".gpuyardignore:1: *.log"),
    )


def test_what_is_locked_is_told_for_the_platforms_that_have_it(app: Path, tmp_path: Path) -> None:
    amd, arm, other = Platform("linux", "amd64"), Platform("linux", "arm64"), Platform("linux", "s390x")
    locks = {
        "linux/amd64": PlatformLock(DIGEST, wheels=(*SMALL, TORCH), system_packages=(LIBGL,)),
        "linux/arm64": PlatformLock(DIGEST, wheels=tuple(SMALL)),
    }
    write_lock(app / NAME, Lock("b", DIGEST, "", locks))
    copies = (CopiedPath.parse("uv:0.5:/uv"),)
    requirements = app / "requirements.txt"
    request = BuildRequest("", "", app, requirements, platforms=(amd, arm), copies=copies)
    found = listing(app, tmp_path, request)
    assert [item for item in found.items if item.kind != "file"] == [
        ListedItem(800_000_000, "torch 2.5.1", "wheel", TORCH.file, ("linux/amd64",)),
        ListedItem(2_000_000, "libgl1 1.6.0-1", "system package", "libgl1 1.6.0-1", ("linux/amd64",)),
        ListedItem(1001, "2 wheels", "wheel", SMALL[1].file, ("linux/amd64", "linux/arm64")),
        ListedItem(1000, "2 wheels", "wheel", SMALL[0].file, ("linux/amd64", "linux/arm64")),
        ListedItem(None, "/uv of uv:0.5", "copy", "/uv of uv:0.5"),
    ]
    assert found.notices == (
        "packages are those of gpuyard.lock; where what is required changed, a build chooses anew",
    )
    found = listing(app, tmp_path, replace(request, platforms=(amd, other)))
    assert found.notices == (
        "gpuyard.lock has nothing for linux/s390x yet: which packages go in, a build finds out",
    )
    assert NAME not in [item.what for item in found.items]


def test_a_secret_stops_a_listing_as_it_stops_a_build(app: Path, tmp_path: Path) -> None:
    (app / ".env").write_text("")
    with pytest.raises(errors.UsageError, match=r"\.env \(by its name\)"):
        listing(app, tmp_path)


async def test_layers_are_those_of_a_build(workshop: Workshop) -> None:
    for name, size in (("weights.pt", 17_000_000), ("a.bin", 1_500_000)):
        with (workshop.app / name).open("wb") as file:
            file.truncate(size)
    found = listing(workshop.app, workshop.folder)
    (image,) = (await workshop.build()).platforms.values()
    assert {title for title, _ in image.layers} == set(found.layers)
