"""Nodes."""

from __future__ import annotations

from gpuyard.kube.objects import NODES
from gpuyard.local.api.kinds.kind import KindSpec, status_subresource

NODE = KindSpec(
    resource=NODES,
    short_names=("no",),
    has_status=True,
    selectable_fields=frozenset(("spec.unschedulable",)),
    subresources=(status_subresource(NODES),),
)
