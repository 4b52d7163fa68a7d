"""From a container's manifest to a started container of podman; `starting` does the same for processes."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gpuyard import errors
from gpuyard.kube.objects import Manifest, key_of, uid_of
from gpuyard.local.kubelet.devices.manager import ContainerAllocation
from gpuyard.local.kubelet.environment import compose, expand_words, own_environment
from gpuyard.local.kubelet.host import Host
from gpuyard.local.kubelet.pod_folders import PodFolder
from gpuyard.local.kubelet.starting import limits_of, sources_of
from gpuyard.local.kubelet.volumes import container_volumes
from gpuyard.local.runtime.container import Container
from gpuyard.local.runtime.podman.cdi import resolve
from gpuyard.local.runtime.podman.host import Image
from gpuyard.local.runtime.values import ContainerSpec, DeviceNode, ImageRun, Mount


async def start_image_container(
    host: Host,
    pod: Manifest,
    container: Mapping[str, Any],
    attempt: int,
    allocation: ContainerAllocation,
    master_port: int,
    image: Image,
) -> Container:
    """Starts one container of a pod in an image that podman has.

    Raises:
        ContainerConfigError: a ConfigMap or the like isn't there (yet), or it would run as root and mustn't.
        DeviceError: the node has no CDI spec of a device.
        StartError: it can't be started as it is.
        ProcessError, ImageError: the pod's folder can't be written, podman doesn't work.
    """
    user = _user(pod["spec"], container, image)
    edits = await asyncio.to_thread(resolve, host.cdi_dir, allocation.cdi_devices)
    sources = await sources_of(host, key_of(pod).namespace, container)
    own = own_environment(pod, container, sources, host.node.allocatable_quantities, allocation.envs)
    # As in a cluster CDI comes last: it says that nothing else is to hand GPUs over.
    environment = {**compose({}, allocation.envs, own, master_port), **dict(edits.env)}
    folder = PodFolder(host.pods_dir / uid_of(pod))
    volumes = container_volumes(pod["spec"], container, folder.volumes, can_mount=True)
    for mount in volumes.mounts:
        await asyncio.to_thread(folder.make_volume, mount.host_path.name)
    plugin_mounts = [Mount(Path(m.host_path), m.container_path, m.read_only) for m in allocation.mounts]
    devices = {d.container_path: DeviceNode(d.host_path, d.container_path) for d in allocation.devices}
    devices |= {d.container_path: d for d in edits.devices}
    spec = ContainerSpec(
        name=f"{uid_of(pod)}_{container['name']}_{attempt}",
        argv=expand_words(container.get("args") or (), environment),
        env=environment,
        working_dir=container.get("workingDir") or "",
        devices=list(devices.values()),
        mounts=[*plugin_mounts, *edits.mounts, *volumes.mounts],
        shm_bytes=0 if volumes.has_shm and volumes.shm_bytes is None else volumes.shm_bytes,
        limits=limits_of(container),
        image=_image_run(pod["spec"], container, image, user, environment),
    )
    return await host.runtime.start(folder.attempt(container["name"], attempt), spec)


def _image_run(
    pod_spec: Mapping[str, Any],
    container: Mapping[str, Any],
    image: Image,
    user: str,
    environment: Mapping[str, str],
) -> ImageRun:
    command = tuple(expand_words(container.get("command") or (), environment))
    context = container.get("securityContext") or {}
    pod_context = pod_spec.get("securityContext") or {}
    capabilities = context.get("capabilities") or {}
    groups = [pod_context.get("fsGroup"), *(pod_context.get("supplementalGroups") or ())]
    seccomp = context.get("seccompProfile") or pod_context.get("seccompProfile") or {}
    return ImageRun(
        image_id=image.id,
        entrypoint=command or None,
        user=user,
        groups=tuple(dict.fromkeys(group for group in groups if group is not None)),
        add_capabilities=tuple(capabilities.get("add") or ()),
        drop_capabilities=tuple(capabilities.get("drop") or ()),
        no_new_privileges=context.get("allowPrivilegeEscalation") is False,
        read_only_root=bool(context.get("readOnlyRootFilesystem")),
        unconfined=seccomp.get("type") == "Unconfined",
    )


def _user(pod_spec: Mapping[str, Any], container: Mapping[str, Any], image: Image) -> str:
    """UID and GID for podman; empty for the image's own.

    Raises:
        ContainerConfigError: as kubelets refuse root where runAsNonRoot is set, in their words.
    """
    context = {**(pod_spec.get("securityContext") or {}), **_given(container.get("securityContext"))}
    uid, gid = context.get("runAsUser"), context.get("runAsGroup")
    if context.get("runAsNonRoot"):
        name = image.user.partition(":")[0]
        if uid == 0:
            raise _refused("container's runAsUser breaks non-root policy", container)
        if uid is None and name in ("", "0", "root"):
            raise _refused("container has runAsNonRoot and image will run as root", container)
        if uid is None and not name.isdecimal():
            raise _refused(
                f"container has runAsNonRoot and image has non-numeric user ({name}), "
                "cannot verify user is non-root",
                container,
            )
    if uid is None and gid is None:
        return ""
    user = str(image.user.partition(":")[0] or 0) if uid is None else str(uid)
    return user if gid is None else f"{user}:{gid}"


def _given(context: Mapping[str, Any] | None) -> dict[str, Any]:
    return {name: value for name, value in (context or {}).items() if value is not None}


def _refused(why: str, container: Mapping[str, Any]) -> errors.ContainerConfigError:
    return errors.ContainerConfigError(
        f"{why} (container: {container['name']})", remedy="set securityContext.runAsUser to a user's number"
    )
