"""Events (core v1)."""

from __future__ import annotations

from gpuyard.kube.objects import EVENTS
from gpuyard.local.api.kinds.kind import KindSpec

EVENT = KindSpec(
    resource=EVENTS,
    short_names=("ev",),
    selectable_fields=frozenset(
        (
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "source",
            "type",
        )
    ),
)
