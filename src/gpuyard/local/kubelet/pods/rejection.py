"""Whether a pod that was bound to this node fits it (pure).

Source: kubernetes `pkg/kubelet/lifecycle/predicate.go`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Rejection:
    """Why the node doesn't run a pod: `status.reason` and `status.message`."""

    reason: str
    message: str


def admit(
    requests: Mapping[str, int], held: Iterable[Mapping[str, int]], allocatable: Mapping[str, int]
) -> Rejection | None:
    """Checks cpu (millicores), memory (bytes) and the number of pods; devices are the device manager's.

    Args:
        requests: of the pod.
        held: requests of each pod that the node runs.
        allocatable: of the node.
    """
    used: dict[str, int] = {}
    for one in held:
        for resource, count in one.items():
            used[resource] = used.get(resource, 0) + count
    for resource in ("cpu", "memory", "pods"):
        wanted, taken, all_ = requests.get(resource, 0), used.get(resource, 0), allocatable.get(resource, 0)
        if wanted and taken + wanted > all_:
            return Rejection(
                f"OutOf{resource}",
                f"Pod was rejected: Node didn't have enough resource: {resource}, "
                f"requested: {wanted}, used: {taken}, capacity: {all_}",
            )
    return None


def refused_by_devices(why: str) -> Rejection:
    """The device manager couldn't give what the pod asks for."""
    return Rejection("UnexpectedAdmissionError", f"Pod was rejected: Allocate failed due to {why}")
