"""What `pods/binding` makes of a pod (pure). Source: `pkg/registry/core/pod/storage/storage.go`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from gpuyard import errors
from gpuyard.kube.conditions import with_condition
from gpuyard.kube.objects import Manifest
from gpuyard.kube.timestamps import format_time
from gpuyard.local.objects.kinds import KindSpec
from gpuyard.local.objects.metadata import check_preconditions, conflict


def bound(spec: KindSpec, pod: Manifest, binding: Mapping[str, Any], now: datetime) -> Manifest:
    """The pod assigned to the node that a `v1.Binding` names, and its condition PodScheduled.

    Raises:
        Invalid: the binding names no node.
        Conflict: the pod is bound already, is being deleted, or is another one than the binding means.
    """
    name = pod["metadata"]["name"]
    node = (binding.get("target") or {}).get("name")
    if not node:
        raise errors.Invalid(
            f'Binding "{name}" is invalid: target.name: Required value', details={"name": name}
        )
    metadata = binding.get("metadata") or {}
    check_preconditions(spec, pod, metadata.get("uid"), None)
    if pod["metadata"].get("deletionTimestamp"):
        why = f"pod {name} is being deleted, cannot be assigned to a host"
        raise conflict(spec, name, why, subresource="binding")
    if assigned := pod["spec"].get("nodeName"):
        why = f'pod {name} is already assigned to node "{assigned}"'
        raise conflict(spec, name, why, subresource="binding")
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
