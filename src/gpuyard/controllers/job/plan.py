"""Which pods a Job is to get and to lose now (pure)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

from gpuyard.controllers.job.index_failures import failed_indexes, failures_after, held_failures
from gpuyard.controllers.job.pod_outcome import has_valid_index
from gpuyard.controllers.job.status import (
    JobVerdict,
    completed_indexes,
    is_decided,
    succeeded_count,
    time_left_s,
)
from gpuyard.controllers.job.view import JobView
from gpuyard.controllers.owned_pods.view import IndexFailures, PodView
from gpuyard.kube.ages import Age

#: Source: job_controller.go MaxJobPodFailureBackOff.
_MAX_BACKOFF_S = 360.0
#: The pod that a gang fails with ends 2 s after the others, and times of ends are whole seconds: a new
#: attempt that began between them would take the place of the others' logs. Kubernetes waits longer still.
_LEAST_GANG_BACKOFF_S = 5.0
#: Pods made or deleted in one go, so that a big Job doesn't hold up the others.
_MAX_AT_ONCE = 500


@dataclass(frozen=True)
class JobPlan:
    """What to do with the pods.

    Attributes:
        create: one entry for each new pod: its completion index, None unless the Job is Indexed.
        delete: pods to delete.
        counts: whether the deleted pods count as failures: only so when the Job has failed.
        wait_s: seconds until pods may be created again, when back-off forbids it now.
        failures: of the indexes of new pods so far, where each has a limit of its own.
    """

    create: tuple[int | None, ...] = ()
    delete: tuple[PodView, ...] = ()
    counts: bool = False
    wait_s: float | None = None
    failures: Mapping[int, IndexFailures] = field(default_factory=dict)


def plan(
    job: JobView, pods: Sequence[PodView], verdict: JobVerdict | None, age: Age, backoff_s: float
) -> JobPlan:
    """Decides; deleting goes before creating. `backoff_s` is the delay after one failure."""
    active = [pod for pod in pods if pod.active]
    if verdict is not None:
        return JobPlan(delete=tuple(active), counts=not verdict.succeeded)
    if job.deleting:
        return JobPlan()
    # An active pod without the finalizer was being deleted uncounted when the controller stopped.
    surplus = [pod for pod in active if job.suspended or not pod.tracked]
    wanted = _wanted(job, pods, len(active))
    surplus += _surplus(job, [pod for pod in active if pod not in surplus], wanted)
    if surplus:
        return JobPlan(delete=tuple(surplus[:_MAX_AT_ONCE]))
    holding = active + [pod for pod in pods if pod.terminating and job.replaces_only_failed]
    missing = min(wanted - len(holding), _MAX_AT_ONCE)
    if job.suspended or missing <= 0:
        return JobPlan()
    if job.limit_per_index is not None:
        return _plan_indexes(job, pods, holding, missing, age, backoff_s)
    wait_s = _backoff_left_s(pods, age, backoff_s, least_s=_LEAST_GANG_BACKOFF_S if job.is_gang else 0.0)
    if wait_s > 0:
        return JobPlan(wait_s=wait_s)
    if not job.indexed:
        return JobPlan(create=(None,) * missing)
    taken = completed_indexes(job, pods) | {pod.index for pod in holding}
    free = (index for index in range(job.completions or 0) if index not in taken)
    return JobPlan(create=tuple(islice(free, missing)))


def _plan_indexes(
    job: JobView,
    pods: Sequence[PodView],
    holding: Sequence[PodView],
    missing: int,
    age: Age,
    backoff_s: float,
) -> JobPlan:
    """Where each index fails for itself, each has a back-off of its own, and the next one takes its turn.
    (Kubernetes leaves the place empty meanwhile.)"""
    held = held_failures(job, pods)
    waits = {
        index: _delay_s(pod.index_failures.total + 1, backoff_s) - _age_s(pod, age)
        for index, pod in held.items()
    }
    waiting = {index for index, wait_s in waits.items() if wait_s > 0}
    taken = (
        completed_indexes(job, pods) | failed_indexes(job, pods) | {pod.index for pod in holding} | waiting
    )
    free = [*islice((index for index in range(job.completions or 0) if index not in taken), missing)]
    known = {index: failures_after(job, held[index]) if index in held else IndexFailures() for index in free}
    wait_s = min((waits[index] for index in waiting), default=None)
    return JobPlan(create=tuple(free), wait_s=wait_s, failures=known)


def next_look_s(job: JobView, todo: JobPlan, age: Age) -> float | None:
    """Seconds until something is due that no event will tell: the end of a back-off, or of the Job's time."""
    waits = [] if todo.wait_s is None else [todo.wait_s]
    left_s = time_left_s(job, age)
    if left_s is not None and not is_decided(job):
        # It may have run out since the Job was judged.
        waits.append(max(left_s, 0.0))
    return min(waits, default=None)


def _wanted(job: JobView, pods: Sequence[PodView], active: int) -> int:
    succeeded = succeeded_count(job, pods)
    if job.completions is None:
        # Once one pod has succeeded the others may end by themselves.
        return active if succeeded else job.parallelism
    left = job.completions - succeeded - len(failed_indexes(job, pods))
    return max(min(left, job.parallelism), 0)


def _surplus(job: JobView, active: Sequence[PodView], wanted: int) -> list[PodView]:
    """Pods of a wrong or doubled index, then those that have got least far."""
    remove: list[PodView] = []
    keep: list[PodView] = []
    seen: set[int | None] = set()
    for pod in sorted(active, key=_progress, reverse=True):
        if job.indexed and (pod.index in seen or not has_valid_index(job, pod)):
            remove.append(pod)
        else:
            keep.append(pod)
            seen.add(pod.index)
    too_many = len(active) - wanted - len(remove)
    return remove + (keep[-too_many:] if too_many > 0 else [])


def _progress(pod: PodView) -> tuple[bool, bool, bool, list[int], str]:
    """Orders pods by how far they are; of two alike the older one is further."""
    age = [-ord(letter) for letter in pod.created_at]
    return pod.scheduled, pod.phase == "Running", pod.ready, age, pod.key.name


def _backoff_left_s(pods: Sequence[PodView], age: Age, backoff_s: float, least_s: float) -> float:
    """The delay doubles with each pod that failed since the last success; deleted pods don't count.

    It is read off the pods, which stay until their Job goes, and so survives a restart.
    """
    ends = [(pod.finished_at, pod.phase) for pod in pods if pod.terminal and pod.finished_at]
    # Each age is asked for once, since it grows meanwhile: ends in the same second have the same. The times
    # themselves tell no order where the wall clock was set between them.
    ages = {at: age(at) for at, _ in ends}
    last_success_s = min((ages[at] for at, phase in ends if phase == "Succeeded"), default=math.inf)
    failures = [ages[at] for at, phase in ends if phase == "Failed" and ages[at] < last_success_s]
    if not failures:
        return 0.0
    return max(_delay_s(len(failures), backoff_s), least_s) - min(failures)


def _delay_s(failures: int, backoff_s: float) -> float:
    """The back-off after so many failures, which is one at least."""
    return min(backoff_s * 2.0 ** min(failures - 1, 30), _MAX_BACKOFF_S)


def _age_s(pod: PodView, age: Age) -> float:
    """Seconds since it ended; one that is only being deleted ends now."""
    return age(pod.finished_at) if pod.finished_at else 0.0
