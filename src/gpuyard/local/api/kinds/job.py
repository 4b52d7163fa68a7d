"""Jobs."""

from __future__ import annotations

from gpuyard.kube.objects import JOBS
from gpuyard.local.api.kinds.kind import KindSpec, status_subresource

JOB = KindSpec(
    resource=JOBS,
    categories=("all",),
    has_status=True,
    has_generation=True,
    selectable_fields=frozenset(("status.successful",)),
    subresources=(status_subresource(JOBS),),
)
