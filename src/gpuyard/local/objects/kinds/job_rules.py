"""Rules of Jobs, and what an update of one may change.

Source: kubernetes `pkg/apis/batch/validation`.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from gpuyard.kube.objects import Manifest
from gpuyard.kube.wellknown import LABEL_JOB_UID
from gpuyard.local.objects.kinds.fields import (
    check_immutable,
    check_key,
    check_labels,
    check_not_negative,
    check_one_of,
    forbidden,
    invalid,
    required,
    too_long,
    unsupported,
)
from gpuyard.local.objects.kinds.kind import FieldError
from gpuyard.local.objects.kinds.pod_spec import validate_pod_spec

_MODES = ("NonIndexed", "Indexed")
_RESTART_POLICIES = ("OnFailure", "Never")
_REPLACEMENT_POLICIES = ("Failed", "TerminatingOrFailed")
_MAX_PARALLELISM = 100_000
#: The yard's own bound: its controller keeps every index that has succeeded.
_MAX_INDEXES = 100_000
#: `0-2,5` of so many indexes has no more characters.
_MAX_INDEXES_BYTES = 700_000
_IMMUTABLE = (
    "selector", "completionMode", "manualSelector", "podReplacementPolicy", "podFailurePolicy",
    "successPolicy", "backoffLimitPerIndex", "managedBy",
)  # fmt: skip
#: Parts of the template that may change as long as no pod was made of it.
_SCHEDULING = ("nodeSelector", "tolerations", "affinity", "schedulingGates")
#: What Kubernetes takes and the job controller here doesn't do.
_NOT_SERVED = ("podFailurePolicy", "successPolicy", "backoffLimitPerIndex", "maxFailedIndexes")


def validate_job(job: Manifest, old: Manifest | None) -> list[FieldError]:
    """Broken rules of a Job, against the one that it replaces when there is one."""
    spec = job.get("spec") or {}
    found = _validate_spec(spec) + _validate_status(job.get("status") or {})
    found += _validate_template(spec.get("template") or {})
    found += [
        forbidden(f"spec.{name}", "this yard's job controller doesn't do this yet; leave it out")
        for name in _NOT_SERVED
        if spec.get(name) is not None
    ]
    if old is None:
        return found + _validate_selector(job, spec)
    return found + _validate_update(spec, old.get("spec") or {}, old.get("status") or {})


def _validate_spec(spec: Mapping[str, Any]) -> list[FieldError]:
    found = check_not_negative(
        "spec", spec, "parallelism", "completions", "activeDeadlineSeconds", "backoffLimit",
        "ttlSecondsAfterFinished",
    )  # fmt: skip
    mode = spec.get("completionMode", "")
    found += check_one_of("spec.completionMode", mode, _MODES)
    if mode == "Indexed":
        if "completions" not in spec:
            found.append(required("spec.completions", "when completion mode is Indexed"))
        elif spec["completions"] > _MAX_INDEXES:
            detail = f"this yard runs indexed jobs of at most {_MAX_INDEXES} completions"
            found.append(invalid("spec.completions", spec["completions"], detail))
        if spec.get("parallelism", 0) > _MAX_PARALLELISM:
            detail = f"must be less than or equal to {_MAX_PARALLELISM} when completion mode is Indexed"
            found.append(invalid("spec.parallelism", spec["parallelism"], detail))
    policy = spec.get("podReplacementPolicy", "")
    found += check_one_of("spec.podReplacementPolicy", policy, _REPLACEMENT_POLICIES)
    return found


def _validate_status(status: Mapping[str, Any]) -> list[FieldError]:
    return [
        too_long(f"status.{name}", _MAX_INDEXES_BYTES)
        for name in ("completedIndexes", "failedIndexes")
        if len(status.get(name) or "") > _MAX_INDEXES_BYTES
    ]


def _validate_template(template: Mapping[str, Any]) -> list[FieldError]:
    path, metadata = "spec.template", template.get("metadata") or {}
    found = check_labels(f"{path}.labels", metadata.get("labels") or {})
    for key in metadata.get("annotations") or {}:
        found += check_key(f"{path}.annotations", key.lower())
    pod_spec = template.get("spec") or {}
    found += validate_pod_spec(f"{path}.spec", pod_spec)
    policy = pod_spec.get("restartPolicy", "")
    if policy == "Always":
        # Nobody may have written it: it is the default of pods.
        found.append(required(f"{path}.spec.restartPolicy", 'valid values: "OnFailure", "Never"'))
    elif policy not in _RESTART_POLICIES:
        found.append(unsupported(f"{path}.spec.restartPolicy", policy, _RESTART_POLICIES))
    return found


def _validate_selector(job: Manifest, spec: Mapping[str, Any]) -> list[FieldError]:
    selector = spec.get("selector")
    if not selector:
        return [required("spec.selector")]
    wanted = {LABEL_JOB_UID: job["metadata"].get("uid", "")}
    if not spec.get("manualSelector") and selector != {"matchLabels": wanted}:
        return [invalid("spec.selector", selector, "`selector` not auto-generated"), *_validate_match(spec)]
    name = job["metadata"].get("name", "")
    if spec.get("manualSelector") and len(name) > 63:
        # The name becomes a label of the pods, though not of the template.
        return [invalid("metadata.name", name, "must be no more than 63 characters")]
    return _validate_match(spec)


def _validate_match(spec: Mapping[str, Any]) -> list[FieldError]:
    wanted = ((spec.get("selector") or {}).get("matchLabels") or {}).items()
    labels = ((spec.get("template") or {}).get("metadata") or {}).get("labels") or {}
    if all(labels.get(key) == value for key, value in wanted):
        return []
    detail = "`selector` does not match template `labels`"
    return [invalid("spec.template.metadata.labels", labels, detail)]


def _validate_update(
    new: Mapping[str, Any], old: Mapping[str, Any], status: Mapping[str, Any]
) -> list[FieldError]:
    found = _validate_match(new) + check_immutable("spec", new, old, *_IMMUTABLE)
    found += _validate_completions(new, old)
    template, before = new.get("template") or {}, old.get("template") or {}
    if old.get("suspend") and not status.get("startTime"):
        template = _with_scheduling_of(before, template)
    return found + check_immutable("spec", {"template": template}, {"template": before}, "template")


def _validate_completions(new: Mapping[str, Any], old: Mapping[str, Any]) -> list[FieldError]:
    """Fixed, but for an indexed Job whose parallelism follows."""
    if new.get("completions") == old.get("completions"):
        return []
    if new.get("completionMode") != "Indexed":
        return check_immutable("spec", new, old, "completions")
    if new.get("completions") is None or new["completions"] != new.get("parallelism"):
        detail = "can only be modified in tandem with spec.parallelism"
        return [invalid("spec.completions", new.get("completions"), detail)]
    return []


def _with_scheduling_of(source: Mapping[str, Any], template: Mapping[str, Any]) -> dict[str, Any]:
    """`template` with its scheduling directives as they are in `source`."""
    result = copy.deepcopy(dict(template))
    for part, fields in (("metadata", ("labels", "annotations")), ("spec", _SCHEDULING)):
        holder = result.setdefault(part, {})
        for field in fields:
            holder.pop(field, None)
            if field in (source.get(part) or {}):
                holder[field] = source[part][field]
    return result
