"""What a pod tells of its run, read from its status: how far it is, and how it ended: exit code, signal, its
user's stop, or its node's fate."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from gpuyard.kube.conditions import find_condition, without_preemption
from gpuyard.kube.objects import annotations_of
from gpuyard.kube.pods import PULL_REASONS, container_statuses
from gpuyard.kube.wellknown import (
    ANNOTATION_COMPLETION_INDEX,
    ANNOTATION_GANG_SIZE,
    ANNOTATION_SHELL_EXIT,
    ANNOTATION_STOPPED_AT,
    ANNOTATION_STOPPED_BY,
    ENV_IDLE,
    ENV_TERMINAL,
)
from gpuyard.workloads.memory_kills import oom_cause, oom_reason
from gpuyard.workloads.pod_failure_policy import EXIT_MISSING, EXIT_UNUSED, EXIT_WITH_ANOTHER


class Reason(StrEnum):
    """Why a run is in its state."""

    # pending
    SUSPENDED = "Suspended"
    WAITING_FOR_POD = "WaitingForPod"
    WAITING_FOR_SCHEDULER = "WaitingForScheduler"
    UNSCHEDULABLE = "Unschedulable"
    SCHEDULING_GATED = "SchedulingGated"
    BACK_OFF = "BackOff"
    # starting
    STARTING = "Starting"
    IMAGE_PULL = "ImagePull"
    # running
    RUNNING = "Running"
    STOPPING = "Stopping"
    # succeeded
    COMPLETED = "Completed"
    # failed
    EXIT_CODE = "ExitCode"
    SIGNAL = "Signal"
    OOM_KILLED = "OOMKilled"
    START_ERROR = "StartError"
    DEADLINE_EXCEEDED = "DeadlineExceeded"
    EVICTED = "Evicted"
    PREEMPTED = "Preempted"
    DRAINED = "Drained"
    NODE_REBOOTED = "NodeRebooted"
    NODE_LOST = "NodeLost"
    ENDED_WITH_ANOTHER = "EndedWithAnother"
    UNUSED = "Unused"
    RANK_MISSING = "RankMissing"
    JOB_FAILED = "JobFailed"
    # stopped
    STOPPED_BY_USER = "StoppedByUser"


#: A kubelet's reason for a pod that it hasn't room for: `OutOfcpu`, `OutOfnvidia.com/gpu`.
_OUT_OF = "OutOf"
#: Reasons that a pod or its container carries, and what they are called here.
_NAMED = {
    "OOMKilled": (Reason.OOM_KILLED, "the kernel killed it for lack of memory"),
    "DeadlineExceeded": (Reason.DEADLINE_EXCEEDED, "it ran longer than its timeout"),
    "Evicted": (Reason.EVICTED, "its node evicted it"),
    "Preempted": (Reason.PREEMPTED, "a pod of higher priority took its place"),
    "NodeRebooted": (Reason.NODE_REBOOTED, "its node rebooted"),
    "NodeLost": (Reason.NODE_LOST, "its node was lost"),
    "ContainerStatusUnknown": (Reason.NODE_LOST, "what became of its process is unknown"),
    "StartError": (Reason.START_ERROR, "its process could not be started"),
    "ContainerCannotRun": (Reason.START_ERROR, "its process could not be started"),
    "CreateContainerError": (Reason.START_ERROR, "its process could not be started"),
    "UnexpectedAdmissionError": (Reason.START_ERROR, "its node refused it"),
}  # fmt: skip
#: Reasons of the condition DisruptionTarget. Their own messages say less, but for a kubelet's.
_DISRUPTIONS = {
    "PreemptionByScheduler": _NAMED["Preempted"],
    "EvictionByEvictionAPI": (Reason.DRAINED, "it was evicted through the API, as `kubectl drain` does"),
    "TerminationByKubelet": _NAMED["Evicted"],
    "DeletionByTaintManager": (Reason.EVICTED, "its node got a taint (NoExecute) that it doesn't tolerate"),
    "DeletionByDeviceTaintManager": (Reason.EVICTED, "its device got a taint that it doesn't tolerate"),
    "DeletionByPodGC": _NAMED["NodeLost"],
}
_SILENT = (Reason.NODE_LOST, "its node doesn't answer, and has to confirm that its process is over")


#: How a Job was stopped of which nothing had started, see ANNOTATION_STOPPED_BY.
SUSPENDING = "suspending"
#: The deadline that a stop gives a pod that has started; no shorter one is valid.
PASSED_DEADLINE_S = 1
#: Of runc and crun, and what containerd puts before it.
_AT_THE_START = "unable to start container process: "


def is_stopped(job: Mapping[str, Any]) -> bool:
    """Whether the Job's user asked for its end, and nobody resumed it since."""
    annotations = annotations_of(job)
    if ANNOTATION_STOPPED_AT not in annotations:
        return False
    return annotations.get(ANNOTATION_STOPPED_BY) != SUSPENDING or bool(job["spec"].get("suspend"))


def shell_exit_code(job: Mapping[str, Any]) -> int | None:
    """With which its user left the shell that the run was there for; None of any other end."""
    said = annotations_of(job).get(ANNOTATION_SHELL_EXIT, "")
    return int(said) if is_stopped(job) and re.fullmatch("[0-9]{1,3}", said) else None


def why_failed(pod: Mapping[str, Any] | None) -> tuple[Reason, str]:
    """Why this pod failed: the reason and a sentence; None is a pod that no longer exists."""
    if pod is None:
        return Reason.JOB_FAILED, "its pod is gone"
    status = pod.get("status", {})
    ended = container_state(pod, "terminated") or {}
    for source in (status, ended):
        if known := _NAMED.get(str(source.get("reason", ""))):
            # What the runtime was doing step by step comes before what went wrong.
            message = str(source.get("message") or "").rpartition(_AT_THE_START)[2]
            if known[0] is Reason.DEADLINE_EXCEEDED:
                message = ""  # the kubelet says no more than that there was a deadline
            return known[0], message or _in_words(pod, *known)
    if disruption := disruption_of(pod):
        return disruption
    if str(status.get("reason", "")).startswith(_OUT_OF):
        return Reason.START_ERROR, str(status.get("message") or "its node refused it")
    code = exit_code(pod)
    if ended_with_another(pod):
        return Reason.ENDED_WITH_ANOTHER, "another pod of the run failed or was lost"
    if waited_in_vain(pod):
        return Reason.RANK_MISSING, "another pod of the run wasn't there in time"
    if code == EXIT_UNUSED and _ends_unused(pod):
        return Reason.UNUSED, "nobody used it any more: its GPUs were idle, or its terminal was gone"
    if code is None and (failed := _failed_init(pod)):
        return Reason.EXIT_CODE, f"init container {failed[0]} exited with {failed[1]}"
    if code is None:
        return Reason.JOB_FAILED, str(status.get("message") or status.get("reason") or "its pod failed")
    if signal_name := _signal_name(code):
        return Reason.SIGNAL, f"ended by {signal_name}"
    return Reason.EXIT_CODE, f"exited with {code}"


def ended_by_stop(job: Mapping[str, Any], pod: Mapping[str, Any]) -> bool:
    """Whether the deadline that a pod of this Job ran into is that of a stop, and not its timeout."""
    if not is_stopped(job) or why_failed(pod)[0] is not Reason.DEADLINE_EXCEEDED:
        return False
    return bool(pod["spec"].get("activeDeadlineSeconds") == PASSED_DEADLINE_S)


def disruption_of(pod: Mapping[str, Any]) -> tuple[Reason, str] | None:
    """Who ends, or ended, the pod for the sake of others, and why; None for a pod that is left alone.

    Source: https://kubernetes.io/docs/concepts/workloads/pods/disruptions/#pod-disruption-conditions.
    """
    condition = find_condition(pod, "DisruptionTarget") or {}
    if condition.get("status") != "True":
        return None
    said = str(condition.get("reason") or "")
    if said == "DeletionByTaintManager" and _is_silent(pod):
        return _SILENT
    reason, text = _DISRUPTIONS.get(said, (Reason.EVICTED, str(condition.get("message") or said)))
    if said == "TerminationByKubelet":
        text = str(condition.get("message") or text)
    return reason, text


def _is_silent(pod: Mapping[str, Any]) -> bool:
    """Whether its container runs, as far as its kubelet told, while the cluster says that it isn't ready."""
    ready = find_condition(pod, "Ready") or {}
    return ready.get("status") == "False" and container_state(pod, "running") is not None


def is_refused(pod: Mapping[str, Any]) -> bool:
    """Whether a kubelet never took the pod on: it failed, and nothing of it has run."""
    status = pod.get("status", {})
    return status.get("phase") == "Failed" and find_condition(pod, "Initialized") is None


def ended_with_another(pod: Mapping[str, Any]) -> bool:
    """Whether the pod's launcher ended it, since another of its run failed or was lost."""
    return ANNOTATION_GANG_SIZE in annotations_of(pod) and exit_code(pod) == EXIT_WITH_ANOTHER


def _ends_unused(pod: Mapping[str, Any]) -> bool:
    """Whether the pod's launcher ends it when nobody uses it."""
    containers = pod["spec"].get("containers") or ()
    names = {variable["name"] for one in containers for variable in one.get("env") or ()}
    return not names.isdisjoint((ENV_IDLE, ENV_TERMINAL))


def waited_in_vain(pod: Mapping[str, Any]) -> bool:
    """Whether the pod's launcher ended it, since another of its run was never there."""
    return ANNOTATION_GANG_SIZE in annotations_of(pod) and exit_code(pod) == EXIT_MISSING


def missing_text(job: Mapping[str, Any], last: Iterable[Mapping[str, Any]]) -> str:
    """Which ranks weren't there: their pods are gone, and those that waited for them aren't."""
    there = {annotations_of(pod).get(ANNOTATION_COMPLETION_INDEX) for pod in last if _has_waited(pod)}
    missing = [str(rank) for rank in range(int(job["spec"]["completions"])) if str(rank) not in there]
    # Without the first one the others don't know one another.
    ranks = missing[:1] if missing[:1] == ["0"] else missing
    are = "ranks {} weren't" if len(ranks) > 1 else "rank {} wasn't"
    return are.format(", ".join(ranks)) + " there in time, and the others gave their place back"


def _has_waited(pod: Mapping[str, Any]) -> bool:
    return waited_in_vain(pod) or ended_with_another(pod)


def _failed_init(pod: Mapping[str, Any]) -> tuple[str, int] | None:
    """The init container that ended badly, so that no other container began, and its exit code."""
    for container in pod.get("status", {}).get("initContainerStatuses") or ():
        ended = (container.get("state") or {}).get("terminated")
        if ended and ended.get("exitCode"):
            return str(container["name"]), int(ended["exitCode"])
    return None


def _in_words(pod: Mapping[str, Any], reason: Reason, text: str) -> str:
    """The text with the pod's own limit of what it had too much of, where it has one."""
    deadline_s = pod.get("spec", {}).get("activeDeadlineSeconds")
    if reason is Reason.DEADLINE_EXCEEDED and deadline_s is not None:
        return f"{text} of {deadline_s} s"
    return f"{text}: {oom_reason(pod, oom_cause(pod))}" if reason is Reason.OOM_KILLED else text


def _signal_name(code: int) -> str | None:
    try:
        return signal.Signals(code - 128).name
    except ValueError:
        return None


def exit_code(pod: Mapping[str, Any]) -> int | None:
    """The code that the pod's process ended with, 128+n for signal n; None when it hasn't or nobody knows."""
    ended = container_state(pod, "terminated") or {}
    if ended.get("signal"):
        return 128 + int(ended["signal"])
    code = ended.get("exitCode")
    # The kubelet's word for "nobody knows" is 137 with this reason.
    return None if code is None or ended.get("reason") == "ContainerStatusUnknown" else int(code)


def container_state(pod: Mapping[str, Any], kind: str) -> Mapping[str, Any] | None:
    """`waiting`, `running` or `terminated` of the first container that is in that state."""
    for container in container_statuses(pod):
        state = (container.get("state") or {}).get(kind)
        if state is not None:
            found: Mapping[str, Any] = state
            return found
    return None


class State(StrEnum):
    """Where a run is in its life; the last three are final."""

    PENDING = "pending"
    STARTING = "starting"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    STOPPED = "stopped"


@dataclass(frozen=True)
class PodVerdict:
    """Where a run is as far as one pod tells.

    Attributes:
        message: one sentence with the details, or empty.
        failed: the pod that the run failed with, if it did.
    """

    state: State
    reason: Reason
    message: str = ""
    failed: Mapping[str, Any] | None = None


def stopped_verdict(job: Mapping[str, Any]) -> PodVerdict:
    """Of a run whose user asked for its end; one that was there for a shell ends as that did."""
    code = shell_exit_code(job)
    if code is None:
        return PodVerdict(State.STOPPED, Reason.STOPPED_BY_USER)
    if code == 0:
        return PodVerdict(State.SUCCEEDED, Reason.COMPLETED)
    return PodVerdict(State.FAILED, Reason.EXIT_CODE, f"its shell exited with {code}")


def pod_verdict(pod: Mapping[str, Any]) -> PodVerdict:
    """Of a pod that hasn't ended: what it waits for, or that it runs."""
    scheduled = find_condition(pod, "PodScheduled") or {}
    if not pod["spec"].get("nodeName"):
        message = without_preemption(str(scheduled.get("message", "")))
        if scheduled.get("reason") in (Reason.UNSCHEDULABLE, Reason.SCHEDULING_GATED):
            return PodVerdict(State.PENDING, Reason(scheduled["reason"]), message)
        return PodVerdict(State.PENDING, Reason.WAITING_FOR_SCHEDULER, message)
    waiting = _waiting(pod)
    if waiting is not None:
        reason, message = str(waiting.get("reason", "")), str(waiting.get("message", ""))
        if reason in PULL_REASONS:
            return PodVerdict(State.STARTING, Reason.IMAGE_PULL, message or reason)
        if reason == "CrashLoopBackOff":
            return PodVerdict(State.PENDING, Reason.BACK_OFF, message)
        if reason.endswith("Error"):
            return PodVerdict(State.STARTING, Reason.START_ERROR, message or reason)
        return PodVerdict(State.STARTING, Reason.STARTING, message)
    # A kubelet tells of a short container that it has ended while the pod is still Pending.
    if pod.get("status", {}).get("phase") == "Running" or container_state(pod, "terminated") is not None:
        return PodVerdict(State.RUNNING, Reason.RUNNING)
    return PodVerdict(State.STARTING, Reason.STARTING)


def _waiting(pod: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The `waiting` of the container that holds the others up: of an init container, if one of them does."""
    for status in container_statuses(pod, init=True):
        waiting: Mapping[str, Any] | None = (status.get("state") or {}).get("waiting")
        if waiting is not None and waiting.get("reason") != "PodInitializing":
            return waiting
    return container_state(pod, "waiting")
