"""Which devices a container may have (pure)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from gpuyard import errors
from gpuyard.local.kubelet.devices.checkpoint import Assignment
from gpuyard.local.kubelet.devices.plugin_client import PluginDevice


def free_devices(
    resource: str,
    devices: Mapping[str, PluginDevice],
    assignments: Iterable[Assignment],
    pod_uid: str,
    count: int,
    others: Mapping[str, errors.GpuHeld],
) -> tuple[Sequence[str], Sequence[str]]:
    """The devices that it may have, and those of them that it takes over from the pod's init containers.

    Args:
        resource: of which it wants some.
        devices: all of that resource.
        assignments: who holds which.
        pod_uid: of the container's pod.
        count: how many it wants.
        others: devices that other yards of this machine have.

    Raises:
        DeviceError: there are too few.
    """
    taken, reusable = _holdings(assignments, resource, pod_uid)
    healthy = {one for one, device in devices.items() if device.healthy} - others.keys()
    free = sorted((healthy - taken) | (healthy & reusable))
    if len(free) < count:
        held = "".join(f"; {text}" for text in dict.fromkeys(error.message for error in others.values()))
        raise errors.DeviceError(
            f"{resource}: needs {count}, {len(free)} free ({len(devices)} known, {len(healthy)} healthy, "
            f"{len(healthy & taken)} of them assigned){held}",
            remedy="wait until a run that holds some has ended, or ask for fewer",
        )
    return free, sorted(healthy & reusable)[:count]


def _holdings(assignments: Iterable[Assignment], resource: str, pod_uid: str) -> tuple[set[str], set[str]]:
    """Devices that some container holds, and those of them that this pod's next container may take."""
    taken: set[str] = set()
    reusable: set[str] = set()
    fixed: set[str] = set()
    for assignment in assignments:
        ids = assignment.allocation.device_ids.get(resource, ())
        taken.update(ids)
        if assignment.pod_uid == pod_uid:
            (reusable if assignment.reusable else fixed).update(ids)
    return taken, reusable - fixed
