"""PriorityClasses."""

from __future__ import annotations

from gpuyard.kube.objects import PRIORITY_CLASSES
from gpuyard.local.api.kinds.kind import KindSpec

PRIORITY_CLASS = KindSpec(resource=PRIORITY_CLASSES, short_names=("pc",))
