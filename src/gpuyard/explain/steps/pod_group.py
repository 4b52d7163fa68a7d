"""The PodGroup of a run whose pods the scheduler starts together: what it says of them all.

Source: kubernetes `pkg/scheduler/{schedule_one_podgroup.go,framework/plugins/gangscheduling}` (v1.37.2).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gpuyard.explain.causes import Cause
from gpuyard.explain.finding import Finding, Owner, Remedy, Step
from gpuyard.explain.run_objects import RunObjects
from gpuyard.kube.conditions import find_condition
from gpuyard.kube.objects import key_of
from gpuyard.kube.pods import is_terminal

#: Once true it stays so, whatever becomes of the pods.
_SCHEDULED = "PodGroupInitiallyScheduled"


def pod_group_name(spec: Mapping[str, Any]) -> str:
    """The one that the spec of a pod names; empty where none."""
    return str((spec.get("schedulingGroup") or {}).get("podGroupName") or "")


def find_pod_group(objects: RunObjects) -> Finding | None:
    """Fewer pods than the scheduler starts together: it looks for no nodes, and says so nowhere."""
    group = objects.pod_group
    policy = ((group or {}).get("spec") or {}).get("schedulingPolicy") or {}
    least = (policy.get("gang") or {}).get("minCount")
    if group is None or not isinstance(least, int):
        return None
    name = key_of(group).name
    pods = [pod for pod in objects.neighbours if pod_group_name(pod["spec"]) == name]
    there = [pod for pod in pods if not is_terminal(pod)]
    if len(there) >= least:
        return None
    ended = len(pods) - len(there)
    job = key_of(objects.job).name
    return Finding(
        Step.NODES,
        Cause.POD_GROUP,
        f"the scheduler starts {least} pods of PodGroup {name} or none, and there are {len(there)}"
        + (f" that haven't ended, and {ended} that have" if ended else ""),
        Owner("PodGroup", name, objects.namespace),
        (),
        (
            Remedy("see what keeps its Job from making them", command=f"kubectl describe job {job}"),
            Remedy("submit it anew where the others have done their work: those don't come back"),
        ),
    )


def pod_group_line(objects: RunObjects) -> str:
    """What the scheduler says of all pods of the group while it can't start them; empty for nothing."""
    condition = (objects.pod_group and find_condition(objects.pod_group, _SCHEDULED)) or {}
    if condition.get("status") != "False" or not condition.get("message"):
        return ""
    return f"the scheduler starts all of them or none, and says: {condition['message']}"
