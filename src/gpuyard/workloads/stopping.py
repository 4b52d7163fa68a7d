"""How a run is stopped so that its logs and exit code stay, on a yard and on a cluster alike."""

from __future__ import annotations

import signal as signals
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from gpuyard.advice import advice
from gpuyard.kube.conditions import condition_is_true
from gpuyard.kube.objects import annotations_of
from gpuyard.kube.pods import is_terminal
from gpuyard.kube.timestamps import format_time
from gpuyard.kube.wellknown import (
    ANNOTATION_SHELL_EXIT,
    ANNOTATION_STOP_GRACE,
    ANNOTATION_STOP_SIGNAL,
    ANNOTATION_STOPPED_AT,
    ANNOTATION_STOPPED_BY,
)
from gpuyard.workloads.outcome import (
    PASSED_DEADLINE_S,
    SUSPENDING,
    Reason,
    container_state,
    exit_code,
    is_stopped,
    why_failed,
)
from gpuyard.workloads.pod_failure_policy import counts

_KILLED = 128 + signals.SIGKILL
_TOLD_TO_END = (Reason.DEADLINE_EXCEEDED, Reason.PREEMPTED, Reason.DRAINED)


class StopPatches(NamedTuple):
    """Merge patches, to be sent in this order; both empty when the Job has ended already."""

    job: dict[str, Any]
    #: By the pod's name.
    pods: dict[str, dict[str, Any]]


@dataclass(frozen=True)
class StopOptions:
    """How processes are to end; only a yard's kubelet knows of it.

    Attributes:
        grace_s: how long they have; None for the pod's own grace period.
        signal: the name of the signal that tells them to; empty for SIGTERM.
    """

    grace_s: int | None = None
    signal: str = ""

    @classmethod
    def of(cls, pod: Mapping[str, Any]) -> StopOptions:
        """Those that a pod was marked with; what can't be read counts as none."""
        annotations = annotations_of(pod)
        grace, name = annotations.get(ANNOTATION_STOP_GRACE, ""), annotations.get(ANNOTATION_STOP_SIGNAL, "")
        # Nine digits are 30 years.
        known = grace.isascii() and grace.isdecimal() and len(grace) < 10
        return cls(int(grace) if known else None, name if name in signals.Signals.__members__ else "")

    @classmethod
    def grace_of(cls, pod: Mapping[str, Any]) -> int:
        """How many seconds a pod has from the signal to SIGKILL."""
        grace_s = cls.of(pod).grace_s
        return int(pod["spec"].get("terminationGracePeriodSeconds", 30)) if grace_s is None else grace_s

    def patch(self) -> dict[str, Any]:
        """What marks a pod with them."""
        marks = {}
        if self.grace_s is not None:
            marks[ANNOTATION_STOP_GRACE] = str(self.grace_s)
        if self.signal:
            marks[ANNOTATION_STOP_SIGNAL] = self.signal
        return {"metadata": {"annotations": marks}} if marks else {}


_USUAL = StopOptions()


def stop_patches(
    job: Mapping[str, Any],
    pods: Iterable[Mapping[str, Any]],
    now: datetime,
    options: StopOptions = _USUAL,
    shell_exit: int | None = None,
) -> StopPatches:
    """What to patch to end this run.

    Deleting pods would lose their logs. So the Job gets no further attempts, and each started pod a
    deadline that has passed: its kubelet ends it with grace, and it stays, Failed, with its exit code.
    The failures before are still allowed, since a Job that has failed deletes what runs. While nothing has
    started, or what has is being deleted, there is nothing to keep, and the Job is suspended, since its
    controller makes a pod again that was disrupted; see `is_stopped` for who resumes it.

    Args:
        job: the run's Job.
        pods: its pods.
        now: kept on the Job as the time of the stop; a second stop keeps the first one's, if that holds.
        options: how the pods' processes are to end.
        shell_exit: the code of the shell that the run was there for, which its user left; None of other runs.
    """
    if any(condition_is_true(job, type_) for type_ in ("Complete", "Failed")):
        return StopPatches({}, {})
    pods = list(pods)
    started = [pod["metadata"]["name"] for pod in pods if _is_started(pod)]
    before = annotations_of(job).get(ANNOTATION_STOPPED_AT) if is_stopped(job) else None
    policy = job["spec"].get("podFailurePolicy")
    failed = sum(pod.get("status", {}).get("phase") == "Failed" and counts(policy, pod) for pod in pods)
    allowed = max(failed, int(job.get("status", {}).get("failed") or 0))
    ending: dict[str, Any] = {"backoffLimit": allowed} if started else {"suspend": True}
    marks = {
        ANNOTATION_STOPPED_AT: before or format_time(now),
        ANNOTATION_STOPPED_BY: None if started else SUSPENDING,
    }
    if shell_exit is not None:
        marks[ANNOTATION_SHELL_EXIT] = str(shell_exit)
    return StopPatches(
        {"metadata": {"annotations": marks}, "spec": ending},
        {name: {**options.patch(), "spec": {"activeDeadlineSeconds": PASSED_DEADLINE_S}} for name in started},
    )


def unsaved_text(pods: Iterable[Mapping[str, Any]]) -> str:
    """That processes had to be killed which had been told to end; empty where none had to."""
    killed = [pod for pod in pods if _had_to_be_killed(pod)]
    if not killed:
        return ""
    grace_s = max(map(StopOptions.grace_of, killed))
    how = f"it was killed (SIGKILL) {grace_s} s after it had been told to end"
    lost = "hadn't said that it saved (GPUYARD_SAVED): what it hadn't written is lost"
    return f"{how}, and {lost}; {advice('give it more time with --grace')}"


def _had_to_be_killed(pod: Mapping[str, Any]) -> bool:
    """One that says that it saved ends with another code when what is left of it is killed."""
    ended = container_state(pod, "terminated") or {}
    for_memory = ended.get("reason") == Reason.OOM_KILLED
    return exit_code(pod) == _KILLED and not for_memory and why_failed(pod)[0] in _TOLD_TO_END


def _is_started(pod: Mapping[str, Any]) -> bool:
    """Whether a kubelet has taken the pod on, so that its deadline counts, and it stays when it ends."""
    if pod["metadata"].get("deletionTimestamp"):
        return False
    return bool(pod.get("status", {}).get("startTime")) and not is_terminal(pod)
