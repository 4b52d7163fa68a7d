"""Devices: what a kubelet, the device plugin and CDI say of a pod that has a node already.

Sources: kubernetes `pkg/kubelet/cm/devicemanager/manager.go` and `pkg/kubelet/lifecycle/predicate.go` for the
messages, KEP-4680 for `allocatedResourcesStatus`, containerd `internal/cri/server` for CDI.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta

from gpuyard.explain.causes import Cause
from gpuyard.explain.finding import By, Finding, Owner, Remedy, Step
from gpuyard.explain.run_objects import RunObjects
from gpuyard.explain.steps.image import waiting_containers
from gpuyard.gpus.cdi import FOLDER, node_cdi_faults
from gpuyard.gpus.faults import GpuFault, in_one_line, lacking, node_faults, says_health
from gpuyard.gpus.occupants import Occupant
from gpuyard.gpus.resources import pod_gpus
from gpuyard.kube.conditions import condition_is_true
from gpuyard.kube.objects import Manifest, annotations_of, key_of, labels_of
from gpuyard.kube.pods import container_statuses, is_terminal
from gpuyard.kube.timestamps import parse_time
from gpuyard.kube.wellknown import ANNOTATION_DEVICES

_NO_HEALTHY = re.compile(
    r"no healthy devices present; cannot allocate unhealthy devices (?P<resource>[^\s,]+)"
)
_TOO_FEW = re.compile(
    r"requested number of devices unavailable for (?P<resource>\S+?)\. "
    r"Requested: (?P<asked>\d+), Available: (?P<free>\d+)"
)
_OUT_OF = re.compile(r"resource: (?P<resource>[^\s,]+), requested: (?P<asked>\d+), used: (?P<used>\d+)")
#: gRPC's word for it, in Python and in Go.
_NO_ANSWER = re.compile(r"DEADLINE_EXCEEDED|DeadlineExceeded")
_CDI = re.compile(r"unresolvable CDI devices (?P<devices>[^\s\",]+)")
#: A kubelet says why by its words alone; the first of these that it says counts.
_REJECTIONS = (
    (Cause.NO_HEALTHY_DEVICES, _NO_HEALTHY),
    (Cause.OUT_OF_DEVICES, _TOO_FEW),
    (Cause.OUT_OF_DEVICES, _OUT_OF),
)
_LONGEST = 400
_MOST_FAULTS = 8
#: A GPU that doesn't answer is noticed within so long, and the program may have ended of it before.
_NOTICED_AFTER = timedelta(seconds=15)
SEE_PLUGIN = Remedy(
    "see why the node's device plugin doesn't serve: `gpuyard status`, the plugin's log on that node",
    By.OPERATOR,
    yard_text="see what is wrong: `gpuyard doctor`",
)
_AGAIN = Remedy("submit it again: the scheduler then places it by what is there now")
_BY_ITSELF = Remedy("wait: it is made again by itself, and placed by what is there then")


@dataclass(frozen=True)
class _PluginRefusal:
    """A pod that its node refused.

    Attributes:
        cause: ALLOCATE_FAILED where the kubelet's words tell no more.
        reason, said: the kubelet's.
        resource, asked: what it was about, and how many of it the pod asks for.
        free, used: how many of it there are; empty where that isn't said.
    """

    cause: Cause
    reason: str
    said: str
    resource: str = ""
    asked: str = ""
    free: str = ""
    used: str = ""

    @classmethod
    def of(cls, pod: Manifest) -> _PluginRefusal | None:
        """None for a pod that its node took."""
        status = pod.get("status") or {}
        reason, said = str(status.get("reason") or ""), str(status.get("message") or "")
        if reason != "UnexpectedAdmissionError" and not reason.startswith("OutOf"):
            return None
        for cause, pattern in _REJECTIONS:
            if match := pattern.search(said):
                return cls(cause, reason, said, **match.groupdict())
        return cls(Cause.ALLOCATE_FAILED, reason, said)


def find_devices(objects: RunObjects) -> Finding | None:
    """What about its devices ended, holds or endangers the pod."""
    pod = objects.pod
    if pod is None:
        return None
    if rejection := _PluginRefusal.of(pod):
        return _rejected(objects, rejection)
    for _, waiting in waiting_containers(pod):
        if match := _CDI.search(str(waiting.get("message") or "")):
            return _no_cdi(objects, match, str(waiting["message"]))
    return _fault(pod, objects.node) or _unhealthy(pod, objects.node) or _refused_before(objects, pod)


def _refused_before(objects: RunObjects, pod: Manifest) -> Finding | None:
    """Its node works at its start, and refused the attempt before it: what was wrong then may be still."""
    before = objects.attempt_before
    if before is None or is_terminal(pod) or not pod["spec"].get("nodeName") or any(container_statuses(pod)):
        return None
    rejection = _PluginRefusal.of(before)
    if rejection is None:
        return None
    found = _rejected(replace(objects, pod=before), rejection)
    return replace(found, headline=f"it is tried again: before, {found.headline}")


def _is_tried_again(job: Manifest) -> bool:
    return job["spec"].get("backoffLimit", 0) > 0 and not condition_is_true(job, "Failed")


def _rejected(objects: RunObjects, rejection: _PluginRefusal) -> Finding:
    pod, on = objects.pod, objects.node
    assert pod is not None
    node = str(pod["spec"].get("nodeName", ""))
    again = _BY_ITSELF if _is_tried_again(objects.job) else _AGAIN
    remedies: tuple[Remedy, ...] = (again, SEE_PLUGIN)
    match rejection.cause:
        case Cause.NO_HEALTHY_DEVICES:
            why = f": none of its {rejection.resource} is healthy, or its plugin is gone"
            if on is not None and (reasons := lacking(on)):
                why = f": none of its {rejection.resource} could be had: {in_one_line(reasons)}"
            elif on is not None and says_health(labels_of(on)):
                why = (
                    f": no device plugin served its {rejection.resource} at that moment, as while its agent "
                    "is made anew"
                )
        case Cause.OUT_OF_DEVICES:
            there = f"{rejection.free} free" if rejection.free else f"{rejection.used} in use"
            why = (
                f": it asks for {rejection.asked} {rejection.resource}, and {there}; "
                "something else took them in between"
            )
            remedies = (again,)
        case _:
            late = _NO_ANSWER.search(rejection.said)
            why = ": its device plugin doesn't answer" if late else f" ({rejection.reason})"
    evidence = (f"node {node} says: {rejection.said[:_LONGEST]}",)
    text = f"node {node} refused the pod{why}"
    return Finding(Step.DEVICES, rejection.cause, text, Owner("Node", node), evidence, remedies)


def _no_cdi(objects: RunObjects, match: re.Match[str], said: str) -> Finding:
    pod = objects.pod
    assert pod is not None
    node = str(pod["spec"].get("nodeName", ""))
    faults = node_cdi_faults(objects.node) if objects.node else ()
    broken = [fault for fault in faults if fault.is_broken]
    remedies = [Remedy(fault.remedy, By.OPERATOR) for fault in broken] or [
        Remedy(
            f"see that the runtime reads {FOLDER}, and that no other file there has devices of the kind "
            f"{match['devices'].partition('=')[0]}: two files with the same names make it resolve neither "
            "(`gpuyard doctor`)",
            By.OPERATOR,
        )
    ]
    return Finding(
        Step.DEVICES,
        Cause.NO_CDI_DEVICE,
        f"the container runtime of node {node} doesn't know CDI device {match['devices']}"
        + (f": {broken[0]}" if broken else ""),
        Owner("Node", node),
        (f"the runtime says: {said[:_LONGEST]}", *map(str, faults)),
        tuple(remedies),
    )


def _fault(pod: Manifest, node: Manifest | None) -> Finding | None:
    """A GPU that it has, or may have, and that became unhealthy under it."""
    if node is None or not pod_gpus(pod["spec"]) or (pod.get("status") or {}).get("phase") == "Succeeded":
        return None
    held = _held(pod)
    faults = [
        fault
        for fault in node_faults(node)
        if (fault.uuid in held or not held) and _happened_under(pod, fault.since)
    ]
    if not faults:
        return None
    name = key_of(node).name
    mends = dict.fromkeys(mend(fault) for fault in faults)
    again = "submit it again" if is_terminal(pod) else "stop it and submit it again"
    unsure = () if held else (f"which GPUs of node {name} it has isn't told: its own may be others",)
    return Finding(
        Step.DEVICES,
        Cause.UNHEALTHY_DEVICE,
        faults[0].on_node(name),
        Owner("Node", name),
        (
            f"GPU {faults[0].index} is {faults[0].uuid}",
            *(f"{fault} ({fault.uuid})" for fault in faults[1:_MOST_FAULTS]),
            *unsure,
        ),
        (
            Remedy(f"{again}: unhealthy GPUs aren't given out"),
            *mends,
        ),
    )


def mend(fault: GpuFault | Occupant) -> Remedy:
    """What mends the GPU, or frees it."""
    return Remedy(fault.remedy(on_yard=False), By.OPERATOR, yard_text=fault.remedy(on_yard=True))


def _held(pod: Manifest) -> set[str]:
    """The devices that it has, by id; empty where nobody tells."""
    told = annotations_of(pod).get(ANNOTATION_DEVICES, "")
    devices = (*filter(None, told.split(",")), *(device for _, device, _, _ in _health(pod)))
    # A share of a GPU has its id and a number: GPU-…::1.
    return {device.partition("::")[0] for device in devices}


def _happened_under(pod: Manifest, since: str) -> bool:
    """Whether the pod was there at the time."""
    states = [status.get("state") or {} for status in container_statuses(pod)]
    ends = [str((state.get("terminated") or {}).get("finishedAt") or "") for state in states]
    try:
        moment = parse_time(since)
        if moment < parse_time(str((pod.get("status") or {}).get("startTime") or since)):
            return False
        return not all(ends) or moment <= max(map(parse_time, ends), default=moment) + _NOTICED_AFTER
    except ValueError:
        return False


def _unhealthy(pod: Manifest, on: Manifest | None) -> Finding | None:
    """Devices that it holds and that are sick: it goes on, but what it computes there may not.

    A part of a GPU is as its GPU, whose fault the node tells without its parts.
    """
    sick = [
        f"{resource} {device}: {health}{f': {message}' if message else ''}"
        for resource, device, health, message in _health(pod)
        if health == "Unhealthy"
    ]
    if not sick:
        return None
    node = str(pod["spec"].get("nodeName", ""))
    faults = [fault for fault in node_faults(on or {}) if _happened_under(pod, fault.since)][:_MOST_FAULTS]
    look = Remedy("see the node's kernel log for Xid messages, and `nvidia-smi`", By.OPERATOR)
    return Finding(
        Step.DEVICES,
        Cause.UNHEALTHY_DEVICE,
        f"devices that it holds on node {node} are unhealthy",
        Owner("Node", node),
        (*sick[:_MOST_FAULTS], *(fault.on_node(node) for fault in faults)),
        (
            Remedy("stop it and submit it again: sick devices aren't given out"),
            *(dict.fromkeys(map(mend, faults)) or (look,)),
        ),
    )


def _health(pod: Manifest) -> Iterator[tuple[str, str, str, str]]:
    """Of each device that it holds its resource, its id, its health and, from 1.36 on, why."""
    for container in container_statuses(pod, init=True):
        for resource in container.get("allocatedResourcesStatus") or ():
            for device in resource.get("resources") or ():
                health, message = str(device.get("health", "")), str(device.get("message") or "")
                yield resource["name"], str(device.get("resourceID", "")), health, message
