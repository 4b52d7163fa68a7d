"""The spec that pods and templates of pods share.

Sources: kubernetes `pkg/apis/core/v1/defaults.go`, `pkg/apis/core/validation` (ValidatePodSpec).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gpuyard.local.objects.kinds.containers import default_container, validate_containers
from gpuyard.local.objects.kinds.fields import (
    check_key,
    check_label_name,
    check_labels,
    check_one_of,
    check_subdomain_name,
    duplicate,
    invalid,
    required,
)
from gpuyard.local.objects.kinds.kind import FieldError
from gpuyard.local.objects.kinds.placement import validate_placement
from gpuyard.local.objects.kinds.volumes import default_volume, validate_volumes
from gpuyard.local.objects.kinds.yard_limits import yard_limits

_RESTART_POLICIES = ("Always", "OnFailure", "Never")
_DNS_POLICIES = ("ClusterFirstWithHostNet", "ClusterFirst", "Default", "None")
_MAX_INT32 = 2**31 - 1


def default_pod_spec(spec: dict[str, Any]) -> None:
    """Fills in, in place, what Kubernetes does."""
    spec.setdefault("restartPolicy", "Always")
    spec.setdefault("dnsPolicy", "ClusterFirst")
    spec.setdefault("schedulerName", "default-scheduler")
    # A negative one has meant "at once" in old manifests.
    if spec.setdefault("terminationGracePeriodSeconds", 30) < 0:
        spec["terminationGracePeriodSeconds"] = 1
    spec.setdefault("securityContext", {})
    for volume in spec.get("volumes") or ():
        default_volume(volume)
    for container in [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]:
        default_container(container)


def validate_pod_spec(path: str, spec: Mapping[str, Any]) -> list[FieldError]:
    """Kubernetes' rules, and then the yard's own limits."""
    found, volumes = validate_volumes(f"{path}.volumes", spec.get("volumes") or [])
    names: set[str] = set()
    if not spec.get("containers"):
        found.append(required(f"{path}.containers"))
    grace_s = spec.get("terminationGracePeriodSeconds", 30)
    for field, grace in (("containers", grace_s), ("initContainers", None)):
        found += validate_containers(f"{path}.{field}", spec.get(field) or [], volumes, names, grace)
    found += check_one_of(f"{path}.restartPolicy", spec.get("restartPolicy", ""), _RESTART_POLICIES)
    found += check_one_of(f"{path}.dnsPolicy", spec.get("dnsPolicy", ""), _DNS_POLICIES)
    found += _validate_numbers(path, spec)
    found += _validate_names(path, spec)
    found += validate_placement(path, spec)
    return found + yard_limits(path, spec)


def default_pod_template(template: dict[str, Any]) -> None:
    """Fills in, in place, what Kubernetes does for the pods that will be made of it."""
    template.setdefault("metadata", {})
    default_pod_spec(template.setdefault("spec", {}))


def validate_pod_template(path: str, template: Mapping[str, Any]) -> list[FieldError]:
    """Rules of a template, whoever makes pods of it."""
    metadata = template.get("metadata") or {}
    found = check_labels(f"{path}.labels", metadata.get("labels") or {})
    for key in metadata.get("annotations") or {}:
        found += check_key(f"{path}.annotations", key.lower())
    return found + validate_pod_spec(f"{path}.spec", template.get("spec") or {})


def _validate_numbers(path: str, spec: Mapping[str, Any]) -> list[FieldError]:
    found: list[FieldError] = []
    deadline = spec.get("activeDeadlineSeconds")
    if deadline is not None and not 1 <= deadline <= _MAX_INT32:
        detail = f"must be between 1 and {_MAX_INT32}, inclusive"
        found.append(invalid(f"{path}.activeDeadlineSeconds", deadline, detail))
    return found


def _validate_names(path: str, spec: Mapping[str, Any]) -> list[FieldError]:
    found: list[FieldError] = []
    for field in ("nodeName", "priorityClassName", "runtimeClassName", "serviceAccountName"):
        if spec.get(field):
            found += check_subdomain_name(f"{path}.{field}", spec[field])
    for field in ("hostname", "subdomain"):
        if spec.get(field):
            found += check_label_name(f"{path}.{field}", spec[field])
    seen: set[str] = set()
    for index, gate in enumerate(spec.get("schedulingGates") or ()):
        name = gate.get("name", "")
        if not name:
            found.append(required(f"{path}.schedulingGates[{index}].name"))
        elif name in seen:
            found.append(duplicate(f"{path}.schedulingGates[{index}]", name))
        seen.add(name)
    return found
