from __future__ import annotations

import os
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
