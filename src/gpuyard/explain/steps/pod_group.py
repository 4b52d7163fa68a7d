"""The PodGroup of a run whose pods the scheduler starts together: what it says of them all.

Source: kubernetes `pkg/scheduler/{schedule_one_podgroup.go,framework/plugins/gangscheduling}` (v1.37.2).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gpuyard.explain.causes import Cause
from gpuyard.explain.finding import Finding, Owner, Remedy, Step
from gpuyard.explain.run_objects import RunObjects
from gpuyard.kube.conditions import find_condition, without_preemption
from gpuyard.kube.objects import Manifest, key_of
from gpuyard.kube.pods import is_terminal

_SCHEDULED = "PodGroupInitiallyScheduled"


def pod_group_name(spec: Mapping[str, Any]) -> str:
    """The one that the spec of a pod names; empty where none."""
    return str((spec.get("schedulingGroup") or {}).get("podGroupName") or "")


def find_pod_group(objects: RunObjects) -> Finding | None:
    """Fewer pods than the scheduler starts together: it looks for no nodes, and says so nowhere."""
    group = objects.pod_group
    least, pods = _least(group), _members(objects)
    there = [pod for pod in pods if not is_terminal(pod)]
    if group is None or len(there) >= least:
        return None
    ended = len(pods) - len(there)
    job = key_of(objects.job).name
    return Finding(
        Step.NODES,
        Cause.POD_GROUP,
        f"{_rule(group)}, and there are {len(there)}"
        + (f" that haven't ended, and {ended} that have" if ended else ""),
        Owner("PodGroup", key_of(group).name, objects.namespace),
        (),
        (
            Remedy("see what keeps its Job from making them", command=f"kubectl describe job {job}"),
            Remedy("submit it anew where the others have done their work: those don't come back"),
        ),
    )


def pod_group_line(objects: RunObjects) -> str:
    """What the scheduler says of all pods of the group while it starts none; empty for nothing.

    It goes on saying so of an elastic run that it has started, for those of its pods that came later.
    """
    group = objects.pod_group
    if group is None or not _least(group) or any(pod["spec"].get("nodeName") for pod in _members(objects)):
        return ""
    condition = find_condition(group, _SCHEDULED) or {}
    said = without_preemption(str(condition.get("message") or ""))
    return f"{_rule(group)}, and says: {said}" if said and condition.get("status") == "False" else ""


def _rule(group: Manifest) -> str:
    return f"the scheduler starts {_least(group)} pods of PodGroup {key_of(group).name} or none"


def _least(group: Manifest | None) -> int:
    """How many are started together; 0 for one by one."""
    policy = ((group or {}).get("spec") or {}).get("schedulingPolicy") or {}
    least = (policy.get("gang") or {}).get("minCount")
    return least if isinstance(least, int) else 0


def _members(objects: RunObjects) -> list[Manifest]:
    name = key_of(objects.pod_group).name if objects.pod_group else ""
    return [pod for pod in objects.neighbours if name and pod_group_name(pod["spec"]) == name]
