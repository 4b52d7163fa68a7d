"""What a pod's status says, as kubelets write it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gpuyard.kube.objects import annotations_of
from gpuyard.kube.wellknown import ANNOTATION_PORTS

_RPC = re.compile(r"rpc error: code = \w+ desc = ")
_LONGEST_WARNING = 300

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


def listening_port(pod: Mapping[str, Any], container_port: int) -> int:
    """Where its program listens that was told to listen on this port: pods of a yard share the ports of its
    machine, so that another one may stand in for it."""
    try:
        port = json.loads(annotations_of(pod).get(ANNOTATION_PORTS, "{}")).get(str(container_port))
    except (ValueError, AttributeError):  # Anybody who may change the pod can write there.
        return container_port
    return port if type(port) is int and 0 < port < 65536 else container_port


def container_statuses(pod: Mapping[str, Any], *, init: bool = False) -> Iterator[Mapping[str, Any]]:
    """The status of each container that a kubelet has told of; with `init` also of init containers, first."""
    status = pod.get("status") or {}
    if init:
        yield from status.get("initContainerStatuses") or ()
    yield from status.get("containerStatuses") or ()


def why_not_running(pod: Mapping[str, Any], events: Sequence[Mapping[str, Any]] = ()) -> str:
    """Why a pod doesn't run, or has begun to and isn't ready; empty when it does.

    Args:
        pod: as the API has it.
        events: of its namespace; what its status doesn't tell (no sandbox, no volume) one of its own may.
    """
    status = pod.get("status", {})
    for container in container_statuses(pod):
        if waiting := container.get("state", {}).get("waiting"):
            ended = (container.get("lastState", {}).get("terminated") or {}).get("exitCode")
            last = f" (it ended with {ended})" if ended is not None else ""
            message = waiting.get("message") or _last_warning(pod, events)
            return f"{container['name']} {waiting.get('reason')}{last} {message}".strip()
    for condition in status.get("conditions") or ():
        if condition["type"] == "PodScheduled" and condition["status"] != "True":
            return str(condition.get("message", ""))
    if status.get("phase") == "Running":
        begun = [c["name"] for c in container_statuses(pod) if c.get("started") is False]
        return f"{begun[0]} isn't ready {_last_warning(pod, events)}".strip() if begun else ""
    return f"the pod is {status.get('phase')} {_last_warning(pod, events)}".strip()


def _last_warning(pod: Mapping[str, Any], events: Sequence[Mapping[str, Any]]) -> str:
    """The message of the newest event of type Warning about it, without the layers of who passed it on."""
    about = [
        (str(event.get("lastTimestamp") or event.get("eventTime") or ""), str(event.get("message") or ""))
        for event in events
        if event.get("type") == "Warning" and event["involvedObject"].get("uid") == pod["metadata"].get("uid")
    ]
    return _RPC.sub("", max(about, default=("", ""))[1])[:_LONGEST_WARNING]
