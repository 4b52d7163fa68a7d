"""Leases."""

from __future__ import annotations

from gpuyard.kube.objects import LEASES
from gpuyard.local.api.kinds.kind import KindSpec

LEASE = KindSpec(resource=LEASES)
