"""This node as the API shows it: its object, its heartbeat, what it can hold."""

from __future__ import annotations

import asyncio
import logging
import os
import platform
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from gpuyard import __version__, errors
from gpuyard.client.api import KubeApi
from gpuyard.controllers.node_lifecycle import silent_status
from gpuyard.kube.ages import seconds_since_boot
from gpuyard.kube.conditions import condition_is_true, with_condition
from gpuyard.kube.nodes import DISK_PRESSURE
from gpuyard.kube.objects import LEASES, NODES, Manifest
from gpuyard.kube.timestamps import format_micro_time, format_time
from gpuyard.kube.wellknown import (
    ANNOTATION_CONTAINERS,
    ANNOTATION_ENFORCED,
    ANNOTATION_ISOLATION,
    LABEL_HOSTNAME,
)
from gpuyard.local import KUBERNETES_VERSION
from gpuyard.local.disk import shortage
from gpuyard.local.kubelet.devices.manager import DeviceManager
from gpuyard.local.kubelet.environment import POD_IP
from gpuyard.local.runtime.podman.host import PODMAN
from gpuyard.local.runtime.procfs import boot_id
from gpuyard.local.runtime.runtimes import Runtimes

log = logging.getLogger(__name__)

LEASES_NAMESPACE = "kube-node-lease"
_LEASE_S = 40
HEARTBEAT_S = 10.0
_STATUS_S = 300.0
_RETRY_S = 1.0
#: A real kubelet has 110; processes are lighter than containers.
_MOST_PODS = 500
#: A yard doesn't evict; kubectl and schedulers look for these all the same.
_NO_PRESSURE = (
    ("MemoryPressure", "False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
    ("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
)
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_VERSION = f"v{KUBERNETES_VERSION}+gpuyard-{__version__}"


class NodeReporter:
    """Keeps the Node object and its Lease. Labels, taints and annotations of others stay.

    The `nodes` of one machine share its CPUs and memory in equal parts, since what they offer is added up.
    """

    def __init__(
        self,
        api: KubeApi,
        name: str,
        devices: DeviceManager,
        runtimes: Runtimes,
        clock: Callable[[], datetime],
        *,
        data_dir: Path = Path("/"),
        heartbeat_s: float = HEARTBEAT_S,
        nodes: int = 1,
        seconds: Callable[[], float] = seconds_since_boot,
    ) -> None:
        self.name = name
        self._api = api
        self._devices = devices
        self._runtimes = runtimes
        self._clock = clock
        self._data_dir = data_dir
        self._heartbeat_s = heartbeat_s
        self._seconds = seconds
        self._changed = asyncio.Event()
        self._registered = False
        self._cpu_milli = len(os.sched_getaffinity(0)) * 1000 // nodes
        self._memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // nodes // 1024 * 1024
        devices.on_change(self._changed.set)

    def refresh(self) -> None:
        """What the node can run has changed: writes its annotations again."""
        self._registered = False
        self._changed.set()

    def wake(self) -> None:
        """This process stood still: reports itself alive at once."""
        self._changed.set()

    @property
    def allocatable(self) -> Mapping[str, int]:
        """cpu in millicores, memory in bytes, pods; devices are the device manager's."""
        return {"cpu": self._cpu_milli, "memory": self._memory_bytes, "pods": _MOST_PODS}

    @property
    def allocatable_quantities(self) -> Mapping[str, str]:
        """cpu and memory as the Node's status has them."""
        cpus, milli = divmod(self._cpu_milli, 1000)
        return {
            "cpu": f"{self._cpu_milli}m" if milli else str(cpus),
            "memory": f"{self._memory_bytes // 1024}Ki",
        }

    async def fall_silent(self) -> None:
        """Says of the node what a cluster says of one that no sign of life comes from."""
        while True:
            node = await self._api.get(NODES, self.name)
            status = silent_status(node.get("status") or {}, self._clock())
            with suppress(errors.Conflict):
                await self._api.update(NODES, {**node, "status": status}, subresource="status")
                return

    async def run(self) -> None:
        """Registers the node, then reports changes at once and itself alive until cancelled."""
        # By a clock that nobody sets: what the wall clock says may be a day off by the next look.
        status_due_s = self._seconds()
        while True:
            self._changed.clear()
            pause_s = self._heartbeat_s
            try:
                if not self._registered:
                    # First the mark: a refresh meanwhile takes it back.
                    self._registered = True
                    await self._register()
                # The sign of life first: whoever judges this node by its silence hears at once of it.
                await self._beat()
                if self._seconds() >= status_due_s or not await self._is_current():
                    await self._report()
                    status_due_s = self._seconds() + _STATUS_S
            except errors.GpuyardError as error:
                # Somebody may have deleted the node, as one does to make it register anew.
                self._registered = False
                pause_s = min(_RETRY_S, self._heartbeat_s)
                log.warning("node %s: %s; again in %.0f s", self.name, error, pause_s)
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._changed.wait()

    async def _register(self) -> None:
        labels = {
            LABEL_HOSTNAME: self.name,
            "kubernetes.io/arch": _architecture(),
            "kubernetes.io/os": "linux",
        }
        annotations = {
            ANNOTATION_ISOLATION: self._runtimes.process.isolation.level,
            ANNOTATION_ENFORCED: self._runtimes.cgroups.enforced,
            ANNOTATION_CONTAINERS: self._containers(),
        }
        metadata = {"labels": labels, "annotations": annotations}
        node = {"metadata": {"name": self.name, **metadata}, "status": self._status({})}
        try:
            await self._api.create(NODES, node)
        except errors.AlreadyExists:
            await self._api.patch(NODES, self.name, {"metadata": metadata})

    async def _is_current(self) -> bool:
        node = await self._api.get(NODES, self.name)
        status = node.get("status") or {}
        new = self._status(node)
        # Somebody sets Ready to Unknown while this kubelet is silent, and only the kubelet takes that back.
        return (
            condition_is_true(node, "Ready")
            and all(status.get(field) == new[field] for field in ("capacity", "allocatable"))
            and condition_is_true(node, DISK_PRESSURE) == bool(shortage(self._data_dir))
        )

    async def _report(self) -> None:
        node = await self._api.get(NODES, self.name)
        try:
            await self._api.update(
                NODES,
                {**node, "status": {**(node.get("status") or {}), **self._status(node)}},
                subresource="status",
            )
        except errors.Conflict:
            self._changed.set()  # somebody labelled it meanwhile

    async def _beat(self) -> None:
        spec = {
            "holderIdentity": self.name,
            "leaseDurationSeconds": _LEASE_S,
            "renewTime": format_micro_time(self._clock()),
        }
        try:
            await self._api.patch(LEASES, self.name, {"spec": spec}, LEASES_NAMESPACE)
        except errors.NotFound:
            lease = {"metadata": {"name": self.name}, "spec": spec}
            await self._api.create(LEASES, lease, LEASES_NAMESPACE)

    def _status(self, node: Manifest) -> dict[str, Any]:
        now = format_time(self._clock())
        capacity = {**self.allocatable_quantities, "pods": str(_MOST_PODS)}
        allocatable = dict(capacity)
        for resource, count in self._devices.resources().items():
            capacity[resource] = str(count.capacity)
            allocatable[resource] = str(count.allocatable)
        conditions = (node.get("status") or {}).get("conditions") or []
        ready = ("Ready", "True", "KubeletReady", self._readiness())
        for type_, status, reason, message in (*_NO_PRESSURE, self._disk(), ready):
            conditions = with_condition(conditions, type_, status, now=now, reason=reason, message=message)
        return {
            "capacity": capacity,
            "allocatable": allocatable,
            "conditions": [{**condition, "lastHeartbeatTime": now} for condition in conditions],
            "addresses": [
                {"type": "InternalIP", "address": POD_IP},
                {"type": "Hostname", "address": self.name},
            ],
            "nodeInfo": _node_info(),
        }

    def _disk(self) -> tuple[str, str, str, str]:
        if problem := shortage(self._data_dir):
            return (DISK_PRESSURE, "True", "KubeletHasDiskPressure", problem)
        return (DISK_PRESSURE, "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure")

    def _containers(self) -> str:
        podman = self._runtimes.podman.host
        return f"none: {podman.problem}" if podman.problem else f"{PODMAN} {podman.version}".rstrip()

    def _readiness(self) -> str:
        return self._runtimes.process.isolation.warning or "kubelet is posting ready status"


def _architecture() -> str:
    return _ARCHITECTURES.get(platform.machine(), platform.machine())


def _node_info() -> dict[str, str]:
    return {
        "machineID": _text(Path("/etc/machine-id")),
        "systemUUID": "",
        "bootID": boot_id(),
        "kernelVersion": platform.release(),
        "osImage": _os_image(),
        "operatingSystem": "linux",
        "architecture": _architecture(),
        "containerRuntimeVersion": f"process://{__version__}",
        "kubeletVersion": _VERSION,
        "kubeProxyVersion": "",
    }


def _os_image() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
    except OSError:
        return "Linux"


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
