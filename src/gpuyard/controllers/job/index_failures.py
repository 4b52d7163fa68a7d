"""Indexes of a Job that fail each for itself, by spec.backoffLimitPerIndex (pure).

How often an index has failed stands on its last pod: an annotation has the failures before it. So a failed
pod keeps its tracking finalizer until there is another of its index, or the index has failed for good.

Source: kubernetes `pkg/controller/job/indexed_job_utils.go` and `backoff_utils.go` (v1.34).
"""

from __future__ import annotations

from collections.abc import Sequence

from gpuyard.controllers.job.pod_outcome import counts_failure, has_valid_index, is_failed, raw, uncounted
from gpuyard.controllers.job.view import JobView
from gpuyard.controllers.owned_pods.view import IndexFailures, PodView
from gpuyard.workloads.pod_failure_policy import PodFailureAction, matched_rule
from gpuyard.workloads.sweeps.completion_indexes import parse_indexes


def failed_indexes(job: JobView, pods: Sequence[PodView]) -> frozenset[int]:
    """Indexes that are tried no more, recorded or seen now; none without a limit for each."""
    if job.limit_per_index is None:
        return frozenset()
    recorded = parse_indexes(job.failed_indexes, job.completions or 0)
    new = {pod.index for pod in pods if pod.tracked and has_valid_index(job, pod) and _ends_index(job, pod)}
    return recorded | {index for index in new if index is not None}


def held_failures(job: JobView, pods: Sequence[PodView]) -> dict[int, PodView]:
    """By index the failed pod that alone knows how often its index has failed."""
    if job.limit_per_index is None:
        return {}
    done = failed_indexes(job, pods) | {pod.index for pod in pods if pod.active}
    done |= parse_indexes(job.completed_indexes, job.completions or 0)
    held: dict[int, PodView] = {}
    for pod in uncounted(job, pods):
        if pod.index is None:
            continue
        if pod.phase == "Succeeded":
            done |= {pod.index}
        elif is_failed(job, pod):
            known = held.get(pod.index)
            if known is None or pod.index_failures.total > known.index_failures.total:
                held[pod.index] = pod
    return {index: pod for index, pod in held.items() if index not in done}


def failures_after(job: JobView, pod: PodView) -> IndexFailures:
    """What the pod that takes this failed one's place has to know."""
    counted, ignored = pod.index_failures
    if counts_failure(job, pod):
        return IndexFailures(counted + 1, ignored)
    return IndexFailures(counted, ignored + 1)


def _ends_index(job: JobView, pod: PodView) -> bool:
    if not is_failed(job, pod):
        return False
    rule = matched_rule(job.failure_policy, raw(pod))
    if rule is not None and rule.action is PodFailureAction.FAIL_INDEX:
        return True
    return counts_failure(job, pod) and pod.index_failures.counted >= (job.limit_per_index or 0)
