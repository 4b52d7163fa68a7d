"""Volumes of a pod: emptyDir, in memory as /dev/shm or as a folder of the pod's own, and ConfigMaps."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpuyard import errors
from gpuyard.kube.quantity import to_int
from gpuyard.local.runtime.values import Mount

_SHM = "/dev/shm"


@dataclass(frozen=True)
class ContainerVolumes:
    """What one container mounts.

    Attributes:
        mounts: folders, which the caller makes.
        shm_bytes: size of /dev/shm; None for the kernel's default.
        has_shm: whether a volume in memory is mounted there.
    """

    mounts: tuple[Mount, ...] = ()
    shm_bytes: int | None = None
    has_shm: bool = False


def container_volumes(
    pod_spec: Mapping[str, Any], container: Mapping[str, Any], folder: Path, *, can_mount: bool
) -> ContainerVolumes:
    """The mounts of a container.

    Args:
        pod_spec: with the volumes.
        container: with the mounts.
        folder: where the pod's volumes are, each under its name.
        can_mount: whether containers have mount namespaces.

    Raises:
        StartError: a folder is to be mounted where nothing can be.
    """
    volumes = {volume["name"]: volume for volume in pod_spec.get("volumes") or ()}
    mounts: list[Mount] = []
    shm_bytes: int | None = None
    has_shm = False
    for mount in container.get("volumeMounts") or ():
        target = posixpath.normpath(mount["mountPath"])
        volume = volumes[mount["name"]]
        empty_dir = volume.get("emptyDir") or {}
        if target == _SHM and empty_dir.get("medium") == "Memory":
            has_shm = True
            if can_mount and "sizeLimit" in empty_dir:
                shm_bytes = to_int(empty_dir["sizeLimit"])
            continue
        if not can_mount:
            raise errors.StartError(
                f"volume {mount['name']} can't be mounted at {target}: this host has no isolation",
                remedy="install bubblewrap, or use a folder of the host",
            )
        read_only = bool(mount.get("readOnly")) or "configMap" in volume
        mounts.append(Mount(folder / mount["name"], target, read_only))
    # A mount would hide what was mounted below it before.
    return ContainerVolumes(tuple(sorted(mounts, key=lambda m: m.container_path)), shm_bytes, has_shm)
