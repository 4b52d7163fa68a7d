"""From a container's manifest to a started process."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gpuyard import errors
from gpuyard.kube.objects import CONFIG_MAPS, SECRETS, Manifest, Resource, key_of, uid_of
from gpuyard.kube.quantity import to_int, to_milli
from gpuyard.local.kubelet.devices.manager import ContainerAllocation
from gpuyard.local.kubelet.environment import (
    Sources,
    command_line,
    compose,
    own_environment,
    referenced_names,
)
from gpuyard.local.kubelet.host import Host, base_environment
from gpuyard.local.kubelet.launching import through_launcher
from gpuyard.local.kubelet.pod_folders import PodFolder
from gpuyard.local.kubelet.volumes import container_volumes
from gpuyard.local.runtime.container import Container
from gpuyard.local.runtime.process.sandbox import BUBBLEWRAP
from gpuyard.local.runtime.values import ContainerSpec, DeviceNode, Limits, Mount


async def start_container(
    host: Host,
    pod: Manifest,
    container: Mapping[str, Any],
    attempt: int,
    allocation: ContainerAllocation,
    master_port: int,
) -> Container:
    """Starts one container of a pod.

    Raises:
        ContainerConfigError: a ConfigMap or the like isn't there (yet).
        StartError: it can't be started on this host as it is.
        ProcessError: the pod's folder can't be written.
    """
    sources = await sources_of(host, key_of(pod).namespace, container)
    base = {**base_environment(), **allocation.envs}
    own = own_environment(pod, container, sources, host.node.allocatable_quantities, base)
    environment = compose(base_environment(), allocation.envs, own, master_port)
    folder = PodFolder(host.pods_dir / uid_of(pod))
    isolated = host.runtime.isolation.level == BUBBLEWRAP
    volumes = container_volumes(pod["spec"], container, folder.volumes, can_mount=isolated)
    for mount in volumes.mounts:
        await asyncio.to_thread(folder.make_volume, mount.host_path.name)
    plugin_mounts = [Mount(Path(m.host_path), m.container_path, m.read_only) for m in allocation.mounts]
    spec = ContainerSpec(
        name=folder.start_name(container["name"], attempt),
        argv=through_launcher(command_line(container, environment), environment),
        env=environment,
        working_dir=container.get("workingDir") or "/",
        devices=[DeviceNode(d.host_path, d.container_path) for d in allocation.devices],
        mounts=[*plugin_mounts, *volumes.mounts] if isolated else (),
        shm_bytes=volumes.shm_bytes,
        limits=limits_of(container),
    )
    return await host.runtime.start(folder.attempt(container["name"], attempt), spec)


def device_requests(container: Mapping[str, Any]) -> dict[str, int]:
    """Extended resources in a container's limits: those that device plugins serve."""
    limits = (container.get("resources") or {}).get("limits") or {}
    return {name: to_int(amount) for name, amount in limits.items() if "/" in name}


def limits_of(container: Mapping[str, Any]) -> Limits:
    """Of CPU and memory, as the manifest has them."""
    limits = (container.get("resources") or {}).get("limits") or {}
    # As in Kubernetes zero is no limit.
    return Limits(
        cpu_milli=to_milli(limits.get("cpu", "0")) or None,
        memory_bytes=to_int(limits.get("memory", "0")) or None,
    )


async def sources_of(host: Host, namespace: str, container: Mapping[str, Any]) -> Sources:
    """The ConfigMaps and Secrets that a container's environment refers to."""
    config_maps, secrets = referenced_names(container)
    return Sources(
        {name: await _data(host, CONFIG_MAPS, name, namespace) for name in config_maps},
        {name: await _data(host, SECRETS, name, namespace) for name in secrets},
    )


async def _data(host: Host, resource: Resource, name: str, namespace: str) -> Mapping[str, str] | None:
    try:
        found = await host.api.get(resource, name, namespace)
    except errors.NotFound:
        return None
    data: Mapping[str, str] = found.get("data") or {}
    if resource != SECRETS:
        return data
    # An environment is bytes: what is no UTF-8 comes out as it went in.
    return {key: base64.b64decode(value).decode(errors="surrogateescape") for key, value in data.items()}
