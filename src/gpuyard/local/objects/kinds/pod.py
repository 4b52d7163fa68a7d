"""Pods: defaults, admission and the declaration; pod_spec.py, pod_update.py and pod_cells.py have the rest.

Sources: kubernetes `pkg/apis/core/v1/defaults.go` (SetDefaults_Pod), `plugin/pkg/admission/priority`,
`plugin/pkg/admission/defaulttolerationseconds`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gpuyard import errors
from gpuyard.kube.conditions import with_condition
from gpuyard.kube.objects import PODS, Manifest, Resource
from gpuyard.kube.wellknown import TAINT_NOT_READY, TAINT_UNREACHABLE
from gpuyard.local.objects.kinds.fields import forbidden, invalid_object
from gpuyard.local.objects.kinds.kind import (
    CreateContext,
    FieldError,
    KindSpec,
    Subresource,
    status_subresource,
)
from gpuyard.local.objects.kinds.pod_binding import bound, evicted
from gpuyard.local.objects.kinds.pod_cells import POD_COLUMNS
from gpuyard.local.objects.kinds.pod_spec import default_pod_spec, validate_pod_spec
from gpuyard.local.objects.kinds.pod_update import validate_pod_update
from gpuyard.local.objects.kinds.resources import default_requests, quota_class
from gpuyard.local.objects.kinds.yard_limits import no_images

_ATTACHES = Resource("", "v1", "PodAttachOptions", "podattachoptions")
_BINDINGS = Resource("", "v1", "Binding", "bindings")
_EVICTIONS = Resource("policy", "v1", "Eviction", "evictions")
_EXECS = Resource("", "v1", "PodExecOptions", "podexecoptions")
_FORWARDS = Resource("", "v1", "PodPortForwardOptions", "podportforwardoptions")
_TOLERATED_S = 300
#: Classes that every Kubernetes has.
_SYSTEM_CLASSES = {"system-cluster-critical": 2_000_000_000, "system-node-critical": 2_000_001_000}


def _default(pod: Manifest) -> None:
    spec = pod.setdefault("spec", {})
    spec.setdefault("enableServiceLinks", True)
    default_pod_spec(spec)
    for field in ("containers", "initContainers"):
        for container in spec.get(field) or ():
            default_requests(container)


def _prepare_create(pod: Manifest, context: CreateContext) -> None:
    spec = pod["spec"]
    if refused := no_images("spec", spec, context.no_images()):
        raise invalid_object(POD, pod["metadata"].get("name", ""), refused)
    _admit_priority(pod, context)
    _tolerate_for_a_while(spec)
    containers = [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]
    pod["status"] = {"phase": "Pending", "qosClass": quota_class(containers)}
    if spec.get("schedulingGates"):
        pod["status"]["conditions"] = with_condition(
            (),
            "PodScheduled",
            "False",
            now=pod["metadata"].get("creationTimestamp", ""),
            reason="SchedulingGated",
            message="Scheduling is blocked due to non-empty scheduling gates",
        )


def _prepare_update(pod: Manifest, _old: Manifest) -> None:
    _tolerate_for_a_while(pod["spec"])


def _tolerate_for_a_while(spec: dict[str, Any]) -> None:
    """Lets a pod stay on a node that is away for some minutes, unless it says itself how long."""
    tolerations = spec.setdefault("tolerations", [])
    for taint in (TAINT_NOT_READY, TAINT_UNREACHABLE):
        if not any(_tolerates_eviction(toleration, taint) for toleration in tolerations):
            tolerations.append(
                {
                    "key": taint,
                    "operator": "Exists",
                    "effect": "NoExecute",
                    "tolerationSeconds": _TOLERATED_S,
                }
            )


def _tolerates_eviction(toleration: Mapping[str, Any], taint: str) -> bool:
    return toleration.get("key", "") in ("", taint) and toleration.get("effect", "") in ("", "NoExecute")


def _admit_priority(pod: Manifest, context: CreateContext) -> None:
    """Resolves the priority class into `priority` and `preemptionPolicy`.

    Raises:
        Forbidden: no such class, or the pod brings numbers of its own.
    """
    spec = pod["spec"]
    name = spec.get("priorityClassName")
    found = _class(name, context) if name else context.default_priority_class()
    if name and found is None:
        raise _refused(pod, f"no PriorityClass with name {name} was found")
    if found is not None:
        spec["priorityClassName"] = found["metadata"]["name"]
    priority = found["value"] if found else 0
    policy = (found or {}).get("preemptionPolicy", "PreemptLowerPriority")
    for what, field, value in (
        ("integer value of priority", "priority", priority),
        ("string value of PreemptionPolicy", "preemptionPolicy", policy),
    ):
        given = spec.get(field)
        if given is not None and given != value:
            raise _refused(
                pod,
                f"the {what} ({given}) must not be provided in pod spec; priority admission controller "
                f"computed {value} from the given PriorityClass name",
            )
        spec[field] = value


def _class(name: str, context: CreateContext) -> Mapping[str, Any] | None:
    if name in _SYSTEM_CLASSES:
        return {"metadata": {"name": name}, "value": _SYSTEM_CLASSES[name]}
    return context.priority_class(name)


def _refused(pod: Manifest, why: str) -> errors.Forbidden:
    name = pod["metadata"].get("name", "")
    return errors.Forbidden(f'pods "{name}" is forbidden: {why}', details={"name": name, "kind": "pods"})


def _validate(pod: Manifest, old: Manifest | None) -> list[FieldError]:
    spec = pod.get("spec") or {}
    found = validate_pod_spec("spec", spec)
    if old is not None:
        return found + validate_pod_update(spec, old.get("spec") or {})
    if spec.get("nodeName") and spec.get("schedulingGates"):
        found.append(forbidden("spec.nodeName", "cannot be set until all schedulingGates have been cleared"))
    return found


POD = KindSpec(
    resource=PODS,
    short_names=("po",),
    categories=("all",),
    default=_default,
    validate=_validate,
    prepare_create=_prepare_create,
    prepare_update=_prepare_update,
    columns=POD_COLUMNS,
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
        Subresource("binding", _BINDINGS, ("create",), apply=bound),
        Subresource(
            "eviction",
            _EVICTIONS,
            ("create",),
            apply=evicted,
            evicts=lambda e: e.get("deleteOptions") or {},
        ),
        Subresource("attach", _ATTACHES, ("create", "get"), upgrades=True),
        Subresource("exec", _EXECS, ("create", "get"), upgrades=True),
        Subresource("log", PODS, ("get",), streams=True),
        Subresource("portforward", _FORWARDS, ("create", "get"), upgrades=True),
    ),
)
