"""What the kernel killed of a pod for lack of memory: how much, where memory was short, what helps."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from gpuyard.advice import advice
from gpuyard.kube.objects import annotations_of
from gpuyard.kube.wellknown import ANNOTATION_OOM_CAUSE, ANNOTATION_OOM_KILLS


class OomCause(StrEnum):
    """Where memory was short when the kernel killed a process."""

    LIMIT = "limit"
    #: Outside: on the whole node, or in a cgroup above the container's own.
    NODE = "node"


def oom_kills(pod: Mapping[str, Any]) -> int:
    """How many of its processes the kernel has killed for lack of memory, as a yard's kubelet counts them."""
    count = annotations_of(pod).get(ANNOTATION_OOM_KILLS, "")
    return int(count) if count.isascii() and count.isdecimal() and len(count) < 10 else 0


def oom_kills_text(count: int) -> str:
    """`the kernel killed 2 of its processes for lack of memory`."""
    return f"the kernel killed {count} of its processes for lack of memory"


def oom_cause(pod: Mapping[str, Any]) -> OomCause | None:
    """Where memory was short; None when nobody knows. Kubernetes says `OOMKilled` for both."""
    said = annotations_of(pod).get(ANNOTATION_OOM_CAUSE, "")
    if said in list(OomCause):
        return OomCause(said)
    return None if _limit(pod) else OomCause.NODE


def oom_reason(pod: Mapping[str, Any], cause: OomCause | None) -> str:
    """Why the kernel killed something of it, in words."""
    limit = _limit(pod)
    at_limit = f"it reached its memory limit of {limit}" if limit else "it reached its memory limit"
    outside = "the memory of its node, or of a cgroup above its own, was used up"
    match cause:
        case OomCause.LIMIT:
            return at_limit
        case OomCause.NODE:
            return f"{outside}; its own limit is {limit}" if limit else outside
    return f"{at_limit}, or {outside}: which isn't known"


def oom_advice(pod: Mapping[str, Any]) -> str:
    """What would help."""
    limit, use_less = _limit(pod), "use less (fewer workers, smaller batches)"
    higher = advice("raise --memory") + (f" above {limit}" if limit else "")
    node = (pod.get("spec") or {}).get("nodeName")
    outside = f"run less beside it{f' on node {node}' if node else ''}, or give that more memory"
    match oom_cause(pod):
        case OomCause.LIMIT:
            return f"{higher}, or {use_less}"
        case OomCause.NODE:
            return f"{outside}, or {use_less}; " + advice("a higher --memory doesn't help")
    return f"{higher}, or {use_less}; if its node was full, {outside}"


def _limit(pod: Mapping[str, Any]) -> str:
    for container in (pod.get("spec") or {}).get("containers") or ():
        if memory := ((container.get("resources") or {}).get("limits") or {}).get("memory"):
            return str(memory)
    return ""
