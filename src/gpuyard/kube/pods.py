"""What a pod's status says, as kubelets write it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

#: Why a container waits whose image can't be had. Source: kubernetes `pkg/kubelet/images/types.go`.
PULL_REASONS = frozenset(
    {
        "ErrImagePull",
        "ImagePullBackOff",
        "InvalidImageName",
        "ErrImageNeverPull",
        "ImageInspectError",
        "RegistryUnavailable",
        "SignatureValidationFailed",
    }
)


def is_terminal(pod: Mapping[str, Any]) -> bool:
    """Whether its containers have ended for good: its phase is Succeeded or Failed."""
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")


def container_statuses(pod: Mapping[str, Any], *, init: bool = False) -> Iterator[Mapping[str, Any]]:
    """The status of each container that a kubelet has told of; with `init` also of init containers, first."""
    status = pod.get("status") or {}
    if init:
        yield from status.get("initContainerStatuses") or ()
    yield from status.get("containerStatuses") or ()


def why_not_running(pod: Mapping[str, Any]) -> str:
    """Why a pod doesn't run; empty when it does."""
    status = pod.get("status", {})
    for container in container_statuses(pod):
        if waiting := container.get("state", {}).get("waiting"):
            ended = (container.get("lastState", {}).get("terminated") or {}).get("exitCode")
            last = f" (it ended with {ended})" if ended is not None else ""
            return f"{container['name']} {waiting.get('reason')}{last} {waiting.get('message', '')}".strip()
    for condition in status.get("conditions") or ():
        if condition["type"] == "PodScheduled" and condition["status"] != "True":
            return str(condition.get("message", ""))
    return "" if status.get("phase") == "Running" else f"the pod is {status.get('phase')}"
