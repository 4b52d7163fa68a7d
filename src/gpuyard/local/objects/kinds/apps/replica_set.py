"""ReplicaSets.

Sources: kubernetes `pkg/apis/apps/v1/defaults.go`, `pkg/apis/apps/validation`,
`pkg/registry/apps/replicaset/strategy.go`.
"""

from __future__ import annotations

from functools import partial

from gpuyard.kube.objects import REPLICA_SETS, Manifest
from gpuyard.local.objects.kinds.apps.rules import prepare_create, validate_counts, validate_replicated
from gpuyard.local.objects.kinds.apps.scale import SCALE
from gpuyard.local.objects.kinds.cells import AGE, NAME, TEMPLATE_COLUMNS
from gpuyard.local.objects.kinds.fields import check_immutable
from gpuyard.local.objects.kinds.kind import Column, CreateContext, FieldError, KindSpec, status_subresource
from gpuyard.local.objects.kinds.pod_spec import default_pod_template

_COUNTS = ("fullyLabeledReplicas", "readyReplicas", "availableReplicas")


def _default(replica_set: Manifest) -> None:
    spec = replica_set.setdefault("spec", {})
    spec.setdefault("replicas", 1)
    default_pod_template(spec.setdefault("template", {}))


def _prepare_create(replica_set: Manifest, context: CreateContext) -> None:
    prepare_create(REPLICA_SET, replica_set, context)
    replica_set["status"] = {"replicas": 0}


def _validate(replica_set: Manifest, old: Manifest | None) -> list[FieldError]:
    spec = replica_set.get("spec") or {}
    found = validate_replicated(spec) + validate_counts(replica_set.get("status") or {}, *_COUNTS)
    if old is not None:
        found += check_immutable("spec", spec, old.get("spec") or {}, "selector")
    return found


def _count(part: str, field: str, replica_set: Manifest, _now: object) -> int:
    return int((replica_set.get(part) or {}).get(field, 0))


REPLICA_SET = KindSpec(
    resource=REPLICA_SETS,
    short_names=("rs",),
    categories=("all",),
    default=_default,
    validate=_validate,
    prepare_create=_prepare_create,
    columns=(
        NAME,
        Column("Desired", partial(_count, "spec", "replicas"), type="integer"),
        Column("Current", partial(_count, "status", "replicas"), type="integer"),
        Column("Ready", partial(_count, "status", "readyReplicas"), type="integer"),
        AGE,
        *TEMPLATE_COLUMNS,
    ),
    has_generation=True,
    subresources=(SCALE, status_subresource(REPLICA_SETS)),
)
