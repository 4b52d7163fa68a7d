"""Namespaces."""

from __future__ import annotations

from gpuyard.kube.objects import NAMESPACES
from gpuyard.local.api.kinds.kind import KindSpec, Subresource, status_subresource

NAMESPACE = KindSpec(
    resource=NAMESPACES,
    short_names=("ns",),
    has_status=True,
    name_is_subdomain=False,
    selectable_fields=frozenset(("status.phase",)),
    subresources=(
        Subresource("finalize", "Namespace", ("update",)),
        status_subresource(NAMESPACES),
    ),
    verbs=("create", "delete", "get", "list", "patch", "update", "watch"),
)
