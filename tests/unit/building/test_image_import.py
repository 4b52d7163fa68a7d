from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from gpuyard import errors
from gpuyard.building.image_import import import_root
from gpuyard.images.layers import compression
from gpuyard.images.oci import Descriptor, Platform
from gpuyard.images.places import Places


async def test_a_pipe_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    async with Places({}) as places:
        target = await places.open(f"oci:{tmp_path / 'out'}:v1", write=True)
        with pytest.raises(errors.UsageError, match="isn't a regular file"):
            await import_root(
                tmp_path / "pipe",
                target,
                Platform("linux", "amd64"),
                compression(),
                {},
                lambda done, total: None,
            )


@pytest.mark.parametrize(
    ("names", "why"),
    [
        (["blobs/sha256/x", "index.json", "oci-layout"], r"an OCI archive.*\n.*--base oci-archive:"),
        (["oci-layout", "blobs/sha256/x", "index.json"], r"an OCI archive.*\n.*--base oci-archive:"),
        ([".", "./blobs/sha256/x", "./index.json"], r"an OCI archive.*\n.*--base oci-archive:"),
        (
            ["0" * 64 + ".json", "0" * 64 + "/layer.tar", "manifest.json"],
            r"docker save.*\n.*skopeo copy docker-",
        ),
        (["0" * 64 + ".tar", "manifest.json"], r"docker save.*\n.*skopeo copy docker-archive:"),
        (["blobs/sha256/x", "etc/passwd"], ""),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
async def test_an_image_is_not_taken_for_a_root_file_system(
    tmp_path: Path, names: list[str], why: str, packed: bool
) -> None:
    root = tmp_path / "saved.tar"
    with tarfile.open(root, "w:gz" if packed else "w") as archive:
        for name in names:
            info = tarfile.TarInfo(name)
            info.type = tarfile.DIRTYPE if name == "." else tarfile.REGTYPE
            archive.addfile(info)
    async with Places({}) as places:
        target = await places.open(f"oci:{tmp_path / 'out'}:v1", write=True)

        async def imported() -> Descriptor:
            return await import_root(
                root, target, Platform("linux", "amd64"), compression(), {}, lambda done, total: None
            )

        if why:
            if packed and "OCI" in why:
                why = "an OCI archive.*\n.*gunzip it first"
            with pytest.raises(errors.UsageError, match=why):
                await imported()
        assert bool(await target.store.find_manifest("v1")) is False
        if not why:
            assert await imported()


async def test_a_broken_header_in_the_middle_is_not_taken_for_the_end(tmp_path: Path) -> None:
    root = tmp_path / "root.tar"
    with tarfile.open(root, "w", format=tarfile.GNU_FORMAT) as archive:
        for name in ("etc/passwd", "usr/bin/python3.11"):
            info = tarfile.TarInfo(name)
            info.size = 4
            archive.addfile(info, io.BytesIO(b"text"))
    content = bytearray(root.read_bytes())
    content[1024:1034] = b"\xff" * 10  # the name of the second file, which its checksum doesn't know
    root.write_bytes(content)
    async with Places({}) as places:
        target = await places.open(f"oci:{tmp_path / 'out'}:v1", write=True)
        with pytest.raises(errors.ImageDamaged, match=r"root\.tar: .* bad checksum"):
            await import_root(
                root, target, Platform("linux", "amd64"), compression(), {}, lambda done, total: None
            )
        assert await target.store.find_manifest("v1") is None
