"""`status` of a pod, from what its containers are doing (pure).

Sources: kubernetes `pkg/kubelet/kubelet_pods.go` (convertToAPIContainerStatuses) and
`pkg/kubelet/status/generate.go`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from gpuyard.kube.conditions import with_condition
from gpuyard.kube.objects import Manifest, uid_of
from gpuyard.kube.timestamps import format_time
from gpuyard.kube.wellknown import RUNTIME_CLASS_PROCESS
from gpuyard.local.kubelet.devices.plugin_client import PluginDevice
from gpuyard.local.kubelet.environment import POD_IP
from gpuyard.local.runtime.podman.host import PODMAN
from gpuyard.local.runtime.values import Exit

#: Types of the conditions that are a kubelet's. Others may write theirs at any time, and a strategic merge
#: patch of these alone leaves them as they are.
_OWN_CONDITIONS = ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled")


@dataclass(frozen=True)
class ContainerRun:
    """One start of a container; `attempt` counts from 0, `exit` is None while it runs."""

    attempt: int
    started_at: datetime
    exit: Exit | None = None


@dataclass(frozen=True)
class ContainerView:
    """One container.

    Attributes:
        current: its last start, None before the first.
        previous: the start before that.
        waiting: why it isn't running but will be (reason, message); empty reason when it won't.
        image_id: the image by its digest, where it has one and that is known.
        devices: health of those that it holds, by resource and id, as `device_health` has it.
        has_started: as its startup probe says, where it has one.
        serves: as its readiness probe says, where it has one.
    """

    name: str
    is_init: bool
    image: str
    current: ContainerRun | None = None
    previous: ContainerRun | None = None
    waiting: tuple[str, str] = ("", "")
    image_id: str = ""
    devices: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    has_started: bool = True
    serves: bool = True

    @property
    def is_running(self) -> bool:
        """Whether its last start goes on."""
        return self.current is not None and self.current.exit is None

    @property
    def is_ready(self) -> bool:
        """Whether it runs and serves."""
        return self.is_running and self.has_started and self.serves

    @property
    def has_succeeded(self) -> bool:
        """Whether its last start ended well."""
        return self.current is not None and self.current.exit is not None and self.current.exit.code == 0


def pod_status(
    pod: Manifest,
    containers: Sequence[ContainerView],
    *,
    phase: str,
    reason: str = "",
    message: str = "",
    started_at: datetime,
    now: datetime,
) -> dict[str, Any]:
    """The whole status, for a strategic merge patch."""
    old = pod.get("status") or {}
    place = f"{_runtime_of(pod)}://{uid_of(pod)}"
    status: dict[str, Any] = {
        "observedGeneration": pod["metadata"].get("generation"),
        "phase": phase,
        "reason": reason or None,
        "message": message or None,
        "hostIP": POD_IP,
        "hostIPs": [{"ip": POD_IP}],
        "podIP": POD_IP,
        "podIPs": [{"ip": POD_IP}],
        "startTime": old.get("startTime") or format_time(started_at),
        "conditions": _conditions(pod, containers, phase, format_time(now)),
    }
    for key, init in (("initContainerStatuses", True), ("containerStatuses", False)):
        idle = "PodInitializing" if any(c.is_init for c in containers) else "ContainerCreating"
        statuses = [_container(place, c, idle) for c in containers if c.is_init == init]
        if statuses:
            status[key] = statuses
    return status


def device_health(
    held: Mapping[str, Sequence[str]], known: Mapping[str, Mapping[str, PluginDevice]]
) -> dict[str, dict[str, str]]:
    """`Healthy`, `Unhealthy`, or `Unknown` of a device that its plugin doesn't name, by resource and id.

    Source: KEP-4680; kubernetes `pkg/kubelet/cm/devicemanager/manager.go` (UpdateAllocatedResourcesStatus).
    """
    return {
        resource: {one: _health(known.get(resource, {}).get(one)) for one in ids}
        for resource, ids in held.items()
    }


def _health(device: PluginDevice | None) -> str:
    if device is None:
        return "Unknown"
    return "Healthy" if device.healthy else "Unhealthy"


def rejected_status(pod: Manifest, *, reason: str, message: str, now: datetime) -> dict[str, Any]:
    """The same of a pod that the node doesn't run: no condition of the kubelet's is left, as on a cluster."""
    old = pod.get("status") or {}
    return {
        "phase": "Failed",
        "conditions": [{"type": type_, "$patch": "delete"} for type_ in _OWN_CONDITIONS],
        "reason": reason,
        "message": message,
        "startTime": old.get("startTime") or format_time(now),
    }


def _runtime_of(pod: Manifest) -> str:
    is_process = (pod.get("spec") or {}).get("runtimeClassName") == RUNTIME_CLASS_PROCESS
    return "process" if is_process else PODMAN


def _container(place: str, container: ContainerView, idle: str) -> dict[str, Any]:
    current = container.current
    ended = _terminated(place, container.name, current) if current and current.exit else None
    last = _terminated(place, container.name, container.previous) if container.previous else None
    state: dict[str, Any]
    if container.is_running:
        assert current is not None
        state = {"running": {"startedAt": format_time(current.started_at)}}
    elif ended is not None and not container.waiting[0]:
        state = {"terminated": ended}
    else:
        reason, message = container.waiting
        state = {"waiting": {"reason": reason or idle, **({"message": message} if message else {})}}
        last = ended or last
    status = {
        "name": container.name,
        "image": container.image,
        "imageID": container.image_id,
        "ready": container.has_succeeded if container.is_init else container.is_ready,
        "started": container.is_running and container.has_started,
        "restartCount": current.attempt if current else 0,
        "state": state,
        "lastState": {"terminated": last} if last else {},
    }
    if current:
        status["containerID"] = _id(place, container.name, current)
    if container.devices:
        status["allocatedResourcesStatus"] = [
            {
                "name": name,
                "resources": [{"resourceID": one, "health": health} for one, health in ids.items()],
            }
            for name, ids in container.devices.items()
        ]
    return status


def _terminated(place: str, name: str, run: ContainerRun) -> dict[str, Any] | None:
    if run.exit is None:
        return None
    return {
        "exitCode": run.exit.code,
        "reason": str(run.exit.reason),
        **({"message": run.exit.message} if run.exit.message else {}),
        "startedAt": format_time(run.started_at),
        "finishedAt": format_time(run.exit.finished_at),
        "containerID": _id(place, name, run),
    }


def _id(place: str, name: str, run: ContainerRun) -> str:
    return f"{place}/{name}/{run.attempt}"


def _conditions(
    pod: Manifest, containers: Sequence[ContainerView], phase: str, now: str
) -> list[dict[str, Any]]:
    old: Sequence[Mapping[str, Any]] = (pod.get("status") or {}).get("conditions") or ()
    conditions = [dict(condition) for condition in old if condition["type"] in _OWN_CONDITIONS]
    for type_, status, reason, message in _verdicts(containers, phase):
        conditions = with_condition(conditions, type_, status, now=now, reason=reason, message=message)
    # What a patch doesn't name stays.
    return [{"reason": None, "message": None, **condition} for condition in conditions]


def _verdicts(containers: Sequence[ContainerView], phase: str) -> list[tuple[str, str, str, str]]:
    """Type, status, reason and message of each condition that the kubelet keeps."""
    unfinished = [c.name for c in containers if c.is_init and not c.has_succeeded]
    unready = [c.name for c in containers if not c.is_init and not c.is_ready]
    over = {"Succeeded": "PodCompleted", "Failed": "PodFailed"}.get(phase)
    ready: tuple[str, str, str] = ("True", "", "")
    if over:
        ready = ("False", over, "")
    elif unready:
        ready = ("False", "ContainersNotReady", f"containers with unready status: [{' '.join(unready)}]")
    initialized: tuple[str, str, str] = ("True", "PodCompleted" if phase == "Succeeded" else "", "")
    if unfinished:
        why = f"containers with incomplete status: [{' '.join(unfinished)}]"
        initialized = ("False", "ContainersNotInitialized", why)
    gone = ("False", "PodSandboxNotReady", "pod sandbox is not ready")
    startable: tuple[str, str, str] = gone if over else ("True", "", "")
    return [
        ("PodReadyToStartContainers", *startable),
        ("Initialized", *initialized),
        ("Ready", *ready),
        ("ContainersReady", *ready),
        ("PodScheduled", "True", "", ""),
    ]
