"""What the end of one pod means to its Job (pure)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gpuyard.controllers.job.view import JobView
from gpuyard.controllers.owned_pods.view import PodView
from gpuyard.workloads.pod_failure_policy import counts


def has_valid_index(job: JobView, pod: PodView) -> bool:
    """Whether the pod stands for a completion that the Job wants; always so unless it is Indexed."""
    return not job.indexed or (pod.index is not None and pod.index < (job.completions or 0))


def is_failed(job: JobView, pod: PodView) -> bool:
    """Whether the pod counts as a failure: it failed, or someone deletes it before it ended."""
    if pod.phase == "Failed":
        return True
    return pod.terminating and not job.replaces_only_failed


def raw(pod: PodView) -> Mapping[str, Any]:
    """What a podFailurePolicy looks at."""
    metadata = {"namespace": pod.key.namespace, "name": pod.key.name}
    return {"metadata": metadata, "status": pod.status}


def counts_failure(job: JobView, pod: PodView) -> bool:
    """Whether a failure of this pod is one of its Job's, by the Job's podFailurePolicy."""
    return counts(job.failure_policy, raw(pod))


def uncounted(job: JobView, pods: Sequence[PodView]) -> list[PodView]:
    """Pods whose outcome the status doesn't hold yet. The first outcome that is written stands."""
    known = {*job.uncounted_succeeded, *job.uncounted_failed}
    return [pod for pod in pods if pod.tracked and pod.uid not in known and has_valid_index(job, pod)]
