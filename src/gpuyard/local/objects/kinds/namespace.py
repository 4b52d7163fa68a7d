"""Namespaces: deleted only after all that is in them is gone.

Source: kubernetes `pkg/registry/core/namespace/strategy.go`.
"""

from __future__ import annotations

from gpuyard.kube.objects import NAMESPACES, Manifest
from gpuyard.local.objects.kinds.cells import AGE, NAME
from gpuyard.local.objects.kinds.kind import Column, CreateContext, KindSpec, Subresource, status_subresource

_FINALIZER = "kubernetes"
#: Every namespace carries its own name, so that selectors can name it.
_LABEL_NAME = "kubernetes.io/metadata.name"


def _prepare_create(namespace: Manifest, _context: CreateContext) -> None:
    metadata = namespace["metadata"]
    metadata.setdefault("labels", {})[_LABEL_NAME] = metadata.get("name", "")
    finalizers = namespace.setdefault("spec", {}).setdefault("finalizers", [])
    if _FINALIZER not in finalizers:
        finalizers.append(_FINALIZER)
    namespace["status"] = {"phase": "Active"}


def _prepare_update(namespace: Manifest, old: Manifest) -> None:
    """Only the `finalize` subresource changes the finalizers in the spec."""
    namespace["metadata"].setdefault("labels", {})[_LABEL_NAME] = old["metadata"]["name"]
    namespace["spec"] = old.get("spec") or {}


def _with_finalizers(old: Manifest, new: Manifest) -> Manifest:
    """What `finalize` changes: the finalizers in the spec, and nothing else."""
    finalizers = (new.get("spec") or {}).get("finalizers") or []
    return {
        **old,
        "metadata": dict(old["metadata"]),
        "spec": {**(old.get("spec") or {}), "finalizers": finalizers},
    }


NAMESPACE = KindSpec(
    resource=NAMESPACES,
    short_names=("ns",),
    prepare_create=_prepare_create,
    prepare_update=_prepare_update,
    columns=(NAME, Column("Status", lambda n, _now: (n.get("status") or {}).get("phase", "")), AGE),
    name_is_subdomain=False,
    selectable_fields=frozenset(("status.phase",)),
    subresources=(
        Subresource("finalize", NAMESPACES, ("update",), merge=_with_finalizers),
        status_subresource(NAMESPACES),
    ),
    verbs=("create", "delete", "get", "list", "patch", "update", "watch"),
)
