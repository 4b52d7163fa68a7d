"""Pods."""

from __future__ import annotations

from gpuyard.kube.objects import PODS
from gpuyard.local.api.kinds.kind import KindSpec, Subresource, status_subresource

POD = KindSpec(
    resource=PODS,
    short_names=("po",),
    categories=("all",),
    has_status=True,
    has_generation=True,
    graceful=True,
    selectable_fields=frozenset(
        (
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        )
    ),
    subresources=(
        status_subresource(PODS),
        Subresource("binding", "Binding", ("create",)),
        Subresource("eviction", "Eviction", ("create",), "policy", "v1"),
        Subresource("log", "Pod", ("get",)),
    ),
)
