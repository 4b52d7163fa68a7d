"""What a delete does to an object: removes it, or marks it for those who hold it (pure).

Sources: apiserver `pkg/registry/rest/delete.go` and `registry/generic/registry/store.go`, and the delete
strategies of pods and namespaces.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any

from gpuyard import errors
from gpuyard.client.api import Propagation
from gpuyard.kube.objects import JOBS, NAMESPACES, Manifest
from gpuyard.kube.pods import is_terminal
from gpuyard.kube.timestamps import LONGEST_S, format_time, later, parse_time
from gpuyard.local.objects.admission import is_dry_run
from gpuyard.local.objects.kinds import schema
from gpuyard.local.objects.kinds.fields import invalid, invalid_options, unsupported
from gpuyard.local.objects.kinds.kind import KindSpec
from gpuyard.local.objects.metadata import conflict, details
from gpuyard.local.objects.parameters import number_parameter

_DEFAULT_GRACE_S = 30
_FOREGROUND = "foregroundDeletion"
_ORPHAN = "orphan"
_PERMANENT_NAMESPACES = ("default", "kube-system", "kube-node-lease")


@dataclass(frozen=True)
class DeleteOptions:
    """What a delete asks for; source: `metav1.DeleteOptions`.

    Attributes:
        grace_s: None for the object's own; 0 removes at once.
        propagation: None keeps the finalizers that say what happens to dependents.
        uid, resource_version: preconditions; empty for none.
    """

    grace_s: int | None = None
    propagation: Propagation | None = None
    uid: str = ""
    resource_version: str = ""
    dry_run: bool = False


def parse_delete_options(raw: Any, query: Mapping[str, str] = MappingProxyType({})) -> DeleteOptions:
    """`v1.DeleteOptions` of a body (None for none), else of a request's query parameters.

    Raises:
        BadRequest, Invalid: it isn't one.
    """
    if raw is not None and not isinstance(raw, Mapping):
        raise errors.BadRequest("the body of a delete must be a DeleteOptions object")
    options, _ = schema.decode("meta.v1.DeleteOptions", raw or {})
    grace_s = options.get("gracePeriodSeconds", number_parameter(query, "gracePeriodSeconds"))
    policy = options.get("propagationPolicy", "")
    if policy and options.get("orphanDependents") is not None:
        detail = "orphanDependents and deletionPropagation cannot be both set"
        raise invalid_options("DeleteOptions", invalid("propagationPolicy", policy, detail))
    policy = policy or query.get("propagationPolicy", "")
    if not policy and "orphanDependents" in options:
        policy = Propagation.ORPHAN if options["orphanDependents"] else Propagation.BACKGROUND
    if policy and policy not in tuple(Propagation):
        supported = ("Foreground", "Background", "Orphan", "nil")
        raise invalid_options("DeleteOptions", unsupported("propagationPolicy", policy, supported))
    preconditions = options.get("preconditions") or {}
    return DeleteOptions(
        grace_s=grace_s,
        propagation=Propagation(policy) if policy else None,
        uid=preconditions.get("uid", ""),
        resource_version=preconditions.get("resourceVersion", ""),
        dry_run=is_dry_run("DeleteOptions", options.get("dryRun") or query.get("dryRun")),
    )


def mark_deleted(
    spec: KindSpec, old: Mapping[str, Any], options: DeleteOptions, now: datetime
) -> Manifest | None:
    """The object as the delete leaves it, or None when it goes now. `old` is not changed.

    Raises:
        Conflict: a namespace that is being emptied already.
        Forbidden: a namespace that the yard can't do without.
    """
    marked: Manifest = {**old, "metadata": dict(old["metadata"])}
    metadata = marked["metadata"]
    if spec.resource == NAMESPACES:
        _mark_namespace(spec, marked)
    propagation = options.propagation
    if propagation is None and orphans_by_default(spec) and not metadata.get("deletionTimestamp"):
        propagation = Propagation.ORPHAN
    if propagation is not None:
        _set_propagation(metadata, propagation)
    grace_s = _grace(spec, old, options.grace_s)
    previous_s = metadata.get("deletionGracePeriodSeconds")
    if metadata.get("deletionTimestamp") is None:
        _set_deadline(metadata, now, grace_s)
    elif previous_s is not None and grace_s < previous_s:
        asked = parse_time(metadata["deletionTimestamp"]) - timedelta(seconds=previous_s)
        _set_deadline(metadata, asked, grace_s)
    return None if is_released(marked) else marked


def orphans_by_default(spec: KindSpec) -> bool:
    """Whether dependents stay when a delete says nothing: with batch/v1 Jobs, as old clients expect."""
    return spec.resource == JOBS


def is_released(manifest: Mapping[str, Any]) -> bool:
    """Whether an object that is marked for deletion has nothing left that holds it."""
    metadata = manifest["metadata"]
    return bool(
        metadata.get("deletionTimestamp")
        and not metadata.get("deletionGracePeriodSeconds")
        and not metadata.get("finalizers")
        and not (manifest.get("spec") or {}).get("finalizers")
    )


def _set_deadline(metadata: dict[str, Any], asked: datetime, grace_s: int) -> None:
    metadata["deletionTimestamp"] = format_time(later(asked, grace_s))
    metadata["deletionGracePeriodSeconds"] = grace_s
    if metadata.get("generation"):
        metadata["generation"] += 1


def _grace(spec: KindSpec, old: Mapping[str, Any], asked_s: int | None) -> int:
    """Seconds that the kubelet gets; none for a pod that it doesn't run or no longer runs."""
    if not spec.graceful:
        return 0
    pod_spec = old.get("spec") or {}
    if not pod_spec.get("nodeName") or is_terminal(old):
        return 0
    if asked_s is None:
        asked_s = pod_spec.get("terminationGracePeriodSeconds", _DEFAULT_GRACE_S)
    # A negative period means "as soon as the kubelet agrees" since 1.0.
    return min(asked_s, LONGEST_S) if asked_s >= 0 else 1


def _set_propagation(metadata: dict[str, Any], propagation: Propagation) -> None:
    wanted = {Propagation.FOREGROUND: _FOREGROUND, Propagation.ORPHAN: _ORPHAN}.get(propagation)
    kept = [name for name in metadata.get("finalizers") or () if name not in (_FOREGROUND, _ORPHAN)]
    finalizers = kept + ([wanted] if wanted else [])
    if finalizers:
        metadata["finalizers"] = finalizers
    else:
        metadata.pop("finalizers", None)


def _mark_namespace(spec: KindSpec, marked: Manifest) -> None:
    name = marked["metadata"]["name"]
    if name in _PERMANENT_NAMESPACES:
        raise errors.Forbidden(
            f'namespaces "{name}" is forbidden: this namespace may not be deleted',
            details=details(spec, name),
        )
    held = (marked.get("spec") or {}).get("finalizers")
    if marked["metadata"].get("deletionTimestamp") and held:
        why = (
            "The system is ensuring all content is removed from this namespace.  Upon completion, this "
            "namespace will automatically be purged by the system."
        )
        raise conflict(spec, name, why)
    marked["status"] = {**(marked.get("status") or {}), "phase": "Terminating"}
