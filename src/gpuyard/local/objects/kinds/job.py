"""Jobs.

Sources: kubernetes `pkg/apis/batch/v1/defaults.go`, `pkg/registry/batch/job/strategy.go`,
`pkg/apis/batch/validation`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from gpuyard.kube.conditions import condition_is_true
from gpuyard.kube.objects import JOBS, Manifest
from gpuyard.kube.selectors import field_text
from gpuyard.kube.timestamps import parse_time
from gpuyard.kube.wellknown import LABEL_JOB_NAME, LABEL_JOB_UID
from gpuyard.local.objects.kinds.cells import AGE, NAME, TEMPLATE_COLUMNS, human_duration
from gpuyard.local.objects.kinds.fields import invalid_object
from gpuyard.local.objects.kinds.job_rules import validate_job
from gpuyard.local.objects.kinds.kind import Column, CreateContext, KindSpec, status_subresource
from gpuyard.local.objects.kinds.pod_spec import default_pod_template
from gpuyard.local.objects.kinds.yard_limits import no_images

_MAX_INT32 = 2**31 - 1
#: What Kubernetes before 1.27 named the same labels; selectors of users still do.
_OLD_LABELS = {"job-name": LABEL_JOB_NAME, "controller-uid": LABEL_JOB_UID}


def _default(job: Manifest) -> None:
    spec = job.setdefault("spec", {})
    if "parallelism" not in spec:
        spec.setdefault("completions", 1)
        spec["parallelism"] = 1
    spec.setdefault("backoffLimit", _MAX_INT32 if "backoffLimitPerIndex" in spec else 6)
    spec.setdefault("completionMode", "NonIndexed")
    spec.setdefault("suspend", False)
    spec.setdefault("manualSelector", False)
    spec.setdefault("podReplacementPolicy", "Failed" if "podFailurePolicy" in spec else "TerminatingOrFailed")
    for rule in (spec.get("podFailurePolicy") or {}).get("rules") or ():
        for pattern in rule.get("onPodConditions") or ():
            pattern.setdefault("status", "True")
    template = spec.setdefault("template", {})
    default_pod_template(template)
    labels = template["metadata"].get("labels")
    metadata = job.setdefault("metadata", {})
    if labels and not metadata.get("labels"):
        # The same object, as in Kubernetes: what the server adds to one is on the other, too.
        metadata["labels"] = labels


def _prepare_create(job: Manifest, context: CreateContext) -> None:
    """A selector of its own, so that no two Jobs fight over pods."""
    job["status"] = {}
    spec, metadata = job["spec"], job["metadata"]
    if refused := no_images("spec.template.spec", spec["template"]["spec"], context.no_images()):
        raise invalid_object(JOB, metadata.get("name", ""), refused)
    if spec.get("manualSelector"):
        return
    values = {LABEL_JOB_NAME: metadata.get("name", ""), LABEL_JOB_UID: metadata.get("uid", "")}
    labels = spec["template"]["metadata"].setdefault("labels", {})
    labels.update(values)
    labels.update((old, values[new]) for old, new in _OLD_LABELS.items())
    spec.setdefault("selector", {}).setdefault("matchLabels", {})[LABEL_JOB_UID] = values[LABEL_JOB_UID]


def _status(job: Manifest, _now: datetime) -> str:
    for condition in ("Complete", "Failed"):
        if condition_is_true(job, condition):
            return condition
    if "deletionTimestamp" in job["metadata"]:
        return "Terminating"
    for condition in ("Suspended", "FailureTarget", "SuccessCriteriaMet"):
        if condition_is_true(job, condition):
            return condition
    return "Running"


def _completions(job: Manifest, _now: datetime) -> str:
    spec, done = job.get("spec") or {}, (job.get("status") or {}).get("succeeded", 0)
    if "completions" in spec:
        return f"{done}/{spec['completions']}"
    parallelism = spec.get("parallelism", 0)
    return f"{done}/1 of {parallelism}" if parallelism > 1 else f"{done}/1"


def _duration(job: Manifest, now: datetime) -> str:
    status = job.get("status") or {}
    if not status.get("startTime"):
        return ""
    end = parse_time(status["completionTime"]) if status.get("completionTime") else now
    return human_duration((end - parse_time(status["startTime"])).total_seconds())


def _field_text(job: Mapping[str, Any], path: str) -> str:
    """`status.successful` is what selectors call `status.succeeded`."""
    if path == "status.successful":
        return str((job.get("status") or {}).get("succeeded", 0))
    return field_text(job, path)


JOB = KindSpec(
    resource=JOBS,
    categories=("all",),
    default=_default,
    validate=validate_job,
    prepare_create=_prepare_create,
    columns=(
        NAME,
        Column("Status", _status, description="Status of the job."),
        Column("Completions", _completions, description="Pods that succeeded, of those asked for."),
        Column("Duration", _duration, description="How long the job took, or runs so far."),
        AGE,
        *TEMPLATE_COLUMNS,
    ),
    has_generation=True,
    selectable_fields=frozenset(("status.successful",)),
    field_text=_field_text,
    subresources=(status_subresource(JOBS),),
)
