"""Leases.

Source: kubernetes `pkg/apis/coordination/validation`.
"""

from __future__ import annotations

from gpuyard.kube.objects import LEASES, Manifest
from gpuyard.local.objects.kinds.cells import AGE, NAME
from gpuyard.local.objects.kinds.fields import NEGATIVE, invalid
from gpuyard.local.objects.kinds.kind import Column, FieldError, KindSpec


def _validate(lease: Manifest, _old: Manifest | None) -> list[FieldError]:
    spec = lease.get("spec") or {}
    found: list[FieldError] = []
    duration, transitions = spec.get("leaseDurationSeconds"), spec.get("leaseTransitions")
    if duration is not None and duration <= 0:
        found.append(invalid("spec.leaseDurationSeconds", duration, "must be greater than 0"))
    if transitions is not None and transitions < 0:
        found.append(invalid("spec.leaseTransitions", transitions, NEGATIVE))
    return found


LEASE = KindSpec(
    resource=LEASES,
    validate=_validate,
    needs_version=True,
    columns=(
        NAME,
        Column("Holder", lambda lease, _now: (lease.get("spec") or {}).get("holderIdentity", "")),
        AGE,
    ),
)
