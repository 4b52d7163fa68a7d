"""How a Job's status follows from its pods (pure).

A pod's outcome is counted in three steps, each durable before the next, so that a crash between any two
loses nothing and counts nothing twice:

    1. its uid is written to status.uncountedTerminatedPods (an index to status.completedIndexes),
    2. the tracking finalizer is taken off the pod, which may vanish from then on,
    3. the uid leaves the list and the counter goes up, in one write.

Sources: Kubernetes 1.34, enhancements 2307 (job tracking without lingering pods), 3329 (podFailurePolicy).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, TypeAlias

from gpuyard.controllers.job.index_failures import failed_indexes, held_failures
from gpuyard.controllers.job.pod_outcome import counts_failure, has_valid_index, is_failed, raw, uncounted
from gpuyard.controllers.job.view import JobView
from gpuyard.controllers.owned_pods.view import PodView
from gpuyard.kube.ages import Age
from gpuyard.kube.conditions import find_condition, with_condition
from gpuyard.kube.objects import Manifest
from gpuyard.kube.timestamps import format_time
from gpuyard.workloads.outcome import is_stopped
from gpuyard.workloads.pod_failure_policy import PodFailureAction, matched_rule
from gpuyard.workloads.sweeps.completion_indexes import format_indexes, parse_indexes

EventType: TypeAlias = Literal["Normal", "Warning"]

#: Outcomes that wait between two writes; keeps the status small whatever the Job's size.
_MAX_UNCOUNTED = 500
#: Conditions that hold a verdict, and whether it is a success.
_DECISIONS = {"SuccessCriteriaMet": True, "FailureTarget": False}


@dataclass(frozen=True)
class JobVerdict:
    """How the Job ends, once that is decided; its pods may still be ending."""

    succeeded: bool
    reason: str
    message: str


@dataclass(frozen=True)
class Account:
    """Where the pods leave the Job.

    Attributes:
        status: to be written before anything in `release` is touched.
        release: pods whose outcome `status` holds: the finalizer may go.
        finished: `status` carries the final condition.
    """

    status: dict[str, Any]
    release: tuple[PodView, ...]
    finished: bool


def completed_indexes(job: JobView, pods: Sequence[PodView]) -> frozenset[int]:
    """Indexes with a success, recorded or seen now."""
    recorded = parse_indexes(job.completed_indexes, job.completions or 0)
    new = [pod.index for pod in uncounted(job, pods) if pod.phase == "Succeeded"]
    return recorded | {index for index in new if index is not None}


def succeeded_count(job: JobView, pods: Sequence[PodView]) -> int:
    """Successes so far, those that aren't counted for good included."""
    if job.indexed:
        return len(completed_indexes(job, pods))
    new = sum(1 for pod in uncounted(job, pods) if pod.phase == "Succeeded")
    return job.succeeded + len(job.uncounted_succeeded) + new


def failed_count(job: JobView, pods: Sequence[PodView]) -> int:
    """Failures so far, those that aren't counted for good included."""
    new = sum(1 for pod in uncounted(job, pods) if is_failed(job, pod) and counts_failure(job, pod))
    return job.failed + len(job.uncounted_failed) + new


def _failed_by_rule(job: JobView, pods: Sequence[PodView]) -> JobVerdict | None:
    """The verdict of the first pod that a rule fails the Job for.

    Kubernetes' controller looks also at pods that it deletes itself: suspending a Job may fail it there.
    """
    for pod in pods:
        looked_at = pod.tracked and is_failed(job, pod)
        rule = matched_rule(job.failure_policy, raw(pod)) if looked_at else None
        if rule is not None and rule.action is PodFailureAction.FAIL_JOB:
            return JobVerdict(False, "PodFailurePolicy", rule.message)
    return None


def _failed_by_indexes(job: JobView, pods: Sequence[PodView]) -> JobVerdict | None:
    """The verdict once every index has ended and some failed, or more failed than may."""
    failed = failed_indexes(job, pods)
    if job.max_failed_indexes is not None and len(failed) > job.max_failed_indexes:
        message = "Job has exceeded the specified maximal number of failed indexes"
        return JobVerdict(False, "MaxFailedIndexesExceeded", message)
    if failed and len(failed) + len(completed_indexes(job, pods)) >= (job.completions or 0):
        return JobVerdict(False, "FailedIndexes", "Job has failed indexes")
    return None


def _succeeded_by_rule(job: JobView, pods: Sequence[PodView]) -> JobVerdict | None:
    """The verdict of the successPolicy, by which some indexes are enough (v1.34 `success_policy.go`)."""
    if not job.success_rules:
        return None
    done = completed_indexes(job, pods)
    for number, rule in enumerate(job.success_rules):
        wanted = parse_indexes(rule.get("succeededIndexes") or f"0-{job.completions}", job.completions or 0)
        if len(done & wanted) >= int(rule.get("succeededCount") or len(wanted)):
            return JobVerdict(True, "SuccessPolicy", f"Matched rules at index {number}")
    return None


def judge(job: JobView, pods: Sequence[PodView], age: Age) -> JobVerdict | None:
    """Whether the Job's end is decided; a verdict that is written in its status stands."""
    for type_, succeeded in _DECISIONS.items():
        if job.has(type_):
            condition = find_condition({"status": job.status}, type_) or {}
            return JobVerdict(succeeded, condition.get("reason", ""), condition.get("message", ""))
    if verdict := _failed_by_rule(job, pods):
        return verdict
    if failed_count(job, pods) > job.backoff_limit or _restarted_too_often(job, pods):
        return JobVerdict(False, "BackoffLimitExceeded", "Job has reached the specified backoff limit")
    if verdict := _failed_by_indexes(job, pods):
        return verdict
    left_s = time_left_s(job, age)
    if left_s is not None and left_s <= 0:
        return JobVerdict(False, "DeadlineExceeded", "Job was active longer than specified deadline")
    if verdict := _succeeded_by_rule(job, pods):
        return verdict
    if any(pod.active for pod in pods):
        return None
    succeeded_pods = succeeded_count(job, pods)
    if succeeded_pods >= (1 if job.completions is None else job.completions):
        return JobVerdict(True, "CompletionsReached", "Reached expected number of succeeded pods")
    return None


def is_decided(job: JobView) -> bool:
    """Whether a verdict is written in its status."""
    return any(job.has(type_) for type_ in _DECISIONS)


def time_left_s(job: JobView, age: Age) -> float | None:
    """Seconds until the Job fails for having been active too long; None without a deadline.

    The clock stands while the Job is suspended, and starts anew with the write that resumes it.
    """
    if job.deadline_s is None or job.started_at is None or job.suspended or job.has("Suspended"):
        return None
    return job.deadline_s - age(job.started_at)


def _restarted_too_often(job: JobView, pods: Sequence[PodView]) -> bool:
    if not job.restarts_in_place:
        return False
    restarts = sum(pod.restarts for pod in pods if not pod.terminal)
    return restarts > 0 and restarts >= job.backoff_limit


def account(job: JobView, pods: Sequence[PodView], verdict: JobVerdict | None, now: datetime) -> Account:
    """The status that these pods call for; once it is written, the same pods call for no other."""
    tracked = {pod.uid for pod in pods if pod.tracked}
    succeeded_uids = [uid for uid in job.uncounted_succeeded if uid in tracked]
    failed_uids = [uid for uid in job.uncounted_failed if uid in tracked]
    succeeded = job.succeeded + len(job.uncounted_succeeded) - len(succeeded_uids)
    failed = job.failed + len(job.uncounted_failed) - len(failed_uids)
    release = _record(job, pods, verdict, succeeded_uids, failed_uids)

    status = {k: v for k, v in job.status.items() if k not in ("active", "succeeded", "failed")}
    status |= _gauges(pods)
    if job.indexed:
        indexes = completed_indexes(job, pods)
        succeeded = len(indexes)
        status |= {"completedIndexes": format_indexes(indexes)} if indexes else {}
    if job.limit_per_index is not None:
        status["failedIndexes"] = format_indexes(failed_indexes(job, pods))
    status |= {name: n for name, n in (("succeeded", succeeded), ("failed", failed)) if n}
    status["uncountedTerminatedPods"] = {
        name: uids for name, uids in (("succeeded", succeeded_uids), ("failed", failed_uids)) if uids
    }
    _set_start(status, job, now)
    settled = not succeeded_uids and not failed_uids and not any(_unfinished(pod) for pod in pods)
    finished = _set_conditions(status, job, verdict, settled, now)
    return Account(status, tuple(release), finished)


def _record(
    job: JobView,
    pods: Sequence[PodView],
    verdict: JobVerdict | None,
    succeeded_uids: list[str],
    failed_uids: list[str],
) -> list[PodView]:
    """Adds the uids of new outcomes to the two lists, and returns the pods that may be released then."""
    release: list[PodView] = []
    held = {pod.uid for pod in held_failures(job, pods).values()} if verdict is None else frozenset[str]()
    for pod in pods:
        if len(succeeded_uids) + len(failed_uids) >= _MAX_UNCOUNTED:
            break
        if not pod.tracked or not _may_release(job, pod, verdict, held):
            continue
        release.append(pod)
        if not has_valid_index(job, pod) or pod.uid in succeeded_uids or pod.uid in failed_uids:
            continue
        if pod.phase == "Succeeded":
            # The index is enough to know it again.
            if not job.indexed:
                succeeded_uids.append(pod.uid)
        elif not counts_failure(job, pod):
            continue
        elif is_failed(job, pod) or (verdict is not None and not verdict.succeeded):
            failed_uids.append(pod.uid)
    return release


def _may_release(job: JobView, pod: PodView, verdict: JobVerdict | None, held: Collection[str]) -> bool:
    if pod.phase == "Succeeded" or job.deleting:
        return True
    if is_failed(job, pod):
        return pod.uid not in held
    return verdict is not None and pod.deleting


def _unfinished(pod: PodView) -> bool:
    return pod.tracked or not pod.terminal


def _gauges(pods: Sequence[PodView]) -> dict[str, Any]:
    active = [pod for pod in pods if pod.active]
    gauges = {
        "ready": sum(1 for pod in active if pod.ready),
        "terminating": sum(1 for pod in pods if pod.terminating),
    }
    return {"active": len(active), **gauges} if active else gauges


def _set_start(status: dict[str, Any], job: JobView, now: datetime) -> None:
    """The clock of activeDeadlineSeconds starts with the first pods, and anew when the Job is resumed."""
    if job.suspended and not job.has("Suspended"):
        status.pop("startTime", None)
    resumed = not job.suspended and job.has("Suspended")
    if (job.started_at is None and not job.suspended) or resumed:
        status["startTime"] = format_time(now)


def _set_conditions(
    status: dict[str, Any], job: JobView, verdict: JobVerdict | None, settled: bool, now: datetime
) -> bool:
    at = format_time(now)
    conditions: list[dict[str, Any]] = [dict(c) for c in status.get("conditions") or ()]

    def put(type_: str, value: str, reason: str, message: str) -> None:
        nonlocal conditions
        old = find_condition({"status": {"conditions": conditions}}, type_)
        if old is None or old.get("status") != value:
            conditions = with_condition(conditions, type_, value, now=at, reason=reason, message=message)
            conditions = [{**c, "lastProbeTime": at} if c["type"] == type_ else c for c in conditions]

    if verdict is None and not job.deleting:
        if job.suspended:
            put("Suspended", "True", "JobSuspended", "Job suspended")
        elif job.has("Suspended"):
            put("Suspended", "False", "JobResumed", "Job resumed")
    finished = False
    if verdict is not None:
        put(
            "SuccessCriteriaMet" if verdict.succeeded else "FailureTarget",
            "True",
            verdict.reason,
            verdict.message,
        )
        if settled:
            finished = True
            put("Complete" if verdict.succeeded else "Failed", "True", verdict.reason, verdict.message)
            if verdict.succeeded:
                status["completionTime"] = at
    if conditions:
        status["conditions"] = conditions
    return finished


def news(job: Manifest, new: Mapping[str, Any]) -> list[tuple[EventType, str, str]]:
    """Events (type, reason, message) that tell of conditions which this change of status turns.

    A run is stopped by allowing it no more attempts: of that its Job's limit is no news to its user.

    Args:
        job: with the status as it was.
        new: the status as it is written.
    """
    old = job.get("status") or {}
    stopped = is_stopped(job)
    told: list[tuple[EventType, str, str]] = []
    for condition in new.get("conditions") or ():
        type_, value = condition["type"], condition["status"]
        before = find_condition({"status": old}, type_)
        if before is not None and before["status"] == value:
            continue
        if type_ == "Complete":
            told.append(("Normal", "Completed", "Job completed"))
        elif type_ == "Failed" and stopped:
            told.append(("Normal", "Stopped", "Its user stopped it"))
        elif type_ == "Failed":
            told.append(("Warning", condition.get("reason", ""), condition.get("message", "")))
        elif type_ == "Suspended":
            told.append(
                ("Normal", "Suspended" if value == "True" else "Resumed", condition.get("message", ""))
            )
    return told
