"""What `pods/binding` and `pods/eviction` make of a pod (pure).

Sources: kubernetes `pkg/registry/core/pod/storage/storage.go` and `eviction.go`.
"""

from __future__ import annotations

from datetime import datetime

from gpuyard import errors
from gpuyard.kube.conditions import with_condition
from gpuyard.kube.objects import Manifest
from gpuyard.kube.timestamps import format_time
from gpuyard.local.objects.kinds.fields import required, unsupported
from gpuyard.local.objects.kinds.kind import KindSpec
from gpuyard.local.objects.metadata import check_preconditions, conflict, validate_annotations


def bound(spec: KindSpec, pod: Manifest, binding: Manifest, now: datetime) -> Manifest:
    """The pod assigned to the node that a `v1.Binding` names, and its condition PodScheduled.

    Raises:
        Invalid: the binding names no node, or breaks a rule.
        Conflict: the pod is bound already, has scheduling gates, is being deleted, or is another one than
            the binding means.
    """
    name = pod["metadata"]["name"]
    metadata, node = binding["metadata"], _target(binding, name)
    check_preconditions(spec, pod, metadata.get("uid"), None)
    if pod["metadata"].get("deletionTimestamp"):
        why = f"pod {name} is being deleted, cannot be assigned to a host"
        raise conflict(spec, name, why, subresource="binding")
    if assigned := pod["spec"].get("nodeName"):
        why = f'pod {name} is already assigned to node "{assigned}"'
        raise conflict(spec, name, why, subresource="binding")
    if pod["spec"].get("schedulingGates"):
        raise conflict(spec, name, f"pod {name} has non-empty .spec.schedulingGates", subresource="binding")
    status = pod.get("status") or {}
    conditions = with_condition(status.get("conditions") or (), "PodScheduled", "True", now=format_time(now))
    result = {
        **pod,
        "spec": {**pod["spec"], "nodeName": node},
        "status": {**status, "conditions": conditions},
    }
    if annotations := metadata.get("annotations"):
        had = pod["metadata"].get("annotations") or {}
        result["metadata"] = {**pod["metadata"], "annotations": {**had, **annotations}}
    return result


def evicted(spec: KindSpec, pod: Manifest, eviction: Manifest, now: datetime) -> Manifest:
    """The pod with the condition DisruptionTarget, as a `policy/v1.Eviction` leaves it before it is deleted.

    Raises:
        Conflict: the eviction means another pod, or another version of it.
    """
    preconditions = (eviction.get("deleteOptions") or {}).get("preconditions") or {}
    check_preconditions(spec, pod, preconditions.get("uid"), preconditions.get("resourceVersion"))
    status = pod.get("status") or {}
    conditions = with_condition(
        status.get("conditions") or (),
        "DisruptionTarget",
        "True",
        now=format_time(now),
        reason="EvictionByEvictionAPI",
        message="Eviction API: evicting",
    )
    return {**pod, "status": {**status, "conditions": conditions}}


def _target(binding: Manifest, name: str) -> str:
    """The node that the binding names, after its rules were checked."""
    target = binding.get("target") or {}
    found = validate_annotations(binding["metadata"].get("annotations") or {})
    if target.get("kind", "") not in ("", "Node"):
        found.append(unsupported("target.kind", target["kind"], ("Node", "<empty>")))
    if not target.get("name"):
        found.append(required("target.name"))
    if found:
        lines = ", ".join(f"{error.path}: {error.message}" for error in found)
        causes = [{"reason": e.type, "message": e.message, "field": e.path} for e in found]
        raise errors.Invalid(
            f'Binding "{name}" is invalid: {lines if len(found) == 1 else f"[{lines}]"}',
            details={"name": name, "kind": "Binding", "causes": causes},
        )
    return str(target["name"])
