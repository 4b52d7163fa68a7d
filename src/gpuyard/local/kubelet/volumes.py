"""Volumes of a pod: emptyDir, in memory as /dev/shm or as a folder of the pod's own, ConfigMaps, files with
what is written on the pod (downwardAPI), claims and folders of the host.

Sources: kubernetes `pkg/volume/configmap/configmap.go`, `pkg/volume/hostpath/host_path.go`. A cluster's
kubelet also brings later changes of a ConfigMap in; here a pod keeps what there was when it started.
"""

from __future__ import annotations

import asyncio
import base64
import posixpath
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpuyard import errors
from gpuyard.kube.objects import CONFIG_MAPS, PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES, Manifest, key_of
from gpuyard.kube.quantity import to_int
from gpuyard.local.kubelet.context import KubeletContext
from gpuyard.local.kubelet.environment import field_text
from gpuyard.local.kubelet.pod_folders import PodFolder, VolumeFile
from gpuyard.local.runtime.values import Mount

_SHM = "/dev/shm"
_READABLE = 0o444


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
    pod_spec: Mapping[str, Any],
    container: Mapping[str, Any],
    folder: Path,
    elsewhere: Mapping[str, Path],
    *,
    can_mount: bool,
) -> ContainerVolumes:
    """The mounts of a container.

    Args:
        pod_spec: with the volumes.
        container: with the mounts.
        folder: where the pod's own volumes are, each under its name.
        elsewhere: the folders of its other volumes, by name.
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
                remedy="install bubblewrap and restart the yard, or leave the volume out and use a folder of "
                "the host by its own path",
            )
        claim = volume.get("persistentVolumeClaim") or {}
        is_written_for_it = not volume.keys().isdisjoint(("configMap", "downwardAPI"))
        read_only = bool(mount.get("readOnly")) or bool(claim.get("readOnly")) or is_written_for_it
        source = elsewhere.get(mount["name"]) or folder / mount["name"]
        mounts.append(Mount(source, target, read_only))
    # A mount would hide what was mounted below it before.
    return ContainerVolumes(tuple(sorted(mounts, key=lambda m: m.container_path)), shm_bytes, has_shm)


async def set_up_volumes(context: KubeletContext, pod: Manifest, folder: PodFolder) -> dict[str, Path]:
    """Makes a pod's volumes ready; the folders of those that aren't its own, by name.

    Raises:
        MountError: what a volume names isn't there (yet), or can't be written.
    """
    await _write_config_maps(context, pod, folder)
    for name, files in pod_files(pod).items():
        await asyncio.to_thread(folder.write_volume, name, files)
    found: dict[str, Path] = {}
    for volume in pod["spec"].get("volumes") or ():
        source = volume.get("hostPath")
        if claim := volume.get("persistentVolumeClaim"):
            source = await _claimed(context, volume, claim["claimName"], key_of(pod).namespace)
        if source is not None:
            found[volume["name"]] = await asyncio.to_thread(_host_folder, volume, source)
    return found


def pod_files(pod: Manifest) -> dict[str, list[VolumeFile]]:
    """The files of its volumes that say what is written on the pod now, by the volume's name."""
    found: dict[str, list[VolumeFile]] = {}
    for volume in pod["spec"].get("volumes") or ():
        if (source := volume.get("downwardAPI")) is not None:
            usual = source.get("defaultMode", 0o644)
            found[volume["name"]] = [
                VolumeFile(
                    item["path"],
                    (field_text(item["fieldRef"]["fieldPath"], pod) or "").encode(),
                    item.get("mode", usual) | _READABLE,
                )
                for item in source.get("items") or ()
            ]
    return found


async def _claimed(
    context: KubeletContext, volume: Mapping[str, Any], claim_name: str, namespace: str
) -> Mapping[str, Any]:
    """The folder that the claim's volume is."""
    try:
        claim = await context.api.get(PERSISTENT_VOLUME_CLAIMS, claim_name, namespace)
        if (claim.get("status") or {}).get("phase") != "Bound":
            raise _failed(volume, f'persistentvolumeclaim "{claim_name}" is not bound')
        found = await context.api.get(PERSISTENT_VOLUMES, claim["spec"]["volumeName"])
    except errors.NotFound as error:
        raise _failed(volume, error.message) from error
    source: Mapping[str, Any] = found["spec"]["hostPath"]
    return source


def _host_folder(volume: Mapping[str, Any], source: Mapping[str, Any]) -> Path:
    path = Path(source["path"])
    try:
        if source.get("type") == "DirectoryOrCreate":
            path.mkdir(mode=0o755, parents=True, exist_ok=True)
        if path.is_dir():
            return path
    except OSError as error:
        raise _failed(volume, f"{path}: {error.strerror}") from error
    raise _failed(volume, f"hostPath type check failed: {path} is not a directory")


async def _write_config_maps(context: KubeletContext, pod: Manifest, folder: PodFolder) -> None:
    """Writes a pod's volumes with what a ConfigMap holds: files in its folder, once, before its first start.

    Raises:
        MountError: a ConfigMap or one of its keys isn't there (yet), or the files can't be written.
    """
    spec = pod["spec"]
    # On a cluster the files belong to that group. Here nobody else comes near the pod's folder.
    widened = _READABLE if (spec.get("securityContext") or {}).get("fsGroup") is not None else 0
    for volume in spec.get("volumes") or ():
        if (source := volume.get("configMap")) is None:
            continue
        try:
            config_map: Manifest = await context.api.get(CONFIG_MAPS, source["name"], key_of(pod).namespace)
        except errors.NotFound:
            if not source.get("optional"):
                raise _failed(volume, f'configmap "{source["name"]}" not found') from None
            config_map = {}
        files = list(_files(volume, source, config_map, widened))
        await asyncio.to_thread(folder.write_volume, volume["name"], files)


def _files(
    volume: Mapping[str, Any], source: Mapping[str, Any], config_map: Manifest, widened: int
) -> Iterator[VolumeFile]:
    content = {key: text.encode() for key, text in (config_map.get("data") or {}).items()}
    binary = config_map.get("binaryData") or {}
    content |= {key: base64.b64decode(text) for key, text in binary.items()}
    usual = source.get("defaultMode", 0o644)
    items = source.get("items") or [{"key": key, "path": key} for key in content]
    for item in items:
        if item["key"] in content:
            mode = item.get("mode", usual) | widened
            yield VolumeFile(item["path"], content[item["key"]], mode)
        elif not source.get("optional"):
            raise _failed(volume, f"configmap references non-existent config key: {item['key']}")


def _failed(volume: Mapping[str, Any], why: str) -> errors.MountError:
    return errors.MountError(
        f'MountVolume.SetUp failed for volume "{volume["name"]}" : {why}',
        remedy="create it: the pod waits for it",
    )
