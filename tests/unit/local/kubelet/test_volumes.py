from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gpuyard import errors
from gpuyard.local.kubelet.volumes import ContainerVolumes, container_volumes
from gpuyard.local.runtime.values import Mount

SPEC: dict[str, Any] = {
    "volumes": [
        {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}},
        {"name": "data", "emptyDir": {}},
    ]
}


def _mounts(*mounts: dict[str, Any]) -> dict[str, Any]:
    return {"name": "main", "volumeMounts": list(mounts)}


def test_shm() -> None:
    container = _mounts({"name": "shm", "mountPath": "/dev/shm/"})
    assert container_volumes(SPEC, container, Path("/v"), {}, can_mount=True) == ContainerVolumes(
        (), 1 << 30, has_shm=True
    )
    assert container_volumes(SPEC, container, Path("/v"), {}, can_mount=False) == ContainerVolumes(
        has_shm=True
    )


def test_folders_outer_first() -> None:
    container = _mounts(
        {"name": "shm", "mountPath": "/tmp/a/b", "readOnly": True},
        {"name": "data", "mountPath": "/tmp/a"},
    )
    assert container_volumes(SPEC, container, Path("/v"), {}, can_mount=True).mounts == (
        Mount(Path("/v/data"), "/tmp/a"),
        Mount(Path("/v/shm"), "/tmp/a/b", read_only=True),
    )


def test_nothing_can_be_mounted() -> None:
    container = _mounts({"name": "data", "mountPath": "/data"})
    with pytest.raises(errors.StartError, match="volume data can't be mounted at /data"):
        container_volumes(SPEC, container, Path("/v"), {}, can_mount=False)


def test_none() -> None:
    assert container_volumes({}, {"name": "main"}, Path("/v"), {}, can_mount=False) == ContainerVolumes()
