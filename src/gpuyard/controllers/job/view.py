"""What the Job controller reads of a Job, parsed once (pure).

Source: batch/v1 Job of Kubernetes 1.34, https://kubernetes.io/docs/concepts/workloads/controllers/job/.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from gpuyard.kube.conditions import condition_is_true, find_condition
from gpuyard.kube.objects import Manifest, uid_of
from gpuyard.kube.timestamps import parse_time
from gpuyard.kube.wellknown import ANNOTATION_GANG_SIZE

_OWN_CONTROLLER = "kubernetes.io/job-controller"


@dataclass(frozen=True)
class JobView:
    """A Job's spec with its defaults, and what its status has recorded so far.

    Attributes:
        completions: None when one success of any pod makes the Job complete.
        replaces_only_failed: podReplacementPolicy Failed: a terminating pod still holds its place.
        managed: False when another controller is named in spec.managedBy.
        limit_per_index: failures after which one index has failed; None without a limit for each.
        max_failed_indexes: more of them end the Job.
        is_gang: its pods start together, and end together.
        succeeded, failed: pods counted for good; `uncounted_*` are uids still to be moved there.
    """

    uid: str
    parallelism: int
    completions: int | None
    backoff_limit: int
    indexed: bool
    suspended: bool
    deadline_s: int | None
    ttl_s: int | None
    restarts_in_place: bool
    replaces_only_failed: bool
    managed: bool
    deleting: bool
    started_at: datetime | None
    succeeded: int
    failed: int
    completed_indexes: str
    uncounted_succeeded: tuple[str, ...]
    uncounted_failed: tuple[str, ...]
    status: Mapping[str, Any]
    failure_policy: Mapping[str, Any] | None = None
    limit_per_index: int | None = None
    max_failed_indexes: int | None = None
    failed_indexes: str = ""
    is_gang: bool = False
    success_rules: Sequence[Mapping[str, Any]] = ()

    @property
    def finished_at(self) -> datetime | None:
        """When it became Complete or Failed; None while it is neither."""
        for type_ in ("Complete", "Failed"):
            condition = find_condition({"status": self.status}, type_)
            if condition and condition.get("status") == "True":
                return parse_time(condition["lastTransitionTime"])
        return None

    def has(self, condition: str) -> bool:
        """Whether the condition is there with status "True"."""
        return condition_is_true({"status": self.status}, condition)


def view_job(manifest: Manifest) -> JobView:
    """Reads a Job."""
    spec, status = manifest["spec"], manifest.get("status") or {}
    of_pods = (spec["template"].get("metadata") or {}).get("annotations") or {}
    uncounted = status.get("uncountedTerminatedPods") or {}
    parallelism, completions = spec.get("parallelism"), spec.get("completions")
    if parallelism is None and completions is None:
        completions = 1
    started = status.get("startTime")
    return JobView(
        uid=uid_of(manifest),
        parallelism=1 if parallelism is None else parallelism,
        completions=completions,
        backoff_limit=spec.get("backoffLimit", 6),
        indexed=spec.get("completionMode") == "Indexed",
        suspended=bool(spec.get("suspend")),
        deadline_s=spec.get("activeDeadlineSeconds"),
        ttl_s=spec.get("ttlSecondsAfterFinished"),
        restarts_in_place=spec["template"]["spec"].get("restartPolicy") == "OnFailure",
        replaces_only_failed=spec.get("podReplacementPolicy") == "Failed",
        managed=spec.get("managedBy", _OWN_CONTROLLER) == _OWN_CONTROLLER,
        deleting=manifest["metadata"].get("deletionTimestamp") is not None,
        started_at=parse_time(started) if started else None,
        succeeded=status.get("succeeded", 0),
        failed=status.get("failed", 0),
        completed_indexes=status.get("completedIndexes", ""),
        uncounted_succeeded=tuple(uncounted.get("succeeded") or ()),
        uncounted_failed=tuple(uncounted.get("failed") or ()),
        status=status,
        failure_policy=spec.get("podFailurePolicy"),
        limit_per_index=spec.get("backoffLimitPerIndex"),
        max_failed_indexes=spec.get("maxFailedIndexes"),
        failed_indexes=status.get("failedIndexes", ""),
        is_gang=ANNOTATION_GANG_SIZE in of_pods,
        success_rules=(spec.get("successPolicy") or {}).get("rules") or (),
    )
