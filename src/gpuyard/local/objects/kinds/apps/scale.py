"""The `scale` of what has replicas: an `autoscaling/v1.Scale` that is read and written in its place.

Source: kubernetes `pkg/registry/apps/deployment/storage/storage.go` (ScaleREST).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gpuyard import errors
from gpuyard.kube.objects import SCALES, Manifest
from gpuyard.local.objects.kinds.cells import label_selector
from gpuyard.local.objects.kinds.fields import check_not_negative
from gpuyard.local.objects.kinds.kind import Subresource

_METADATA = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")


def _scale_of(manifest: Manifest) -> Manifest:
    spec, metadata = manifest["spec"], manifest["metadata"]
    return {
        "kind": SCALES.kind,
        "apiVersion": SCALES.api_version,
        "metadata": {field: metadata[field] for field in _METADATA if field in metadata},
        "spec": {"replicas": replicas} if (replicas := spec.get("replicas", 1)) else {},
        "status": {
            "replicas": (manifest.get("status") or {}).get("replicas", 0),
            "selector": label_selector(spec.get("selector") or {}),
        },
    }


def _with_replicas(old: Manifest, scale: Manifest) -> Manifest:
    """The object with as many replicas as the Scale says; one that says nothing means none.

    Raises:
        Invalid: fewer than none.
    """
    spec: Mapping[str, Any] = scale.get("spec") or {}
    name = old["metadata"]["name"]
    if found := check_not_negative("spec", spec, "replicas"):
        causes = [{"reason": e.type, "message": e.message, "field": e.path} for e in found]
        text = ", ".join(f"{error.path}: {error.message}" for error in found)
        details = {"name": name, "group": SCALES.group, "kind": SCALES.kind, "causes": causes}
        raise errors.Invalid(f'Scale.autoscaling "{name}" is invalid: {text}', details=details)
    return {
        **old,
        "metadata": dict(old["metadata"]),
        "spec": {**old["spec"], "replicas": spec.get("replicas", 0)},
    }


SCALE = Subresource("scale", SCALES, ("get", "patch", "update"), view=_scale_of, merge=_with_replicas)
