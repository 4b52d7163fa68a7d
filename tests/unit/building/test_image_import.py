from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from gpuyard import errors
from gpuyard.building.image_import import import_root
from gpuyard.images.layers import compression
from gpuyard.images.oci import Platform
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
